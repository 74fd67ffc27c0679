//! Namespaces that are the host's or another container's: `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--network`.

use std::process::{Child, Stdio};

use crate::harness::ddock::{Ddock, output};
use crate::harness::host::{processes_with, unique_seconds, wait_for_process};
use crate::harness::image::busybox;
use crate::harness::user::User;
use crate::harness::wait_for;

/// A container that runs until this goes.
struct Donor {
    client: Child,
    /// Host PID of its first process.
    pid: u32,
    seconds: String,
}

impl Donor {
    fn start(ddock: &Ddock, image: &str, flags: &[&str]) -> Donor {
        let seconds = unique_seconds();
        let mut args = vec!["run", "--name", "donor"];
        args.extend(flags);
        args.extend([image, "sleep", &seconds]);
        let client = ddock.command(&args).stdin(Stdio::null()).spawn().unwrap();
        let pid = wait_for_process("sleep", &seconds);
        wait_for("the container to be known as running", || {
            ddock.ok(&["ps", "-q"]).lines().next().map(|_| ())
        });
        Donor {
            client,
            pid,
            seconds,
        }
    }

    fn namespace(&self, name: &str) -> String {
        link(&format!("/proc/{}/ns/{name}", self.pid))
    }
}

impl Drop for Donor {
    fn drop(&mut self) {
        drop(self.client.kill());
        drop(self.client.wait());
        wait_for("the donor to be gone", || {
            processes_with(&self.seconds).is_empty().then_some(())
        });
    }
}

