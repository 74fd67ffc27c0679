//! The default filter of system calls, held against Docker's published profile as runc and libseccomp load it.

use crate::harness::ddock::Ddock;
use crate::harness::image::ImageBuilder;
use crate::harness::scratch::{Scratch, command_succeeds};
use crate::harness::tree::Tree;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// moby/profiles, `seccomp/default.json`: published data of its authors (Apache-2.0).
const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/seccomp/moby.json");
const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/seccomp/probe.c");

/// What the probe answers for a call that is let through.
const ALLOWED: i32 = 99;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// A question to the probe: x86-64 (`l`), x32 (`x`) or x86 (`i`), the call's number, its first two arguments.
type Question = (char, u32, u64, u64);

fn compile_probe(scratch: &Scratch) -> PathBuf {
    let program = scratch.join("probe");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-o"]).arg(&program).arg(PROBE);
    command_succeeds(&mut cc);
    program
}

fn parse(output: &str) -> BTreeMap<Question, i32> {
    let answers = output.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [abi, number, first, second, "=", answer] = words[..] else {
            panic!("the probe said `{line}`");
        };
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        let question = (
            abi.chars().next().unwrap(),
            number.parse().unwrap(),
            hex(first),
            hex(second),
        );
        (question, answer.parse().unwrap())
    });
    let answers: BTreeMap<_, _> = answers.collect();
    assert!(answers.len() > 3000, "{} answers", answers.len());
    answers
}

/// Asks in a container of ddock's.
fn under_ddock(ddock: &Ddock, image: &str, flags: &[&str]) -> BTreeMap<Question, i32> {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend([image, "/probe"]);
    parse(&ddock.ok(&args))
}

/// Asks in a container of podman's and runc's, with the published profile.
fn under_runc(scratch: &Scratch, probe: &Path, flags: &[&str]) -> BTreeMap<Question, i32> {
    let rootfs = scratch.dir("rootfs");
    for name in ["proc", "sys", "dev", "etc"] {
        fs_err::create_dir_all(rootfs.join(name)).unwrap();
    }
    fs_err::copy(probe, rootfs.join("probe")).unwrap();
    let mut podman = Command::new("podman");
    podman.arg("--root").arg(scratch.join("podman"));
    podman.arg("--runroot").arg(scratch.join("podman-run"));
    podman.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
    podman.args(["run", "--rm", "--network", "none"]);
    // Its defaults are more than this machine may give.
    podman.args([
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
    ]);
    podman.args(["--security-opt", &format!("seccomp={PUBLISHED}")]);
    podman
        .args(flags)
        .arg("--rootfs")
        .arg(&rootfs)
        .arg("/probe");
    parse(&command_succeeds(&mut podman))
}

fn ddock_with_probe(scratch: &Scratch) -> (Ddock, String, PathBuf) {
    let probe = compile_probe(scratch);
    let tree = Tree::new().dir("./", 0o755);
    let tree = tree.file("probe", 0o755, fs_err::read(&probe).unwrap());
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    (ddock, image, probe)
}

/// Tells whether the call has no name in this machine's libseccomp: cachestat … removexattrat. Where x32 has older calls
/// above, what it has no name for gets EPERM there.
fn is_newer((abi, number, ..): Question, ours: i32, theirs: i32) -> bool {
    let unnamed = if abi == 'x' { EPERM } else { ENOSYS };
    (451..=466).contains(&number) && theirs == unnamed && matches!(ours, ALLOWED | EPERM)
}

/// Tells whether this is what ours refuses and Docker's does not: socketcall, see src/spec/seccomp/builtin.rs.
fn is_stricter((abi, number, ..): Question, ours: i32, theirs: i32) -> bool {
    (abi, number, ours, theirs) == ('i', 102, ENOSYS, ALLOWED)
}

