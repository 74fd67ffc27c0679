//! `run -d` and what one lives with it by: `logs`, `attach`, `stop`, `kill`, `wait`.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::ddock::{Ddock, binary, output};
use crate::harness::host::{assert_nothing_left, processes_with, unique_seconds, wait_for_process};
use crate::harness::terminal::Terminal;
use crate::harness::user::User;
use crate::harness::wait_for;

/// Runs `run -d`, which must succeed, and returns the container's ID.
#[track_caller]
fn start(ddock: &Ddock, args: &[&str]) -> String {
    let stdout = ddock.ok(&[&["run", "-d"], args].concat());
    let id = stdout.strip_suffix('\n').unwrap();
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{stdout:?}"
    );
    id.to_owned()
}

fn inspect(ddock: &Ddock, name: &str) -> Value {
    serde_json::from_str::<Value>(&ddock.ok(&["inspect", name])).unwrap()[0].clone()
}

#[test]
fn a_detached_container_outlives_its_client_and_holds_nothing_of_it() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    // A reader of the caller's pipes sees their end although the container runs on.
    let script = format!(
        "cd {} && exec 7</etc/passwd && {} run -d --name bg {image} sleep {seconds} | cat",
        ddock.scratch().dir("cwd").display(),
        binary().display()
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    let id = output(&mut shell).exits(0).stdout;
    assert_eq!(id.trim_end(), inspect(&ddock, "bg")["Id"]);
    let pid = wait_for_process("sleep", &seconds);
    let parent = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = parent
        .lines()
        .find_map(|line| line.strip_prefix("PPid:\t"))
        .unwrap();
    let of_monitor = |file: &str| fs_err::read_link(format!("/proc/{parent}/{file}")).unwrap();
    assert_eq!(of_monitor("cwd").to_str(), Some("/"));
    for entry in fs_err::read_dir(format!("/proc/{parent}/fd")).unwrap() {
        let target = fs_err::read_link(entry.unwrap().path()).unwrap();
        assert_ne!(target.to_str(), Some("/etc/passwd"));
    }
    for stream in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(of_monitor(stream).to_str(), Some("/dev/null"));
    }
    assert!(ddock.ok(&["ps"]).contains("Up "), "it runs");
    ddock.ok(&["rm", "-f", "bg"]);
    assert_nothing_left(&ddock, id.trim_end());
}

#[test]
fn a_detached_command_that_cannot_start_fails_in_the_foreground() {
    let (ddock, image) = Ddock::with_busybox();
    for (command, code) in [("absent", 127), ("/etc", 126)] {
        let output = ddock.run(&["run", "-d", &image, command]).exits(code);
        assert_eq!(output.stdout, "");
        output.says(command);
    }
    assert_eq!(ddock.containers(), [""; 0]);
}

#[test]
fn a_detached_container_with_rm_goes_when_it_ends() {
    let (ddock, image) = Ddock::with_busybox();
    let id = start(&ddock, &["--rm", "-i", &image, "cat"]);
    ddock.ok(&["kill", &id]);
    wait_for("the container to be removed", || {
        ddock.containers().is_empty().then_some(())
    });
    assert_nothing_left(&ddock, &id);
}

#[test]
fn logs_have_each_stream_apart_and_the_end_of_the_last_line() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo out; sleep 0.02; echo err >&2; sleep 0.02; printf tail";
    for detach in [true, false] {
        let name = if detach { "later" } else { "now" };
        if detach {
            start(&ddock, &["--name", name, &image, "sh", "-c", script]);
            assert_eq!(ddock.ok(&["wait", name]), "0\n");
        } else {
            let seen = ddock.run(&["run", "--name", name, &image, "sh", "-c", script]);
            assert_eq!((&*seen.stdout, &*seen.stderr), ("out\ntail", "err\n"));
        }
        let logs = ddock.run(&["logs", name]).exits(0);
        assert_eq!((&*logs.stdout, &*logs.stderr), ("out\ntail", "err\n"));
        assert_eq!(ddock.run(&["logs", "-n", "1", name]).stdout, "tail");
        assert_eq!(
            ddock.run(&["logs", "-n", "0", name]).text(),
            ddock.run(&["logs", "--tail=0", name]).text()
        );
        assert_eq!(ddock.run(&["logs", "-n", "0", name]).stdout, "");
        let stamped = ddock.ok(&["logs", "-t", "-n", "1", name]);
        let (time, text) = stamped.split_once(' ').unwrap();
        assert_eq!(
            (text, time.len()),
            ("tail", "2026-01-01T00:00:00.000000000Z".len())
        );
        // Up to the second: what follows the last line's time is nothing.
        assert_eq!(
            ddock.ok(&["logs", "--until", time, "--since", time, name]),
            "tail"
        );
        assert_eq!(ddock.ok(&["logs", "--until", "1h", name]), "");
    }
}

