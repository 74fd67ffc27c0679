//! What the host can see of a container: after it is gone that must be nothing.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::Ddock;
use crate::harness::wait_for;

/// Fails the test unless everything that names this container or this store's containers is gone soon.
///
/// `id` is the container's ID or its first 12 digits.
pub(crate) fn assert_nothing_left(ddock: &Ddock, id: &str) {
    assert!(id.len() >= 12, "`{id}` is no container ID");
    let mut left = Vec::new();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < end {
        left = traces(ddock, id);
        if left.is_empty() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("left behind: {left:#?}");
}

/// Returns everything on the host that names this container, or this test's store outside of its layers.
pub(crate) fn traces(ddock: &Ddock, id: &str) -> Vec<String> {
    let id = &id[..12];
    let scratch = ddock.scratch().path().to_str().unwrap();
    let mut traces = Vec::new();

    let small = format!("{scratch}/small ");
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let named = |line: &&str| line.contains(id) || line.contains(scratch);
    let mounts = mounts.lines().filter(named);
    traces.extend(
        mounts
            .filter(|l| !l.contains(&small))
            .map(|l| format!("mount {l}")),
    );

    traces.extend(cgroups(id).into_iter().map(|path| format!("cgroup {path}")));

    for pid in processes() {
        let read = |file: &str| fs_err::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let all = [read("cmdline"), read("environ"), read("cgroup")].concat();
        let all = String::from_utf8_lossy(&all);
        if pid != std::process::id() && (all.contains(id) || all.contains(scratch)) {
            traces.push(format!("process {pid} {all:?}"));
        }
    }

    for dir in ["containers", "tmp", "leases"] {
        let Ok(entries) = fs_err::read_dir(ddock.root().join("v1").join(dir)) else {
            continue;
        };
        traces.extend(entries.map(|entry| format!("{}", entry.unwrap().path().display())));
    }
    traces
}

/// Returns the cgroup directories, of every hierarchy, with `id` in their names.
pub(crate) fn cgroups(id: &str) -> Vec<String> {
    let pattern = format!("*{id}*");
    // find, not a walk of our own: cgroups of other tests come and go under its feet, and it does not mind.
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &pattern])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

/// Returns the value of a container's cgroup file, whichever of the names its hierarchy has.
pub(crate) fn limit(id: &str, names: &[&str]) -> Option<String> {
    for dir in cgroups(id) {
        for name in names {
            if let Ok(value) = fs_err::read_to_string(format!("{dir}/{name}")) {
                return Some(value.trim().to_owned());
            }
        }
    }
    None
}

/// Returns a number of seconds to sleep that no other test sleeps: it tells a container's processes on the host.
pub(crate) fn unique_seconds() -> String {
    (10_000_000 + std::process::id()).to_string()
}

/// Returns the PIDs on the host whose command line has this text as an argument.
pub(crate) fn processes_with(argument: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    };
    processes().into_iter().filter(has).collect()
}

/// Returns the name of a process; empty if it is gone.
pub(crate) fn name_of(pid: u32) -> String {
    let name = fs_err::read_to_string(format!("/proc/{pid}/comm"));
    name.unwrap_or_default().trim_end().to_owned()
}

/// Returns the parent of a process: of a container's first one that is its monitor.
pub(crate) fn parent_of(pid: u32) -> u32 {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    parent.unwrap().parse().unwrap()
}

pub(crate) fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits for the process that a container runs, told by an argument that no other process has.
pub(crate) fn wait_for_process(program: &str, argument: &str) -> u32 {
    wait_for(&format!("`{program} {argument}` to run"), || {
        processes_with(argument).into_iter().find(|pid| {
            let line = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(program.as_bytes())
        })
    })
}

fn processes() -> Vec<u32> {
    let entries = fs_err::read_dir("/proc").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}
