//! `run -it`: a person at a terminal.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::Ddock;
use crate::harness::host::{assert_nothing_left, processes_with, unique_seconds, wait_for_process};
use crate::harness::image::Image;
use crate::harness::registry::Registry;
use crate::harness::terminal::Terminal;
use crate::harness::wait_for;

/// Returns ddock with this distribution's own image, bash and procps in it.
fn with_distribution() -> (Ddock, String) {
    let registry = Registry::start();
    let reference = registry.push("test/distribution:latest", &Image::distribution());
    let ddock = Ddock::new();
    ddock.ok(&["pull", "-q", &reference]);
    (ddock, reference)
}

#[test]
fn a_shell_in_a_real_image_is_a_machine_of_its_own() {
    let (ddock, image) = with_distribution();
    let mut terminal = Terminal::start(
        &ddock.command(&["run", "--rm", "-it", &image, "/bin/bash"]),
        24,
        80,
    );
    terminal.expect("root@");
    let prompt = terminal.expect(":/# ");
    let id = prompt.trim_end_matches(":/# ").to_owned();
    assert!(
        id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );

    terminal.send("hostname\r");
    terminal.expect(&format!("{id}\n"));
    terminal.expect(":/# ");

    terminal.send("ps -e -o pid=,comm=,tty=\r");
    // Bash tells the terminal when a paste may come, and when not.
    let processes = terminal.expect(":/# ").replace("\u{1b}[?2004l", "");
    let rows: Vec<Vec<&str>> = processes
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<&str>| row.len() == 3)
        .collect();
    assert_eq!(rows[0], ["1", "bash", "pts/0"], "{processes}");
    assert_eq!(rows.len(), 2, "bash and ps: {processes}");

    terminal.send("id; tty; test -c /dev/console && echo console; echo $TERM\r");
    terminal.expect("uid=0(root) gid=0(root)");
    terminal.expect("/dev/pts/0\nconsole\nxterm\n");

    terminal.send("exit 3\r");
    assert_eq!(terminal.wait(), 3);
    assert!(terminal.is_cooked(), "the terminal is as it was");
    assert_nothing_left(&ddock, &id);
}

#[test]
fn the_size_is_there_before_the_command_starts() {
    let (ddock, image) = Ddock::with_busybox();
    for (rows, columns) in [(24, 80), (2, 2), (50, 200), (300, 1000)] {
        for flags in ["-it", "-t"] {
            let command = ddock.command(&["run", "--rm", flags, &image, "stty", "size"]);
            let mut terminal = Terminal::start(&command, rows, columns);
            terminal.expect(&format!("{rows} {columns}\n"));
            assert_eq!(terminal.wait(), 0, "{flags} {rows}x{columns}");
        }
    }
}