#[test]
fn logs_follow_through_rotations_until_the_end() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for i in $(seq 400); do echo line $i; sleep 0.002; done";
    let flags = [
        "--log-opt",
        "max-size=8k",
        "--log-opt",
        "max-file=3",
        "--name",
        "turning",
    ];
    start(
        &ddock,
        &[&flags[..], &[&image, "sh", "-c", script]].concat(),
    );
    let followed = ddock.ok(&["logs", "-f", "turning"]);
    let all: Vec<String> = (1..=400).map(|number| format!("line {number}\n")).collect();
    let all = all.concat();
    assert_eq!(followed, all);
    // What was rotated away is gone, the end is there.
    let rest = ddock.ok(&["logs", "turning"]);
    assert!(rest.len() < all.len() && all.ends_with(&rest), "{rest}");
}

#[test]
fn a_log_is_followed_where_nobody_tells_that_it_grows() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo one; sleep 0.3; echo two; sleep 0.3; echo three";
    start(&ddock, &["--name", "slow", &image, "sh", "-c", script]);
    let logs = ddock.command(&["logs", "-f", "slow"]);
    let mut strace = Command::new("strace");
    // As if containers had used up what the kernel has of such watches for a user.
    strace.args(["-qq", "-e", "trace=inotify_init1", "-o", "/dev/null"]);
    strace.args(["-e", "inject=inotify_init1:error=EMFILE"]);
    strace.arg(logs.get_program()).args(logs.get_args());
    for (name, value) in logs.get_envs() {
        strace.env(name, value.unwrap());
    }
    let said = output(&mut strace).exits(0);
    assert_eq!(said.stdout, "one\ntwo\nthree\n", "{}", said.stderr);
}

#[test]
fn the_log_is_dockers_json() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "printf '\"q\"\\n'; head -c 20000 /dev/zero | tr '\\0' x";
    let id = start(&ddock, &[&image, "sh", "-c", script]);
    ddock.ok(&["wait", &id]);
    let log = fs_err::read_to_string(ddock.root().join("v1/containers").join(&id).join("log"));
    let log = log.unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["log"], "\"q\"\n");
    assert_eq!(lines[0]["stream"], "stdout");
    let lengths: Vec<usize> = lines
        .iter()
        .map(|line| line["log"].as_str().unwrap().len())
        .collect();
    assert_eq!(lengths, [4, 16384, 20000 - 16384]);
}

#[test]
fn without_a_log_there_is_none_to_read() {
    let (ddock, image) = Ddock::with_busybox();
    start(
        &ddock,
        &[
            "--log-driver",
            "none",
            "--name",
            "mute",
            &image,
            "echo",
            "x",
        ],
    );
    ddock.ok(&["wait", "mute"]);
    ddock
        .run(&["logs", "mute"])
        .exits(1)
        .says("configured logging driver does not support reading");
    ddock
        .run(&["logs", "nope"])
        .exits(1)
        .says("No such container: nope");
}

#[test]
fn stop_asks_then_kills_and_the_code_is_kept() {
    let (ddock, image) = Ddock::with_busybox();
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let polite = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    for (name, flags, script, code) in [
        ("deaf", &["--stop-timeout", "0"][..], deaf, "137\n"),
        ("polite", &["--stop-signal", "USR1"], polite, "5\n"),
    ] {
        start(
            &ddock,
            &[flags, &["--name", name, &image, "sh", "-c", script]].concat(),
        );
        wait_for("the trap to be set", || {
            ddock.ok(&["logs", name]).contains("ready").then_some(())
        });
        assert_eq!(ddock.ok(&["stop", name]), format!("{name}\n"));
        assert_eq!(ddock.ok(&["wait", name]), code);
        assert_eq!(ddock.ok(&["stop", name]), format!("{name}\n"), "once more");
        assert!(
            ddock
                .ok(&["ps", "-a"])
                .contains(&format!("Exited ({})", code.trim_end()))
        );
    }
    ddock.run(&["kill", "deaf"]).exits(1).says("is not running");
    ddock
        .run(&["kill", "-s", "NOPE", "deaf"])
        .exits(1)
        .says("invalid signal: NOPE");
    ddock
        .run(&["stop", "nope"])
        .exits(1)
        .says("No such container: nope");
}