fn link(path: &str) -> String {
    fs_err::read_link(path)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// Runs the test as root and as each kind of ordinary user, with busybox pulled.
fn for_everybody(test: impl Fn(&Ddock, &str)) {
    let users = [
        None,
        Some(User::with_ranges()),
        Some(User::without_ranges()),
    ];
    for user in users {
        let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
        let image = ddock.pull(busybox());
        test(&ddock, &image);
    }
}

#[test]
fn namespaces_of_the_host_are_shared_by_name() {
    for_everybody(|ddock, image| {
        for (flag, name) in [
            ("--pid=host", "pid"),
            ("--ipc=host", "ipc"),
            ("--uts=host", "uts"),
            ("--cgroupns=host", "cgroup"),
        ] {
            let script = format!("readlink /proc/self/ns/{name}");
            let found = ddock.sh(&[flag], image, &script);
            assert_eq!(
                found.trim_end(),
                link(&format!("/proc/self/ns/{name}")),
                "{flag}"
            );
        }
    });
}

#[test]
fn the_hosts_processes_are_seen_and_the_masks_stay() {
    for_everybody(|ddock, image| {
        let own = std::process::id();
        let script = format!(
            "grep -c . /proc/{own}/status >/dev/null && echo seen; [ $$ = 1 ] || echo other; \
             cat /proc/kcore /proc/keys | wc -c; ls /proc/acpi; echo 0 > /proc/sys/kernel/panic || echo kept; \
             readlink /proc/{own}/exe || echo closed"
        );
        let stdout = ddock.sh(&["--pid=host"], image, &script);
        assert_eq!(stdout, "seen\nother\n0\nkept\nclosed\n");
    });
}

#[test]
fn nothing_outlives_a_container_among_the_hosts_processes() {
    for_everybody(|ddock, image| {
        let seconds = unique_seconds();
        let script =
            format!("for i in 1 2 3; do (setsid sleep {seconds} &); done; sleep 0.1; exit 5");
        let args = ["run", "--rm", "--pid=host", image, "sh", "-c", &script];
        ddock.run(&args).exits(5);
        assert_eq!(processes_with(&seconds), [0; 0]);

        let script = format!("(setsid sleep {seconds} &); exec sleep {seconds}");
        let args = ["run", "--rm", "--pid=host", image, "sh", "-c", &script];
        let mut client = ddock.command(&args).stdin(Stdio::null()).spawn().unwrap();
        wait_for("both to run", || {
            (processes_with(&seconds).len() >= 2).then_some(())
        });
        // The shell's own line has the number within a longer word.
        client.kill().unwrap();
        client.wait().unwrap();
        wait_for("all to be gone", || {
            processes_with(&seconds).is_empty().then_some(())
        });
        wait_for("the record to be gone", || {
            ddock.containers().is_empty().then_some(())
        });
    });
}

#[test]
fn namespaces_of_a_container_are_joined_by_name() {
    for_everybody(|ddock, image| {
        let donor = Donor::start(ddock, image, &["--ipc=shareable", "-h", "giver"]);
        for (flag, name) in [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")] {
            let flag = format!("{flag}=container:donor");
            let script = format!("readlink /proc/self/ns/{name}");
            let found = ddock.sh(&[&flag], image, &script);
            assert_eq!(found.trim_end(), donor.namespace(name), "{flag}");
        }
        let all = [
            "--pid=container:donor",
            "--ipc=container:donor",
            "--net=container:donor",
        ];
        let script = "hostname; cat /etc/hostname; echo $HOSTNAME; tr '\\0' ' ' < /proc/1/cmdline";
        let stdout = ddock.sh(&all, image, script);
        let seconds = &donor.seconds;
        assert_eq!(stdout, format!("giver\ngiver\ngiver\nsleep {seconds} "));
    });
}

#[test]
fn who_joins_leaves_nothing_and_ends_nothing() {
    let (ddock, image) = Ddock::with_busybox();
    let donor = Donor::start(&ddock, &image, &[]);
    let seconds = (unique_seconds().parse::<u64>().unwrap() + 10_000_000).to_string();
    let script = format!("(setsid sleep {seconds} &); sleep 0.1; exit 3");
    let args = [
        "run",
        "--rm",
        "--pid=container:donor",
        &image,
        "sh",
        "-c",
        &script,
    ];
    ddock.run(&args).exits(3);
    assert_eq!(processes_with(&seconds), [0; 0]);
    assert_eq!(
        processes_with(&donor.seconds)
            .iter()
            .filter(|pid| **pid == donor.pid)
            .count(),
        1
    );
}

/// Looks for what only the host has, by way of every process there is, and for the container that joins.
const SPY: &str = r#"
while :; do
    for process in /proc/[0-9]*; do
        [ -e $process/root/joins ] && echo joined
        for way in $process/root $process/cwd $process/fd/*; do
            [ -e $way$CANARY ] || [ -e $way/canary ] && echo "the host by $way"
        done
    done
done 2>/dev/null
"#;

#[test]
fn who_joins_shows_nothing_of_the_host_to_those_who_may_trace_it() {
    for user in [None, Some(User::with_ranges())] {
        let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
        let image = ddock.pull(busybox());
        let canary = ddock.scratch().file("canary", "");
        let place = canary.parent().unwrap();
        let variable = format!("CANARY={}", canary.display());
        let args = [
            "run",
            "--name",
            "donor",
            "--ipc=shareable",
            "--cap-add=SYS_PTRACE",
            "-e",
            &variable,
            &image,
            "sh",
            "-c",
            SPY,
        ];
        let mut spy = ddock.command(&args);
        let spy = spy
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .current_dir(place)
            .spawn()
            .unwrap();
        wait_for("the container to be known as running", || {
            ddock.ok(&["ps", "-q"]).lines().next().map(|_| ())
        });
        let volume = format!("{}:/joins", ddock.scratch().dir("joins").display());
        for flags in [
            &["--pid=container:donor"][..],
            &[
                "--pid=container:donor",
                "--network=container:donor",
                "--ipc=container:donor",
                "-t",
            ],
        ] {
            let mut args = vec!["run", "--rm", "-v", &volume];
            args.extend(flags);
            args.extend([&*image, "sleep", "0.1"]);
            for _ in 0..8 {
                let output = output(ddock.command(&args).stdin(Stdio::null()).current_dir(place));
                output.exits(0);
            }
        }
        ddock.ok(&["rm", "-f", "donor"]);
        let seen = String::from_utf8(spy.wait_with_output().unwrap().stdout).unwrap();
        assert!(
            seen.contains("joined") && !seen.contains("the host by"),
            "{seen}"
        );
    }
}

#[test]
fn shared_memory_is_shared_by_those_who_share_it() {
    for_everybody(|ddock, image| {
        let donor = Donor::start(ddock, image, &["--ipc=shareable"]);
        let join = "--ipc=container:donor";
        ddock.sh(&[join], image, "echo shared > /dev/shm/x");
        let script =
            "cat /dev/shm/x; grep -c ' /dev/shm tmpfs rw,nosuid,nodev,noexec' /proc/mounts";
        assert_eq!(ddock.sh(&[join], image, script), "shared\n1\n");
        assert_eq!(ddock.sh(&[], image, "ls /dev/shm"), "");
        drop(donor);
        let script = "grep -c ' /dev/shm ' /proc/mounts; [ -e /dev/mqueue ] && echo queues";
        let output = ddock.run(&["run", "--rm", "--ipc=none", image, "sh", "-c", script]);
        assert_eq!(output.stdout, "0\nqueues\n");
    });
}

#[test]
fn the_network_of_a_container_comes_with_its_files() {
    let (ddock, image) = Ddock::with_busybox();
    let _donor = Donor::start(&ddock, &image, &["-h", "giver"]);
    let join = "--network=container:donor";
    ddock.sh(
        &[join],
        &image,
        "echo '10.0.0.1 added' >> /etc/hosts; echo 'search added' > /etc/resolv.conf",
    );
    let script = "tail -n 1 /etc/hosts; cat /etc/resolv.conf; ifconfig lo | grep -c UP";
    assert_eq!(
        ddock.sh(&[join], &image, script),
        "10.0.0.1 added\nsearch added\n1\n"
    );
}

#[test]
fn what_cannot_be_shared_is_refused_in_dockers_words() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "--name", "ended", &image, "true"]);
    let ended = ddock.containers().remove(0);
    let _donor = Donor::start(&ddock, &image, &[]);
    for (flags, text) in [
        (&["--pid=bogus"][..], "--pid: invalid PID mode".to_owned()),
        (&["--pid=container:"], "--pid: invalid PID mode".to_owned()),
        (
            &["--pid=container:nope"],
            "No such container: nope".to_owned(),
        ),
        (
            &["--pid=container:ended"],
            format!("container {ended} is not running"),
        ),
        (&["--ipc=bogus"], "Invalid IPC mode: bogus".to_owned()),
        (
            &["--ipc=container:ended"],
            format!("can't join IPC of container {ended}: container {ended} is not running"),
        ),
        (
            &["--ipc=container:donor"],
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)".to_owned(),
        ),
        (
            &["--uts=container:donor"],
            "--uts: invalid UTS mode".to_owned(),
        ),
        (
            &["--uts=host", "-h", "x"],
            "conflicting options: hostname and the UTS mode".to_owned(),
        ),
        (
            &["--cgroupns=bogus"],
            "--cgroupns: invalid CGROUP mode".to_owned(),
        ),
        (
            &["--network=container:"],
            "Invalid network mode: invalid container format container:<name|id>".to_owned(),
        ),
        (
            &["--network=container:ended"],
            format!("cannot join network of a non running container: {ended}"),
        ),
        (
            &["--network=container:donor", "-h", "x"],
            "conflicting options: hostname and the network mode".to_owned(),
        ),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&*image, "true"]);
        ddock.run(&args).exits(125).says(&text);
    }
}

#[test]
fn the_hosts_name_is_shown_where_its_namespace_is_shared() {
    let (ddock, image) = Ddock::with_busybox();
    let name = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let script = "hostname; cat /etc/hostname; echo $HOSTNAME";
    assert_eq!(ddock.sh(&["--uts=host"], &image, script), name.repeat(3));
}

#[test]
fn flags_that_choose_how_to_isolate_say_what_there_is() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "--rm", "--isolation", "default", &image, "true"]);
    for (flag, texts) in [
        (
            "--isolation=hyperv",
            [
                "Invalid isolation: \"hyperv\"",
                "linux only supports 'default'",
            ],
        ),
        (
            "--runtime=crun",
            [
                "`--runtime` is not there: ddock is its own runtime",
                "--dry-run",
            ],
        ),
        (
            "--secret=key",
            [
                "`--secret` is not there: ",
                "`-v FILE:/run/secrets/NAME:ro`",
            ],
        ),
    ] {
        let output = ddock.run(&["run", "--rm", flag, &image, "true"]).exits(125);
        output.says(texts[0]).says(texts[1]);
    }
}
