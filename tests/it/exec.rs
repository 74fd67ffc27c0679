//! `exec`: a command in a container that runs, by root and by ordinary users.

use std::process::Stdio;

use crate::harness::chance::Chance;
use crate::harness::ddock::{Ddock, finished_child, output};
use crate::harness::host::{
    assert_nothing_left, parent_of, processes_with, send_signal, unique_seconds, wait_for_process,
};
use crate::harness::image::busybox;
use crate::harness::terminal::Terminal;
use crate::harness::user::User;
use crate::harness::wait_for;

/// Returns an argument of `sleep` that no other process has, nor a container's first.
fn visitors_seconds() -> String {
    format!("2{}", unique_seconds())
}

/// Returns the number that a process has in its own PID namespace.
fn inside(pid: u32) -> String {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.unwrap().split_whitespace().last().unwrap().to_owned()
}

/// ddock as root and as two ordinary users, each with an image.
fn callers() -> Vec<(Ddock, String)> {
    let callers = [
        Ddock::new(),
        Ddock::for_user(User::with_ranges()),
        Ddock::for_user(User::without_ranges()),
    ];
    let pulled = callers.into_iter().map(|ddock| {
        let image = ddock.pull(busybox());
        (ddock, image)
    });
    pulled.collect()
}

/// Starts a container of the name `c` that sleeps, and returns its ID and its first process.
fn sleeping(ddock: &Ddock, flags: &[&str], image: &str) -> (String, u32) {
    let seconds = unique_seconds();
    let args = [
        &["run", "-d", "--name=c1", "--network=none"],
        flags,
        &[image, "sleep", &seconds],
    ];
    let id = ddock.ok(&args.concat());
    (
        id.trim_end().to_owned(),
        wait_for_process("sleep", &seconds),
    )
}

#[test]
fn a_command_is_run_or_refused_as_by_docker() {
    for (ddock, image) in callers() {
        let (id, _) = sleeping(&ddock, &["-e=A=1", "-w=/tmp", "-t"], &image);
        let others = ddock.run(&["exec", "-u=7", "c1", "true"]).code == 0;
        let bob = "echo bob:x:7:8::/home/bob: >>/etc/passwd";
        ddock.ok(&["exec", "c1", "sh", "-c", bob]);
        for (args, code, said) in [
            (&["c1", "sh", "-c", "exit 7"][..], 7, ""),
            (&["c1", "sh", "-c", "kill -TERM $$"], 143, ""),
            (&["c1", "pwd"], 0, "/tmp\n"),
            (&["-w=/bin", "c1", "pwd"], 0, "/bin\n"),
            (
                &["-e=B=2", "-e=A", "c1", "sh", "-c", "echo $A$B$TERM"],
                0,
                "2\n",
            ),
            (
                &["-e=A=3", "-t", "c1", "sh", "-c", "echo $A$TERM"],
                0,
                "3xterm\r\n",
            ),
            (
                &["c1", "nope"],
                127,
                "\"nope\": executable file not found in $PATH",
            ),
            (&["c1", "/nope"], 127, "/nope"),
            (&["c1", "/bin"], 126, "/bin"),
            (&["-w=/nope", "c1", "true"], 126, "`/nope`"),
            (&["-w=nope", "c1", "true"], 126, "`nope` is not absolute"),
            (
                &["-u=nobody-there", "c1", "true"],
                126,
                "unable to find user nobody-there",
            ),
            (&["c1"], 1, "requires at least 2 arguments"),
            (&["absent", "true"], 1, "No such container: absent"),
            (&["-it", "c1", "true"], 1, "the input device is not a TTY"),
            (&["-d", "c1", "nope"], 127, "executable file not found"),
            (&["-d", "c1", "true"], 0, ""),
        ] {
            let found = ddock.run(&[&["exec"], args].concat());
            let all = [found.stdout.as_str(), &found.stderr].concat();
            let is_right = if said.ends_with('\n') || said.is_empty() {
                all == said
            } else {
                all.contains(said)
            };
            assert!(found.code == code && is_right, "{args:?} {}", found.text());
        }
        if others {
            let script = "id -u; id -g; echo $HOME; grep CapEff /proc/self/status | cut -f2";
            let said = ddock.ok(&["exec", "-u=bob", "c1", "sh", "-c", script]);
            assert_eq!(said, "7\n8\n/home/bob\n0000000000000000\n");
        }
        ddock.ok(&["stop", "-t=0", "c1"]);
        let refused = ddock.run(&["exec", "c1", "true"]).exits(1);
        refused.says(&format!("container {id} is not running"));
        ddock.ok(&["rm", "c1"]);
        assert_nothing_left(&ddock, &id);
    }
}

