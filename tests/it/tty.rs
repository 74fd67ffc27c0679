//! `run -it`: a person at a terminal.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::Ddock;
use crate::harness::host::{assert_nothing_left, processes_with, unique_seconds};
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
