//! Limits are enforced or refused: read back inside and outside, and felt by what runs into them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::{Ddock, binary, output};
use crate::harness::host::{assert_nothing_left, cgroups, limit, unique_seconds};
use crate::harness::wait_for;

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

/// The program of checks that is the same everywhere.
pub(crate) const CHECKS: &str = include_str!("limits.sh");

/// What `limits.sh` says where every limit holds.
///
/// `weight` is what it says of I/O weights, which not every kernel has.
pub(crate) fn expected(version: u8, weight: &str) -> String {
    let by_version = |v1: &'static str, v2: &'static str| if version == 1 { v1 } else { v2 };
    [
        by_version(
            "memory 67108864 100663296 33554432",
            "memory 67108864 33554432 33554432",
        ),
        by_version("swap 9223372036854771712", "swap max"),
        by_version("cpu 512 25000 50000", "cpu 59 25000 50000 none"),
        "cpuset 0 0 0",
        weight,
        by_version(
            "rates DISK 1048576 DISK 50",
            "rates DISK rbps=1048576 wbps=max riops=max wiops=50 none",
        ),
        by_version("version 1 10 oom_kill_disable 1", "version 1 none none"),
        by_version("told 0", "told 2"),
        "killed 137 1",
        "killed below 5 1",
        "not killed 5 0",
        "bomb 0 1",
        "half",
        "3145728",
        "slow",
        "ulimit 100 200 0",
        "ulimit 125 1 1",
        "sysctl 77 1 0 0 2147483647",
        "sysctl 125 1",
        "sysctl 125 1",
        "score 500",
        "device 1:5 666 5",
        "5",
        "sh: can't create /dev/disk: Operation not permitted",
        "head: /k: Operation not permitted",
        "opens",
        "sh: can't create /k: Operation not permitted",
        "mknod: /k: Operation not permitted",
        "parent there",
        "left",
        "",
    ]
    .join("\n")
}

/// Java, for one, believes the limit of one only where it sees them all.
#[test]
fn a_limit_of_memory_or_processors_shows_all_that_limit_them() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cd /sys/fs/cgroup; test -e cgroup.controllers || \
        for it in memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpuacct/cpuacct.usage cpuset/cpuset.cpus; do \
        test -n \"$(cat $it)\" && grep -q $$ ${it%/*}/tasks || echo $it; done; \
        grep -E ':(memory|cpu|cpuacct|cpuset|cpu,cpuacct):' /proc/self/cgroup | grep -v ':/$'";
    for flag in ["-m=64m", "--cpus=0.5", "--cpuset-cpus=0", "-c=100"] {
        let said = ddock.run(&[
            "run",
            "--rm",
            "--network=none",
            flag,
            &image,
            "sh",
            "-c",
            script,
        ]);
        assert_eq!((said.stdout.as_str(), said.code), ("", 1), "{flag}");
    }
}

/// On cgroup v1 or hybrid, as the machine is; `vm.rs` has the others.
#[test]
fn every_limit_is_in_force_and_felt() {
    let (ddock, image) = Ddock::with_busybox();
    let work = ddock.scratch().dir("work");
    let script = work.join("limits.sh");
    fs_err::write(&script, CHECKS).unwrap();
    let prepare = "mkfifo $WORK/wait; truncate -s 4M $WORK/disk; DISK=$(losetup --find --show $WORK/disk); export DISK
        trap 'losetup --detach $DISK' EXIT; . $WORK/limits.sh";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", prepare]);
    shell.env("WORK", &work).env("DDOCK", binary());
    shell.env("DDOCK_ROOT", ddock.root()).env("IMAGE", image);
    let said = output(&mut shell);
    let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        2
    } else {
        1
    };
    let weight = said
        .lines()
        .into_iter()
        .find(|line| line.starts_with("weight "));
    // Set, or refused with the reason and the cure.
    let weight = weight.unwrap_or_default();
    assert!(
        [
            "weight 500",
            "weight default 500",
            "weight default 4950",
            "weight 2"
        ]
        .contains(&weight),
        "{}",
        said.text()
    );
    assert_said(&said.stdout, &expected(version, weight), &said.stderr);
}

#[test]
fn the_cgroup_of_a_monitor_that_died_is_removed_wherever_it_is() {
    let (ddock, image) = Ddock::with_busybox();
    let seconds = unique_seconds();
    let script = format!("hostname; sleep {seconds}; true");
    let parent = format!("/ddock-dead-{}", std::process::id());
    let mut client = ddock.command(&[
        "run",
        "--rm",
        "-m",
        "64m",
        "--cgroup-parent",
        &parent,
        &image,
        "sh",
        "-c",
        &script,
    ]);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut id = String::new();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    stdout.read_line(&mut id).unwrap();
    let id = id.trim_end();
    let made = cgroups(id);
    assert!(made.iter().any(|path| path.contains(&parent)), "{made:?}");

    let children = format!("/proc/{0}/task/{0}/children", client.id());
    let children = fs_err::read_to_string(children).unwrap();
    let monitor = children.split_whitespace().next().unwrap();
    let monitor = Pid::from_raw(monitor.parse().unwrap()).unwrap();
    kill_process(monitor, Signal::KILL).unwrap();
    client.wait().unwrap();
    wait_for("the container to be swept", || {
        ddock.containers().is_empty().then_some(())
    });
    assert_nothing_left(&ddock, id);
    for directory in made {
        // The parent stays, like Docker's: it may be somebody's. This one is ours.
        rustix::fs::rmdir(Path::new(&directory).parent().unwrap()).unwrap();
    }
}

/// Fails the test unless both are the same, and says which lines are not.
#[track_caller]
pub(crate) fn assert_said(said: &str, expected: &str, errors: &str) {
    assert!(
        said == expected,
        "said:\n{said}\nexpected:\n{expected}\nerrors:\n{errors}"
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
        (
            "--memory-swap",
            "64m",
            "You should always set the Memory limit",
        ),
        (
            "--cpuset-cpus",
            "4000",
            "Requested CPUs are not available - requested 4000",
        ),
        (
            "--blkio-weight",
            "5",
            "Range of blkio weight is from 10 to 1000",
        ),
        ("--device-read-bps", "/dev/null:1m", "not a block device"),
        ("--device-write-iops", "/dev/absent:1", "/dev/absent"),
        (
            "--oom-score-adj",
            "1001",
            "range for oom score adj is [-1000, 1000]",
        ),
        ("--ulimit", "files=1", "invalid ulimit type: files"),
        ("--sysctl", "kernel.hostname=x", "not allowed"),
        ("--device", "/dev/absent", "no such file or directory"),
        (
            "--device-cgroup-rule",
            "c 1",
            "invalid device cgroup format",
        ),
        ("--kernel-memory", "50m", "`--memory` counts its memory too"),
    ] {
        let value = format!("{flag}={value}");
        let output = ddock.run(&["run", "--rm", &value, &image, "true"]);
        output.exits(125).says(reason);
    }
}