#[test]
fn a_command_has_no_more_and_no_less_than_the_containers_own() {
    // Of the first process in its own `/proc`, and of the process that asks.
    let compared = "cd /proc/$WHO; grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask)' status; \
        readlink ns/* root cwd; cat cgroup limits attr/current oom_score_adj 2>/dev/null; ls fd | grep -v '^[3-9]'";
    let flags: [&[&str]; 4] = [
        &[],
        &[
            "--security-opt=no-new-privileges",
            "--cap-drop=chown",
            "-m=64m",
            "--ulimit=nofile=99",
            "--init",
        ],
        &["--privileged", "--umask=027", "--oom-score-adj=500"],
        &[
            "--pid=host",
            "--security-opt=seccomp=unconfined",
            "--read-only",
        ],
    ];
    for (ddock, image) in callers() {
        for flags in flags {
            let limited = flags.contains(&"-m=64m")
                && ddock
                    .run(&[&["run", "--rm", "--network=none"], flags, &[&image, "true"]].concat())
                    .code
                    != 0;
            if limited {
                continue;
            }
            let (id, pid) = sleeping(&ddock, flags, &image);
            let ask = |who: &str| {
                let who = format!("-e=WHO={who}");
                ddock.ok(&["exec", &who, "c1", "sh", "-c", compared])
            };
            let of_first = inside(pid);
            assert_eq!(ask("self"), ask(&of_first), "{flags:?}");

            // As the host sees it, too.
            let seconds = visitors_seconds();
            ddock.ok(&["exec", "-d", "c1", "sleep", &seconds]);
            let visitor = wait_for_process("sleep", &seconds);
            let cgroup = |pid: u32| fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            assert_eq!(cgroup(visitor), cgroup(pid), "{flags:?}");
            let open = fs_err::read_dir(format!("/proc/{visitor}/fd")).unwrap();
            assert_eq!(open.count(), 3, "{flags:?}");
            ddock.ok(&["rm", "-f", "c1"]);
            wait_for("the visitor's end", || {
                processes_with(&seconds).is_empty().then_some(())
            });
            assert_nothing_left(&ddock, &id);
        }
    }
    let (ddock, image) = Ddock::with_busybox();
    sleeping(&ddock, &[], &image);
    let bounding = |flags: &[&str]| {
        let args = [
            &["exec"],
            flags,
            &["c1", "grep", "CapBnd", "/proc/self/status"],
        ]
        .concat();
        ddock.ok(&args)
    };
    assert_ne!(bounding(&["--privileged"]), bounding(&[]));
    ddock.ok(&["rm", "-f", "c1"]);
}

