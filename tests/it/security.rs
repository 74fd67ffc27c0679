//! What of the caller and of the host a container must not get hold of, and what each flag gives it.

use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::scratch::command_succeeds;
use crate::harness::terminal::Terminal;
use crate::harness::user::User;
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const LAUNCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/security/launch.c");

/// Compiles a program that starts another one as a careless caller does, and alone tells what of that arrived.
fn launcher(ddock: &Ddock) -> PathBuf {
    let program = ddock.scratch().join("launch");
    if !program.exists() {
        let mut cc = Command::new("cc");
        cc.args(["-static", "-O1", "-o"]).arg(&program).arg(LAUNCH);
        command_succeeds(&mut cc);
    }
    program
}

/// Runs `ddock run --rm FLAGS IMAGE WORDS` for a careless caller, who also has secrets in the environment.
fn launched(ddock: &Ddock, flags: &[&str], image: &str, words: &[&str]) -> Output {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.push(image);
    args.extend(words);
    let inner = ddock.command(&args);
    let mut command = Command::new(launcher(ddock));
    command.env_clear().stdin(Stdio::null());
    command.arg(inner.get_program()).args(inner.get_args());
    let variables = inner.get_envs();
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    command.env("SECRET_TOKEN", "of-the-caller");
    output(&mut command)
}

fn with_user(user: Option<User>) -> (Ddock, String) {
    let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
    let image = ddock.pull(busybox());
    (ddock, image)
}

/// The value of a field of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    found
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim_start_matches(':')
        .trim()
}

#[test]
fn nothing_of_the_caller_comes_along() {
    let (ddock, image) = Ddock::with_busybox();
    let status = launched(&ddock, &[], &image, &["cat", "/proc/self/status"]).exits(0);
    for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
        assert_eq!(field(&status.stdout, name), "0000000000000000", "{name}");
    }
    assert_eq!(field(&status.stdout, "Groups"), "0");
    // Its own directory is the fourth.
    let descriptors = launched(&ddock, &[], &image, &["ls", "/proc/self/fd"]).exits(0);
    assert_eq!(descriptors.stdout, "0\n1\n2\n3\n");
    let umask = launched(&ddock, &[], &image, &["sh", "-c", "umask"]).exits(0);
    assert_eq!(umask.stdout, "0022\n");
    let environment = launched(&ddock, &["-h", "box"], &image, &["env"]).exits(0);
    let mut variables: Vec<_> = environment.stdout.lines().collect();
    variables.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(variables, ["HOME=/root", "HOSTNAME=box", path]);
    let user = launched(&ddock, &["-u", "1000:1000"], &image, &["id", "-G"]).exits(0);
    assert_eq!(user.stdout, "1000\n");
}

#[test]
fn the_callers_keys_stay_the_callers() {
    let (ddock, image) = Ddock::with_busybox();
    let volume = format!("{}:/look:ro", launcher(&ddock).display());
    let look = |flags: &[&str]| {
        let flags = [&["-v", &volume], flags].concat();
        launched(&ddock, &flags, &image, &["/look"]).exits(0).stdout
    };
    assert_eq!(look(&[]), "Operation not permitted, user 0\n");
    // The filter is not all there is.
    let unfiltered = look(&["--security-opt", "seccomp=unconfined"]);
    assert_eq!(unfiltered, "Required key not available, user 0\n");
}

#[test]
fn nothing_of_an_ordinary_caller_comes_along() {
    let (ddock, image) = with_user(Some(User::with_ranges()));
    let script = "exec cat /proc/self/status";
    let status = ddock.sh(&[], &image, script);
    for name in ["SigBlk", "SigIgn", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, name), "0000000000000000", "{name}");
    }
    assert_eq!(field(&status, "Groups"), "0");
    assert_eq!(field(&status, "Seccomp"), "2");
    assert_eq!(
        ddock.ok(&["run", "--rm", &image, "ls", "/proc/self/fd"]),
        "0\n1\n2\n3\n"
    );
}