#[test]
fn signals_by_name_and_number_reach_the_command() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "trap 'echo got' USR2; echo ready; while :; do sleep 0.02; done";
    start(&ddock, &["--name", "ear", &image, "sh", "-c", script]);
    let mut expected = "ready\n".to_owned();
    for signal in ["USR2", "sigusr2", "12"] {
        wait_for("the command to hear", || {
            (ddock.ok(&["logs", "ear"]) == expected).then_some(())
        });
        assert_eq!(ddock.ok(&["kill", "-s", signal, "ear"]), "ear\n");
        expected.push_str("got\n");
    }
    wait_for("the last signal", || {
        (ddock.ok(&["logs", "ear"]) == expected).then_some(())
    });
    ddock.ok(&["kill", "ear"]);
    assert_eq!(ddock.ok(&["wait", "ear"]), "137\n");
}

#[test]
fn several_clients_attach_and_all_hear_the_end() {
    let (ddock, image) = Ddock::with_busybox();
    let script =
        "(while :; do echo tick; sleep 0.02; done) & read a; kill $!; echo $a; echo e >&2; exit 4";
    start(
        &ddock,
        &["-i", "--name", "talk", &image, "sh", "-c", script],
    );
    // Whoever has heard something is attached.
    let attach = |stdin: Stdio| {
        let mut command = ddock.command(&["attach", "talk"]);
        command.stdin(stdin).stdout(Stdio::piped());
        let mut client = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut heard = [0; 4];
        std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut heard).unwrap();
        assert_eq!(&heard, b"tick");
        client
    };
    let mut wait = ddock.command(&["wait", "talk"]);
    let waiting = wait.stdout(Stdio::piped()).spawn().unwrap();
    let silent = attach(Stdio::null());
    let mut speaking = attach(Stdio::piped());
    let mut stdin = speaking.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"hello\n").unwrap();
    for client in [speaking, silent] {
        let said = client.wait_with_output().unwrap();
        assert_eq!((said.status.code(), &*said.stderr), (Some(4), &b"e\n"[..]));
        assert!(said.stdout.ends_with(b"\nhello\n"), "{said:?}");
    }
    assert_eq!(waiting.wait_with_output().unwrap().stdout, b"4\n");
    ddock
        .run(&["attach", "talk"])
        .exits(1)
        .says("You cannot attach to a stopped container");
}

#[test]
fn a_detached_terminal_is_kept_for_later() {
    let (ddock, image) = Ddock::with_busybox();
    start(&ddock, &["-it", "--name", "screen", &image, "sh"]);
    let mut terminal = Terminal::start(&ddock.command(&["attach", "screen"]), 30, 90);
    terminal.expect_raw();
    terminal.send("stty size; echo $((20+3))\r");
    terminal.expect("30 90\n23\n");
    terminal.send("\u{10}\u{11}");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_cooked());
    let mut terminal = Terminal::start(
        &ddock.command(&["attach", "--detach-keys", "x", "screen"]),
        24,
        80,
    );
    terminal.expect_raw();
    terminal.send("abx");
    terminal.expect("read escape sequence");
    assert_eq!(terminal.wait(), 0);
    ddock.ok(&["rm", "-f", "screen"]);
}

#[test]
fn all_of_it_works_for_ordinary_users() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(crate::harness::image::busybox());
        let id = start(
            &ddock,
            &[
                "--name",
                "mine",
                "--stop-timeout",
                "0",
                &image,
                "sh",
                "-c",
                "echo hi; sleep 1000",
            ],
        );
        wait_for("the first line", || {
            (ddock.ok(&["logs", "mine"]) == "hi\n").then_some(())
        });
        ddock.ok(&["stop", "mine"]);
        assert_eq!(ddock.ok(&["wait", "mine"]), "137\n");
        ddock.ok(&["rm", "mine"]);
        assert_nothing_left(&ddock, &id);
    }
}

