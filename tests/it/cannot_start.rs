//! Commands that cannot be executed: each is refused with its exact cause, and 126 or 127.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::ddock::Ddock;
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::scratch::{chmod, command_succeeds};
use crate::harness::tree::Tree;

/// The header of an ELF program for arm64, little-endian and 64 bits wide.
fn foreign_program() -> [u8; 64] {
    let mut header = [0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20]) = (2, 183, 1);
    header
}

/// `security.capability` of a file with `cap_net_admin+ep` (linux/capability.h, revision 2).
const NET_ADMIN: [u8; 20] = [
    1, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Programs that cannot be run, each for another reason.
fn broken_programs() -> Tree {
    let busybox = fs_err::read("/bin/busybox").unwrap();
    let mut tree = busybox_tree().owner(0, 0);
    for depth in 1..8 {
        let script = format!("#!/s{}\n", depth + 1);
        tree = tree.file(&format!("s{depth}"), 0o755, script);
    }
    tree.file("plain", 0o644, "#!/bin/sh\n")
        .file("words", 0o755, "no program at all")
        .file("nothing", 0o755, "")
        .file("orphan", 0o755, "#!/no/such/interpreter\n")
        .file("outer", 0o755, "#! /orphan -x\n")
        .file("unnamed", 0o755, "#! \n")
        .file("dos", 0o755, "#!/bin/sh\r\necho hi\r\n")
        .file("marked", 0o755, "\u{feff}#!/bin/sh\n")
        .file("wide", 0o755, b"\xff\xfe#\0!\0")
        .file("windows", 0o755, "MZ\u{90}")
        .file("foreign", 0o755, foreign_program())
        .file("emulated", 0o755, "#!/foreign\n")
        .file("cut", 0o755, &busybox[..100])
        .file("dynamic", 0o755, fs_err::read("/bin/true").unwrap())
        .file("closed", 0o700, "#!/bin/sh\n")
        .dir("private/", 0o700)
        .file("private/x", 0o755, "#!/bin/sh\n")
        .fifo("pipe")
        .symlink("ring", "ring")
        .symlink("nowhere", "/no/such/file")
        .pax("SCHILY.xattr.security.capability", NET_ADMIN)
        .file("mighty", 0o755, &busybox)
}

/// What is run, the exit code, and what is said.
const CAUSES: &[(&str, i32, &str)] = &[
    ("absent", 127, "executable file not found in $PATH"),
    ("/no/such/file", 127, "stat /no/such/file: no such file"),
    ("/nowhere", 127, "stat /nowhere: no such file"),
    (
        "/orphan",
        127,
        "interpreter `/no/such/interpreter` is missing",
    ),
    (
        "/outer",
        127,
        "interpreter `/no/such/interpreter` is missing",
    ),
    (
        "/dos",
        127,
        "interpreter `/bin/sh\\r` is missing: the script has Windows line ends (CRLF)",
    ),
    ("/dynamic", 127, "its loader `/lib"),
    (
        "/plain",
        126,
        "nobody may execute it (mode 0644; `chmod +x`",
    ),
    ("/etc", 126, "is a directory"),
    ("/etc/passwd/x", 126, "not a directory"),
    ("/pipe", 126, "it is a pipe or socket"),
    ("/dev/null", 126, "it is a device"),
    ("/words", 126, "it is no program, and has no `#!` line"),
    ("/nothing", 126, "it is empty"),
    ("/unnamed", 126, "its `#!` line names no interpreter"),
    (
        "/marked",
        126,
        "byte order mark (BOM), before its `#!` line",
    ),
    ("/wide", 126, "UTF-16"),
    ("/windows", 126, "it is a Windows program"),
    ("/foreign", 126, "file is linux/arm64, host is linux/"),
    (
        "/emulated",
        126,
        "its interpreter `/foreign`: file is linux/arm64",
    ),
    ("/cut", 126, "an ELF file that was cut off after 100 bytes"),
    ("/ring", 126, "too many levels of symbolic links"),
    ("/s1", 126, "scripts are each other's interpreters"),
    (
        "/mighty",
        126,
        "capabilities that the container may not have: NET_ADMIN (`--cap-add`",
    ),
];

#[test]
fn every_cause_is_named() {
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(broken_programs()));
    for (command, code, reason) in CAUSES {
        let output = ddock.run(&["run", "--rm", &image, command]);
        let output = output.exits(*code).says(reason).says("ddock: ");
        assert_eq!(output.stdout, "", "{command}");
    }
    for (command, reason) in [
        (
            "/closed",
            "user 1000 may not execute it (mode 0700, owner 0:0)",
        ),
        ("/private/x", "user 1000 may not enter `/private`"),
    ] {
        let output = ddock.run(&["run", "--rm", "-u", "1000", &image, command]);
        output.exits(126).says(reason).says("permission denied: ");
    }
    assert_eq!(ddock.containers(), [""; 0]);
}

#[test]
fn a_missing_library_is_named_by_the_loader() {
    let program = "/bin/true";
    let headers = command_succeeds(Command::new("readelf").args(["-l", program]));
    let (_, loader) = headers
        .split_once("interpreter: ")
        .expect("a dynamic program");
    let loader = &loader[..loader.find(']').unwrap()];
    let tree = busybox_tree()
        .file(&loader[1..], 0o755, fs_err::read(loader).unwrap())
        .file("dynamic", 0o755, fs_err::read(program).unwrap());
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    let output = ddock.run(&["run", "--rm", &image, "/dynamic"]);
    output.exits(127).says("libc.so.6");
}

#[test]
fn what_the_host_forbids_is_named() {
    let (ddock, image) = Ddock::with_busybox();
    let script = |dir: &Path| {
        fs_err::write(dir.join("x"), "#!/bin/sh\n").unwrap();
        chmod(&dir.join("x"), 0o755);
        format!("{}:/data", dir.display())
    };
    let mounted = ddock.scratch().tmpfs("mounted", "1m");
    let bind = script(&mounted);
    let remount = ["-o", "remount,noexec"];
    command_succeeds(Command::new("mount").args(remount).arg(&mounted));
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "/data/x"]);
    output
        .exits(126)
        .says("permission denied: it is on a mount with the option `noexec`");

    let busy = ddock.scratch().dir("busy");
    let bind = script(&busy);
    let writer = fs_err::OpenOptions::new()
        .write(true)
        .open(busy.join("x"))
        .unwrap();
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "/data/x"]);
    output.exits(126).says("somebody has it open for writing");
    drop(writer);
    ddock
        .run(&["run", "--rm", "-v", &bind, &image, "/data/x"])
        .exits(0);
}

#[test]
fn too_long_an_environment_is_told_from_too_much_of_it() {
    let long = format!("BIG={}", "x".repeat(200_000));
    let (ddock, image) = Ddock::with(busybox().config("Env", json!([long])));
    let output = ddock.run(&["run", "--rm", &image, "/bin/true"]);
    output
        .exits(126)
        .says("argument list too long: the environment variable `BIG` has 200004 bytes");

    let many: Vec<String> = (0..70)
        .map(|at| format!("V{at}={}", "x".repeat(100_000)))
        .collect();
    let (ddock, image) = Ddock::with(busybox().config("Env", json!(many)));
    let output = ddock.run(&["run", "--rm", &image, "/bin/true"]);
    output
        .exits(126)
        .says("argument list too long: the arguments have 10 bytes and the environment 700");
}