#[test]
fn streams_are_the_commands_to_the_last_byte() {
    for (ddock, image) in callers() {
        sleeping(&ddock, &[], &image);
        let bytes = Chance::new(7).noise(300_000);
        let sum = |bytes: &[u8]| {
            ddock
                .feed(&["exec", "-i", "c1", "sha256sum"], bytes)
                .exits(0)
                .stdout
        };
        // A half of the connection that is closed is the end of the input only.
        assert_eq!(sum(&bytes).len(), 68);
        let path = ddock.scratch().dir("out").join("bytes");
        let mut child = ddock.command(&["exec", "-i", "c1", "cat"]);
        child
            .stdin(Stdio::piped())
            .stdout(fs_err::File::create(&path).unwrap().into_file());
        let mut child = child.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
        finished_child(child).exits(0);
        assert!(fs_err::read(&path).unwrap() == bytes);
        let found = ddock
            .run(&["exec", "c1", "sh", "-c", "echo out; echo err >&2; cat"])
            .exits(0);
        assert_eq!(
            (found.stdout.as_str(), found.stderr.as_str()),
            ("out\n", "err\n")
        );
        ddock.ok(&["rm", "-f", "c1"]);
    }
}

#[test]
fn a_terminal_has_its_size_from_the_start_and_can_be_left() {
    for (ddock, image) in callers() {
        sleeping(&ddock, &[], &image);
        let seconds = visitors_seconds();
        let script = format!("stty size; test -t 0 && echo >/dev/tty yes; exec sleep {seconds}");
        let command = ddock.command(&[
            "exec",
            "-it",
            "--detach-keys=a,b",
            "c1",
            "sh",
            "-c",
            &script,
        ]);
        let mut terminal = Terminal::start(&command, 31, 77);
        terminal.expect("31 77\nyes\n");
        let visitor = wait_for_process("sleep", &seconds);
        terminal.send("ab");
        assert_eq!(terminal.wait(), 0);
        assert!(terminal.is_cooked());
        assert_eq!(processes_with(&seconds), [visitor]);
        ddock.ok(&["rm", "-f", "c1"]);
    }
}

#[test]
fn many_visit_at_once_and_all_end_with_the_container() {
    for (ddock, image) in callers() {
        for flags in [&[][..], &["--pid=host"]] {
            let (id, pid) = sleeping(&ddock, flags, &image);
            let seconds = visitors_seconds();
            let visitors: Vec<_> = (0..12)
                .map(|_| {
                    let mut command = ddock.command(&["exec", "c1", "sleep", &seconds]);
                    command
                        .stdout(Stdio::piped())
                        .stderr(Stdio::piped())
                        .spawn()
                        .unwrap()
                })
                .collect();
            wait_for("all visitors", || {
                let sleeping = processes_with(&seconds).into_iter();
                let named = |pid: &u32| crate::harness::host::name_of(*pid) == "sleep";
                (sleeping.filter(named).count() == 12).then_some(())
            });
            send_signal(pid, rustix::process::Signal::KILL);
            for visitor in visitors {
                finished_child(visitor).exits(137);
            }
            assert!(processes_with(&seconds).is_empty());
            ddock.ok(&["rm", "c1"]);
            assert_nothing_left(&ddock, &id);
        }
    }
}

#[test]
fn a_command_ends_with_its_client_and_with_its_parent() {
    let (ddock, image) = Ddock::with_busybox();
    sleeping(&ddock, &[], &image);
    for of_parent in [false, true] {
        let seconds = visitors_seconds();
        let mut client = ddock
            .command(&["exec", "c1", "sleep", &seconds])
            .spawn()
            .unwrap();
        let visitor = wait_for_process("sleep", &seconds);
        let parent = parent_of(visitor);
        let said =
            output(std::process::Command::new("ps").args(["-o", "args=", &parent.to_string()]));
        assert!(said.exits(0).stdout.starts_with("ddock: exec in "));
        let killed = if of_parent { parent } else { client.id() };
        send_signal(killed, rustix::process::Signal::KILL);
        client.wait().unwrap();
        wait_for("the end", || {
            processes_with(&seconds).is_empty().then_some(())
        });
    }
    // The container knows nothing of it.
    assert_eq!(ddock.ok(&["exec", "c1", "echo", "on"]), "on\n");
    ddock.ok(&["rm", "-f", "c1"]);
}