#[test]
fn the_cidfile_holds_the_id_or_is_not_there() {
    let (ddock, image) = Ddock::with_busybox();
    let file = ddock.scratch().join("cid");
    let path = file.to_str().unwrap();
    let hostname = ddock.ok(&["run", "--rm", "--cidfile", path, &image, "hostname"]);
    let id = fs_err::read_to_string(&file).unwrap();
    assert!(
        id.len() == 64 && id.starts_with(hostname.trim_end()),
        "{id}"
    );
    ddock
        .run(&["run", "--rm", "--cidfile", path, &image, "true"])
        .exits(125)
        .says("container ID file found, make sure the other container isn't running or delete");
    fs_err::remove_file(&file).unwrap();
    ddock
        .run(&[
            "run",
            "--cidfile",
            path,
            "--pull",
            "never",
            "localhost/nope",
            "true",
        ])
        .exits(125);
    assert!(!file.exists());
}

#[test]
fn labels_and_how_to_stop_are_kept() {
    let (ddock, image) = Ddock::with_busybox();
    let labels = ddock.scratch().file("labels", "# two\na=1\nb\n");
    ddock.ok(&[
        "run",
        "--name",
        "marked",
        "--label-file",
        labels.to_str().unwrap(),
        "-l",
        "a=2",
        "--annotation",
        "org.example=x",
        "--stop-signal",
        "SIGRTMIN+3",
        "--stop-timeout",
        "7",
        &image,
        "true",
    ]);
    let document = inspect(&ddock, "marked");
    assert_eq!(
        document["Config"]["Labels"],
        serde_json::json!({"a": "2", "b": ""})
    );
    assert_eq!(document["Config"]["StopSignal"], "SIGRTMIN+3");
    assert_eq!(document["Config"]["StopTimeout"], 7);
    assert_eq!(document["HostConfig"]["Annotations"]["org.example"], "x");
    let id = document["Id"].as_str().unwrap();
    let config = fs_err::read(
        ddock
            .root()
            .join("v1/containers")
            .join(id)
            .join("config.json"),
    )
    .unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["annotations"]["org.example"], "x");
}

#[test]
fn a_name_that_is_taken_is_refused_or_replaced() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let id = start(&ddock, &["--name", "web", &image, "sleep", &seconds]);
    ddock
        .run(&["run", "--rm", "--name", "web", &image, "true"])
        .exits(125)
        .says(&format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". \
         You have to remove (or rename) that container to be able to reuse that name."
        ));
    assert_eq!(
        ddock.ok(&[
            "run",
            "--rm",
            "--replace",
            "--name",
            "web",
            &image,
            "echo",
            "new"
        ]),
        "new\n"
    );
    assert_eq!(processes_with(&seconds), [0; 0]);
    assert_nothing_left(&ddock, &id);
}

#[test]
fn a_container_whose_time_is_over_is_killed() {
    let (ddock, image) = Ddock::with_busybox();
    ddock
        .run(&["run", "--rm", "--timeout", "1", &image, "sleep", "1000"])
        .exits(255)
        .says("its time was over");
    ddock
        .run(&["run", "--rm", "--timeout", "0", &image, "true"])
        .exits(0);
    assert_eq!(ddock.containers(), [""; 0]);
}

#[test]
fn a_dead_monitor_is_not_shown_as_running() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    start(&ddock, &["--name", "orphan", &image, "sleep", &seconds]);
    let pid = wait_for_process("sleep", &seconds);
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:\t"))
        .unwrap();
    let parent = rustix::process::Pid::from_raw(parent.parse().unwrap()).unwrap();
    rustix::process::kill_process(parent, rustix::process::Signal::KILL).unwrap();
    wait_for("the container to die with its monitor", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    assert!(ddock.ok(&["ps", "-a"]).contains("Exited (137)"));
    assert_eq!(ddock.ok(&["wait", "orphan"]), "137\n");
    assert_eq!(ddock.ok(&["stop", "orphan"]), "orphan\n");
}