#[test]
fn a_work_directory_by_way_of_a_descriptor_is_not_the_hosts() {
    let (ddock, image) = Ddock::with_busybox();
    for number in 3..12 {
        for directory in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/etc"),
        ] {
            let run = launched(
                &ddock,
                &["-w", &directory],
                &image,
                &["sh", "-c", "pwd; ls -a . .."],
            );
            assert!(
                run.code != 0 || !run.stdout.contains("passwd"),
                "{directory}: {}",
                run.text()
            );
            assert!(
                !run.stdout.contains("unreachable"),
                "{directory}: {}",
                run.text()
            );
        }
    }
}

#[test]
fn the_callers_terminal_cannot_be_typed_into() {
    let (ddock, image) = Ddock::with_busybox();
    // TIOCSTI needs a terminal to type into: none of the streams is one, and there is no controlling one.
    let script = "for n in 0 1 2; do [ ! -t $n ] || echo terminal $n; done; (: < /dev/tty) 2>/dev/null && echo tty; \
        echo $(readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2); echo end";
    let command = ddock.command(&["run", "--rm", "-i", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    let text = terminal.expect("end");
    assert!(
        !text.contains("terminal") && !text.contains("tty") && !text.contains("pts"),
        "{text}"
    );
    assert_eq!(terminal.wait(), 0);
    // With one of its own, it is its own: the only one in a devpts that the caller's is not in.
    let script = "readlink /proc/self/fd/0; ls /dev/pts; echo end";
    let command = ddock.command(&["run", "--rm", "-it", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    let text = terminal.expect("end").replace('\r', "");
    assert!(
        text.contains("/dev/pts/0\n0     ptmx\n") || text.contains("/dev/pts/0\n0\nptmx\n"),
        "{text:?}"
    );
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_container_cannot_make_namespaces_mounts_or_keys() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "mkdir /m; mount -t tmpfs x /m 2>/dev/null && echo mounted; umount /proc/kcore 2>/dev/null && echo unmasked; \
        umount /proc/sys 2>/dev/null && echo writable; echo x 2>/dev/null > /proc/sys/kernel/hostname && echo written; \
        echo b 2>/dev/null > /proc/sysrq-trigger && echo pressed; rmdir /sys/firmware /proc/acpi 2>/dev/null && echo removed; \
        busybox unshare -U true 2>/dev/null && echo userns; busybox unshare -m true 2>/dev/null && echo mountns; echo end";
    for flags in [&[][..], &["-u", "1000"], &["--cap-drop", "ALL"]] {
        let output = ddock.sh(flags, &image, script);
        assert_eq!(
            output.replace(
                "mkdir: can't create directory '/m': Permission denied\n",
                ""
            ),
            "end\n",
            "{flags:?}"
        );
    }
}

#[test]
fn no_release_agent_is_there_to_be_set() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for f in $(find /sys/fs/cgroup -name release_agent -o -name devices.allow -o -name cgroup.procs); do \
        (: >> $f) 2>/dev/null && echo $f; done; echo end";
    assert_eq!(ddock.sh(&[], &image, script), "end\n");
}

#[test]
fn a_privileged_container_has_what_docker_gives_it_and_nothing_else() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cat /proc/self/status; cat /proc/mounts; echo names $(for n in mnt uts ipc pid net cgroup; do \
        readlink /proc/self/ns/$n; done); echo pids $(ls -d /proc/[0-9]*)";
    let text = ddock.sh(&["--privileged"], &image, script);
    assert_eq!(
        (field(&text, "Seccomp"), field(&text, "NoNewPrivs")),
        ("0", "0")
    );
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(field(&text, name), "0000000000000000", "{name}");
    }
    for line in text
        .lines()
        .filter(|line| line.contains(" /sys ") || line.contains(" /sys/fs/cgroup/"))
    {
        assert!(line.contains(" rw,"), "{line}");
    }
    let mut targets = text.lines().filter_map(|line| line.split(' ').nth(1));
    let covered = targets
        .find(|target| target.starts_with("/proc/") && text.contains(&format!("proc {target} ")));
    assert_eq!(covered, None);
    let names = field(&text, "names");
    for name in names.split(' ') {
        let own = fs_err::read_link(format!("/proc/self/ns/{}", name.split(':').next().unwrap()));
        assert_ne!(
            own.unwrap().to_str(),
            Some(name),
            "still a namespace of its own"
        );
    }
    assert!(field(&text, "pids").split(' ').count() <= 3, "{text}");
}

#[test]
fn each_relaxation_does_what_it_says_and_no_more() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status | tr '\\t\\n' '  '; \
        grep -c ' /proc/' /proc/mounts; (: >> /sys/kernel/mm/ksm/run) 2>/dev/null && echo sys; true";
    let state = |flags: &[&str]| ddock.sh(flags, &image, script);
    let default = state(&[]);
    assert!(
        default.starts_with("CapEff: 00000000a80425fb NoNewPrivs: 0 Seccomp: 2 "),
        "{default}"
    );
    let masks = default.rsplit(' ').next().unwrap();
    assert!(masks.trim().parse::<u32>().unwrap() > 5, "{default}");
    let expect = |what: &str, masks: &str| format!("CapEff: 00000000a80425fb {what} {masks}");
    for (option, expected) in [
        (
            "seccomp=unconfined",
            expect("NoNewPrivs: 0 Seccomp: 0", masks),
        ),
        ("seccomp=builtin", default.clone()),
        (
            "no-new-privileges",
            expect("NoNewPrivs: 1 Seccomp: 2", masks),
        ),
        ("no-new-privileges:false", default.clone()),
        (
            "systempaths=unconfined",
            expect("NoNewPrivs: 0 Seccomp: 2", "0\n"),
        ),
        ("apparmor=unconfined", default.clone()),
        ("label=disable", default.clone()),
    ] {
        assert_eq!(state(&["--security-opt", option]), expected, "{option}");
    }
    let user = state(&["-u", "1000", "--security-opt", "no-new-privileges"]);
    assert!(
        user.starts_with("CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2"),
        "{user}"
    );
    let both = state(&["--privileged", "--security-opt", "seccomp=builtin"]);
    assert!(
        both.contains("Seccomp: 2") && both.contains(" 0\n"),
        "{both}"
    );
}