fn assert_same(
    what: &str,
    ours: &BTreeMap<Question, i32>,
    theirs: &BTreeMap<Question, i32>,
    is_meant: impl Fn(Question, i32, i32) -> bool,
) {
    assert_eq!(ours.len(), theirs.len());
    let answers = ours.iter().zip(theirs.values());
    let unexplained: Vec<String> = answers
        .filter(|((question, ours), theirs)| {
            ours != theirs && !is_meant(**question, **ours, **theirs)
        })
        .map(|(((abi, number, first, second), ours), theirs)| {
            format!("{abi} {number} {first:#x} {second:#x}: {ours}, under runc {theirs}\n")
        })
        .collect();
    assert!(
        unexplained.is_empty(),
        "{what}: {} answers differ:\n{}",
        unexplained.len(),
        unexplained[..unexplained.len().min(100)].concat()
    );
}

#[test]
fn every_call_gets_what_it_gets_under_runc_with_dockers_profile() {
    let scratch = Scratch::new();
    let (ddock, image, probe) = ddock_with_probe(&scratch);
    let added = |names: &[&'static str]| -> Vec<&str> {
        names.iter().flat_map(|name| ["--cap-add", name]).collect()
    };
    for flags in [
        added(&[]),
        added(&["SYS_ADMIN"]),
        added(&["SYS_PTRACE", "SYS_NICE", "SYS_TIME", "SYSLOG"]),
        added(&[
            "BPF",
            "PERFMON",
            "DAC_READ_SEARCH",
            "SYS_MODULE",
            "SYS_RAWIO",
        ]),
        added(&["SYS_BOOT", "SYS_PACCT", "SYS_TTY_CONFIG"]),
        vec!["--cap-drop", "ALL"],
        vec!["--cap-add", "ALL"],
    ] {
        let ours = under_ddock(&ddock, &image, &flags);
        let theirs = under_runc(&scratch, &probe, &flags);
        assert_eq!(ours.len(), theirs.len());
        assert_same(
            &format!("{flags:?}"),
            &ours,
            &theirs,
            |question, ours, theirs| {
                is_newer(question, ours, theirs) || is_stricter(question, ours, theirs)
            },
        );
    }
}

/// Asks in a container of runc's own making, but with this filter.
fn under_runc_with(scratch: &Scratch, probe: &Path, filter: &Value) -> BTreeMap<Question, i32> {
    let bundle = scratch.dir("bundle");
    let rootfs = scratch.dir("bundle/rootfs");
    fs_err::copy(probe, rootfs.join("probe")).unwrap();
    let config = bundle.join("config.json");
    if !config.exists() {
        command_succeeds(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle));
    }
    let mut spec: Value = serde_json::from_str(&fs_err::read_to_string(&config).unwrap()).unwrap();
    spec["process"]["args"] = json!(["/probe"]);
    spec["process"]["terminal"] = json!(false);
    spec["linux"]["seccomp"] = filter.clone();
    fs_err::write(&config, spec.to_string()).unwrap();
    let id = format!("ddock-seccomp-{}", std::process::id());
    parse(&command_succeeds(
        Command::new("runc")
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(id),
    ))
}

#[test]
fn runc_makes_the_same_of_our_bundles_filter() {
    let scratch = Scratch::new();
    let (ddock, image, probe) = ddock_with_probe(&scratch);
    for flags in [&[][..], &["--cap-add", "SYS_ADMIN"]] {
        let ours = under_ddock(&ddock, &image, flags);
        let words = [&["run", "--dry-run"], flags, &[&image, "/probe"]].concat();
        let spec: Value = serde_json::from_str(&ddock.ok(&words)).unwrap();
        let theirs = under_runc_with(&scratch, &probe, &spec["linux"]["seccomp"]);
        assert_same(&format!("{flags:?}"), &ours, &theirs, is_newer);
        assert_eq!(theirs[&('i', 102, 1, 0)], ENOSYS, "socketcall(SYS_SOCKET)");
    }
}