#[test]
fn a_terminal_of_one_cell_is_one() {
    // Busybox takes that for a terminal that does not know its size.
    let (ddock, image) = with_distribution();
    for flags in ["-it", "-t"] {
        let command = ddock.command(&["run", "--rm", flags, &image, "stty", "size"]);
        let mut terminal = Terminal::start(&command, 1, 1);
        terminal.expect("1 1\n");
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn a_resize_follows() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let command = ddock.command(&["run", "--rm", "-it", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("ready\n");
    for (rows, columns) in [(30, 100), (10, 40)] {
        terminal.resize(rows, columns);
        terminal.expect(&format!("{rows} {columns}\n"));
    }
}

#[test]
fn control_c_is_a_key_for_the_shell() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let mut terminal = Terminal::start(
        &ddock.command(&["run", "--rm", "-it", &image, "sh"]),
        24,
        80,
    );
    terminal.expect("# ");
    terminal.send(&format!("sleep {seconds}\r"));
    wait_for("sleep to run", || {
        (processes_with(&seconds).len() == 1).then_some(())
    });
    terminal.send("\u{3}");
    terminal.expect("# ");
    assert_eq!(processes_with(&seconds), [0; 0]);
    terminal.send("echo still $((20+2))\r");
    terminal.expect("still 22\n");
    terminal.expect("# ");
    terminal.send("\u{4}");
    terminal.wait();
    assert!(terminal.is_cooked());
}

#[test]
fn what_a_terminal_shows_has_both_streams_and_line_ends() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo out; echo err >&2";
    let command = ddock.command(&["run", "--rm", "-t", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("out\nerr\n");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn the_last_output_is_never_lost() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "seq 1 20000; echo the very end";
    let command = ddock.command(&["run", "--rm", "-t", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("\n19999\n20000\nthe very end\n");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn the_terminal_is_restored_when_the_client_is_ended() {
    let (ddock, image) = Ddock::with_busybox();
    for signal in [Signal::TERM, Signal::HUP] {
        let mut terminal = Terminal::start(
            &ddock.command(&["run", "--rm", "-it", &image, "sh"]),
            24,
            80,
        );
        terminal.expect("# ");
        assert!(!terminal.is_cooked(), "raw while the shell runs");
        let client = Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap();
        // A shell ignores TERM, so that only the end of its terminal ends it: say `exit` where it still lives.
        kill_process(client, signal).unwrap();
        terminal.send("exit 0\r");
        terminal.wait();
        assert!(terminal.is_cooked(), "{signal:?}");
    }
}

#[test]
fn a_stopped_client_gives_the_terminal_back_and_takes_it_again() {
    let (ddock, image) = Ddock::with_busybox();
    let command = ddock.command(&["run", "--rm", "-it", &image, "sh"]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("# ");
    let client = Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap();
    for _ in 0..3 {
        kill_process(client, Signal::TSTP).unwrap();
        wait_for("the terminal to be given back", || {
            terminal.is_cooked().then_some(())
        });
        terminal.resize(33, 99);
        kill_process(client, Signal::CONT).unwrap();
        terminal.expect_raw();
    }
    terminal.send("stty size\r");
    terminal.expect("33 99\n");
    terminal.send("exit 5\r");
    assert_eq!(terminal.wait(), 5);
}

#[test]
fn a_lone_control_p_is_bashs_and_control_p_control_q_detaches() {
    let (ddock, image) = with_distribution();
    let command = ddock.command(&["run", "--name", "left", "-it", &image, "/bin/bash"]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect(":/# ");
    terminal.send("echo one $((20+2))\r");
    terminal.expect("one 22\n");
    terminal.expect(":/# ");
    let pressed = std::time::Instant::now();
    terminal.send("\u{10}");
    terminal.expect("echo one $((20+2))");
    assert!(
        pressed.elapsed().as_millis() < 500,
        "{:?}",
        pressed.elapsed()
    );
    terminal.send("\u{15}sleep 1; echo later\r");
    terminal.expect("later");
    terminal.send("\u{10}\u{11}");
    terminal.expect("read escape sequence");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_cooked());
    assert!(ddock.ok(&["ps"]).contains("left"), "it runs on");
    // Its terminal is drained by nobody but the monitor, and all of it is in the log.
    let mut terminal = Terminal::start(&ddock.command(&["attach", "left"]), 40, 100);
    terminal.expect_raw();
    terminal.send("seq 1 5000; stty size; exit 9\r");
    terminal.expect("\n5000\n40 100\n");
    assert_eq!(terminal.wait(), 9);
    assert!(ddock.ok(&["logs", "left"]).contains("\n5000\r\n40 100\r\n"));
}

#[test]
fn other_keys_detach_where_the_user_says_so() {
    let (ddock, image) = Ddock::with_busybox();
    fs_err::create_dir(ddock.scratch().join(".docker")).unwrap();
    ddock
        .scratch()
        .file(".docker/config.json", r#"{"detachKeys": "ctrl-a,z"}"#);
    for (flags, keys) in [(&[][..], "\u{1}z"), (&["--detach-keys", "x,y"], "xy")] {
        let mut args = vec!["run", "-it"];
        args.extend(flags);
        args.extend([&*image, "sh"]);
        let mut terminal = Terminal::start(&ddock.command(&args), 24, 80);
        terminal.expect("# ");
        terminal.send(keys);
        terminal.expect("read escape sequence");
        assert_eq!(terminal.wait(), 0);
    }
    for id in ddock.containers() {
        ddock.ok(&["rm", "-f", &id]);
    }
    ddock
        .run(&["run", "--rm", "--detach-keys", "ctrl-1", &image, "true"])
        .exits(125)
        .says("invalid detach keys (ctrl-1) provided");
}

#[test]
fn noraw_leaves_the_terminal_as_it_is() {
    let (ddock, image) = Ddock::with_busybox();
    let mut command = ddock.command(&["run", "--rm", "-it", &image, "sh"]);
    command.env("NORAW", "1");
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("# ");
    assert!(terminal.is_cooked());
    terminal.send("exit 4\n");
    assert_eq!(terminal.wait(), 4);
}

#[test]
fn three_times_control_c_end_what_does_not_react() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let command = ddock.command(&["run", "--rm", &image, "sleep", &seconds]);
    let mut terminal = Terminal::start(&command, 24, 80);
    wait_for_process("sleep", &seconds);
    // Signals that a busy client has not read yet are one (signal(7)), so three keys may be too few.
    wait_for("the container to be killed", || {
        terminal.send("\u{3}");
        processes_with(&seconds).is_empty().then_some(())
    });
    terminal.expect("once more kills the container");
    assert_eq!(terminal.wait(), 137);
    assert_eq!(processes_with(&seconds), [0; 0]);
}

#[test]
fn a_closed_terminal_takes_the_container_along() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let command = ddock.command(&["run", "--rm", "-it", &image, "sh"]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("# ");
    terminal.send(&format!("sleep {seconds}\r"));
    wait_for("sleep to run", || {
        (processes_with(&seconds).len() == 1).then_some(())
    });
    let client = Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap();
    kill_process(client, Signal::KILL).unwrap();
    drop(terminal);
    wait_for("the container to end", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    wait_for("the container to be removed", || {
        ddock.containers().is_empty().then_some(())
    });
    assert_nothing_left(&ddock, "no-such-container");
}

#[test]
fn the_callers_terminal_is_never_handed_in() {
    let (ddock, image) = Ddock::with_busybox();
    // Without -t the command has pipes or relays, and no controlling terminal to push keys into.
    let script = "tty; for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done | grep -c pts; cat /dev/tty 2>&1 | head -n 1";
    let command = ddock.command(&["run", "--rm", "-i", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("not a tty\n0\n");
    terminal.expect("/dev/tty");
    terminal.wait();
}

#[test]
fn a_terminal_is_refused_where_there_is_none() {
    let (ddock, image) = Ddock::with_busybox();
    let output = ddock.run(&["run", "--rm", "-it", &image, "true"]);
    output.exits(1).says("stdin is not a terminal");
    assert_eq!(ddock.containers(), [""; 0]);
}