#[test]
fn without_new_privileges_setuid_programs_gain_nothing() {
    let ddock = Ddock::new();
    let program = fs_err::read(launcher(&ddock)).unwrap();
    let tree = busybox_tree().owner(0, 0).file("bin/look", 0o4755, program);
    let image = ddock.pull(ImageBuilder::new().layer(tree));
    let user = |option: &str| {
        let args = [
            "run",
            "--rm",
            "-u",
            "1000",
            "--security-opt",
            option,
            &image,
            "/bin/look",
        ];
        let look = ddock.ok(&args);
        look.split_once(", ").unwrap().1.to_owned()
    };
    assert_eq!(user("no-new-privileges=false"), "user 0\n");
    assert_eq!(user("no-new-privileges"), "user 1000\n");
}

#[test]
fn a_profile_of_ones_own_is_what_holds() {
    let (ddock, image) = Ddock::with_busybox();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
    let file = ddock.scratch().file("profile.json", profile.to_string());
    let option = format!("seccomp={}", file.display());
    let flags = ["run", "--rm", "--security-opt", &option, &image];
    let run = |words: &[&str]| ddock.run(&[&flags[..], words].concat());
    run(&["mkdir", "/tmp/x"])
        .exits(1)
        .says("Operation not supported");
    run(&["touch", "/tmp/x"]).exits(0);

    fs_err::write(&file, "{").unwrap();
    run(&["true"]).exits(125).says("invalid seccomp profile");
    fs_err::remove_file(&file).unwrap();
    run(&["true"])
        .exits(125)
        .says("opening the seccomp profile");
    ddock
        .run(&["run", "--rm", "--security-opt", "bogus=x", &image, "true"])
        .exits(125)
        .says("bogus=x");
}

#[test]
fn the_filter_holds_for_whoever_starts_a_container_and_whoever_runs_in_it() {
    for user in [
        None,
        Some(User::with_ranges()),
        Some(User::without_ranges()),
    ] {
        let is_root = user.is_none();
        let (ddock, image) = with_user(user);
        let script = "grep -E '^Seccomp:' /proc/self/status; busybox unshare -U true 2>&1 | grep -o 'not permitted'";
        let expected = "Seccomp:\t2\nnot permitted\n";
        assert_eq!(ddock.sh(&[], &image, script), expected);
        // An ordinary user without ranges has no other ID to give away.
        if is_root {
            assert_eq!(ddock.sh(&["-u", "1000"], &image, script), expected);
        }
    }
}
