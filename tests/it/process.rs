//! The life of a container's process: exit codes, signals, clients that die.

use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::{Ddock, binary};
use crate::harness::host::{assert_nothing_left, processes_with, unique_seconds, wait_for_process};
use crate::harness::wait_for;

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let (ddock, image) = Ddock::with_busybox();
    for code in [0, 1, 3, 125, 126, 127, 255] {
        let script = format!("exit {code}");
        ddock
            .run(&["run", "--rm", &image, "sh", "-c", &script])
            .exits(code);
    }
}

#[test]
fn death_by_a_signal_is_128_plus_its_number() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let mut client = ddock
        .command(&["run", "--rm", &image, "sleep", &seconds])
        .spawn()
        .unwrap();
    signal(wait_for_process("sleep", &seconds), Signal::KILL);
    assert_eq!(client.wait().unwrap().code(), Some(137));
}

#[test]
fn signals_to_the_client_reach_the_command() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "trap 'echo got TERM; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut client = ddock.command(&["run", "--rm", &image, "sh", "-c", script]);
    let mut client = client
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(client.id(), Signal::TERM);
    line.clear();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "got TERM\n");
    assert_eq!(client.wait().unwrap().code(), Some(9));
}

#[test]
fn nothing_is_left_after_the_exit() {
    let (ddock, image) = Ddock::with_busybox();
    let id = ddock.sh(&["--memory", "64m"], &image, "hostname");
    assert_nothing_left(&ddock, id.trim_end());
}

#[test]
fn nothing_is_left_after_a_start_that_failed() {
    let (ddock, image) = Ddock::with_busybox();
    for args in [
        &["--name", "aaaaaaaaaaaa"][..],
        &["--name", "aaaaaaaaaaaa", "--memory", "64m"],
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend([&image, "absent"]);
        ddock.run(&all).exits(127);
        assert_nothing_left(&ddock, "aaaaaaaaaaaa");
    }
}

#[test]
fn children_die_with_pid_1() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let script = &format!("sleep {seconds} & (setsid sleep {seconds} &); exit 0");
    ddock.sh(&[], &image, script);
    assert_eq!(processes_with(&seconds), [0; 0]);
}

#[test]
fn a_killed_client_takes_its_container_along() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let mut client = ddock.command(&[
        "run",
        "--rm",
        "--memory",
        "64m",
        &image,
        "sh",
        "-c",
        &format!("hostname; sleep {seconds}; true"),
    ]);
    let mut client = client
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    let mut stdout = std::io::BufReader::new(client.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut id).unwrap();
    wait_for_process("sleep", &seconds);
    signal(client.id(), Signal::KILL);
    client.wait().unwrap();
    wait_for("the container to be killed", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    wait_for("the container to be removed", || {
        ddock.containers().is_empty().then_some(())
    });
    assert_nothing_left(&ddock, id.trim_end());
}

#[test]
fn a_client_killed_at_any_point_leaves_nothing() {
    // Spread over the few milliseconds that a start takes, and beyond.
    kill_clients((0..20).map(|step| step * 700), &["--rm"]);
}

#[test]
#[ignore = "takes minutes: scripts/test --long"]
fn a_client_killed_at_a_hundred_random_points_leaves_nothing() {
    let mut chance = crate::harness::chance::Chance::new(4);
    let mut delays = || {
        (0..100)
            .map(|_| chance.below(30_000) as u64)
            .collect::<Vec<_>>()
    };
    kill_clients(delays(), &["--rm"]);
    kill_clients(delays(), &["--rm", "--init", "-t"]);
}

/// Kills a client so many microseconds after its start, one after the other, and looks that nothing is left.
fn kill_clients(delays: impl IntoIterator<Item = u64>, flags: &[&str]) {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    for delay in delays {
        let mut args = vec!["run"];
        args.extend(flags);
        args.extend([&*image, "sleep", &seconds]);
        let mut client = ddock.command(&args);
        let mut client = client.stdin(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay));
        signal(client.id(), Signal::KILL);
        client.wait().unwrap();
    }
    wait_for("the containers to be killed", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    wait_for("the containers to be swept", || {
        ddock.containers().is_empty().then_some(())
    });
    assert_nothing_left(&ddock, "no-such-container");
}

#[test]
fn inherited_descriptors_do_not_reach_the_command() {
    let (ddock, image) = Ddock::with_busybox();
    let script = format!(
        "exec 7</etc/passwd 9</ ; exec {} run --rm {image} sh -c 'ls /proc/self/fd | wc -l; ls -l /proc/1/fd'",
        binary().display()
    );
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .env("DDOCK_ROOT", ddock.root())
        .stdin(Stdio::null());
    let output = crate::harness::ddock::output(&mut shell).exits(0);
    // 0, 1, 2 and the directory that ls reads.
    assert_eq!(output.lines()[0], "4", "{}", output.text());
    assert!(!output.stdout.contains("/etc/passwd"), "{}", output.text());
}

#[test]
fn signal_dispositions_mask_and_umask_are_fresh() {
    let (ddock, image) = Ddock::with_busybox();
    let script = format!(
        "trap '' INT PIPE HUP; umask 077; exec {} run --rm {image} sh -c 'umask; exec grep -E \"Sig(Blk|Ign)\" /proc/self/status'",
        binary().display()
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    let output = crate::harness::ddock::output(&mut shell).exits(0);
    let zeros = "0000000000000000";
    assert_eq!(
        output.stdout,
        format!("0022\nSigBlk:\t{zeros}\nSigIgn:\t{zeros}\n")
    );
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "a figure to be read, which depends on the machine"
)]
fn many_containers_at_once_do_not_disturb_each_other() {
    let (ddock, image) = Ddock::with_busybox();
    let everybody = Barrier::new(64);
    let run = &|number: i32| {
        let mut command = ddock.command(&["run", "--rm", &image, "sh", "-c"]);
        command.arg(format!("hostname; exit {number}"));
        command.stdin(Stdio::null());
        everybody.wait();
        let start = Instant::now();
        let output = command.output().unwrap();
        let took = start.elapsed();
        assert_eq!(output.status.code(), Some(number), "{output:?}");
        (output.stdout, took)
    };
    // Each is waited for by a thread of its own: the time of one says nothing of another's.
    let ended: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..64)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        let ended = started.into_iter().map(|thread| thread.join().unwrap());
        ended.collect()
    });
    let names: std::collections::HashSet<_> = ended.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 64);
    assert_eq!(ddock.containers(), [""; 0]);
    let mut times: Vec<_> = ended.iter().map(|(_, took)| *took).collect();
    times.sort();
    let (half, nearly_all) = (times[32], times[63]);
    eprintln!("of 64 runs at once half took {half:?} at most, and the slowest {nearly_all:?}");
    assert!(
        nearly_all < 4 * half,
        "one waits for the others: half took {half:?} at most, and the slowest {nearly_all:?}"
    );
}

#[test]
fn a_command_that_ends_at_once_is_never_waited_for_in_vain() {
    let (ddock, image) = Ddock::with_busybox();
    for _ in 0..100 {
        ddock.run(&["run", "--rm", &image, "true"]).exits(0);
    }
}
