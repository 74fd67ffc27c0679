//! What a start may cost, in a number that is the same on a busy machine.

use crate::harness::ddock::{Ddock, output};
use std::process::Command;

/// System calls of `run --rm IMAGE true` of a cached image, in all of its processes: the client, the monitor, and the
/// first process until it has become `true` and ended.
///
/// Where they go, on a hybrid host: 300 to make mounts and what they lie on, 130 to confine the process, 100 to read the
/// image and keep the container's record, 70 to remove it, the rest to start three processes and hear of their ends. Each is
/// a microsecond or more of five milliseconds. Who needs more for what every start does raises this and says why; what a
/// flag asks for is not counted. Cgroup v2 has fewer mounts, a machine with thermal sensors one more a processor.
const MOST_CALLS: usize = 770;

#[test]
fn a_start_makes_a_bounded_number_of_system_calls() {
    let (ddock, image) = Ddock::with_busybox();
    let counts = ddock.scratch().path().join("counts");
    let run = ddock.command(&["run", "--rm", &image, "true"]);
    let mut strace = Command::new("strace");
    // A build for debugging asks of each descriptor whether it is open, before it closes it.
    strace.args(["-f", "-c", "-e", "trace=!fcntl", "-o"]);
    strace.arg(&counts);
    strace.arg(run.get_program()).args(run.get_args());
    strace.env_clear();
    for (name, value) in run.get_envs() {
        strace.env(name, value.unwrap());
    }
    output(&mut strace).exits(0);
    let table = fs_err::read_to_string(&counts).unwrap();
    let total = table.lines().last().unwrap();
    // % time, seconds, usecs/call, calls, errors, `total`
    let calls: usize = total.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(
        total.ends_with("total") && calls <= MOST_CALLS,
        "{calls} system calls, at most {MOST_CALLS}\n{table}"
    );
}
