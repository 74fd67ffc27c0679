//! Limits are enforced or refused: read back inside and outside, and felt by what runs into them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::ddock::Ddock;
use crate::harness::host::limit;

#[test]
fn limits_stand_in_the_cgroup_before_the_command_runs() {
    let (ddock, image) = Ddock::with_busybox();
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "33"];
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max 2>/dev/null || \
        cat memory.max cpu.max pids.max; hostname; read wait";
    let mut args = vec!["run", "--rm", "-i"];
    args.extend(flags);
    args.extend([&image, "sh", "-c", script]);
    let mut client = ddock.command(&args);
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let inside: Vec<String> = lines.take(4).map(Result::unwrap).collect();
    let id = inside[3].clone();
    let outside = |names: &[&str]| limit(&id, names).expect("a cgroup with this file");
    assert_eq!(
        outside(&["memory.limit_in_bytes", "memory.max"]),
        "67108864"
    );
    let quota = outside(&["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(outside(&["pids.max"]), "33");
    drop(client.stdin.take());
    client.wait().unwrap();
    assert_eq!(inside[0], "67108864");
    assert!(
        inside[1] == "50000" || inside[1] == "50000 100000",
        "{}",
        inside[1]
    );
    assert_eq!(inside[2], "33");
}

#[test]
fn a_command_that_takes_too_much_memory_is_killed() {
    let (ddock, image) = Ddock::with_busybox();
    // tail keeps the last line, and zeros are one line without an end.
    let script = "head -c 200m /dev/zero | tail > /dev/null";
    let output = ddock.run(&["run", "--rm", "-m", "32m", &image, "sh", "-c", script]);
    // tail is killed; sh lives and tells of it as the kernel does.
    output.exits(137);
    let output = ddock.run(&["run", "--rm", "-m", "32m", &image, "tail", "/dev/zero"]);
    output.exits(137).says("memory");
}

#[test]
fn a_fork_bomb_stays_in_its_box() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all";
    let output = ddock.run(&[
        "run",
        "--rm",
        "--pids-limit",
        "20",
        &image,
        "sh",
        "-c",
        script,
    ]);
    assert!(!output.stdout.contains("all"), "{}", output.text());
    assert!(output.stderr.contains("fork"), "{}", output.text());
}

#[test]
fn half_a_cpu_is_half_a_cpu() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "time -p timeout 2 sh -c 'while :; do :; done'";
    let output = ddock.run(&["run", "--rm", "--cpus", "0.5", &image, "sh", "-c", script]);
    let seconds = |name: &str| -> f64 {
        let line = output.stderr.lines().find(|line| line.starts_with(name));
        let (_, value) = line.unwrap().split_once(' ').unwrap();
        value.parse().unwrap()
    };
    let (used, passed) = (seconds("user") + seconds("sys"), seconds("real"));
    // The floor is low: on a busy machine it may not even have got its half.
    assert!(
        used < passed * 0.6 && used > 0.1,
        "{used} s of CPU in {passed} s"
    );
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let (ddock, image) = Ddock::with_busybox();
    for (flag, value, reason) in [
        ("--memory", "1m", "Minimum memory limit allowed is 6MB"),
        ("--memory", "lots", "lots"),
        ("--cpus", "99999", "range of CPUs is from 0.01 to"),
        ("--cpus", "-1", ""),
        ("--pids-limit", "many", "many"),
    ] {
        let value = format!("{flag}={value}");
        let output = ddock.run(&["run", "--rm", &value, &image, "true"]);
        output.exits(125).says(reason);
    }
}
