//! What a start and what runs on may cost, in numbers that are the same on a busy machine.

use crate::harness::calls::Calls;
use crate::harness::ddock::Ddock;
use crate::harness::host::{unique_seconds, wait_for_process};
use crate::harness::wait_for;

/// System calls of `run --rm --network none IMAGE true` of a cached image, in all of its processes: the client, the
/// monitor, and the first process until it has become `true` and ended.
///
/// Where they go, on a hybrid host: 300 to make mounts and what they lie on, 130 to confine the process, 100 to read the
/// image and keep the container's record, 70 to remove it, the rest to start three processes and hear of their ends. Each is
/// a microsecond or more of five milliseconds. Who needs more for what every start does raises this and says why; what a
/// flag asks for is not counted. Cgroup v2 has fewer mounts, a machine with thermal sensors one more a processor.
///
/// Since it was 770: the command's keyring, two sysctls (6), `.dockerenv` and `/etc/mtab` (6), the attach socket (6), a
/// masked `/proc/interrupts` (6), that freed memory is given back before it is copied (5 calls that save 0.3 ms), and the
/// container's network (115, 15 of them messages to the kernel over netlink).
const MOST_CALLS: usize = 905;

#[test]
fn a_start_makes_a_bounded_number_of_system_calls() {
    let (ddock, image) = Ddock::with_busybox();
    let run = ddock.command(&["run", "--rm", "--network", "none", &image, "true"]);
    Calls::of(&run).at_most(MOST_CALLS, "a start");
}

/// KiB of a detached container's monitor that no other process has: pages that were written to since it was started.
/// Those of the binary's file are the page cache's.
///
/// More than half are relocations (`readelf -S`: `.data.rel.ro`, `.got`), the rest is heap and stack. The binary that users
/// get is what has to keep the promise; cargo's own, measured when `DDOCK_UNDER_TEST` is not set, relocates more.
const MOST_MEMORY: u64 = 512;
const MOST_MEMORY_OF_A_DEVELOPMENT_BUILD: u64 = 1600;

#[test]
fn a_monitor_keeps_little_memory_of_its_own() {
    let most = match std::env::var_os("DDOCK_UNDER_TEST") {
        Some(_) => MOST_MEMORY,
        None => MOST_MEMORY_OF_A_DEVELOPMENT_BUILD,
    };
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "-d", "--name", "kept", &image, "sleep", &seconds]);
    let command = wait_for_process("sleep", &seconds);
    let of = |pid: &str, file: &str, key: &str| {
        let text = fs_err::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap().trim().trim_end_matches(" kB").to_owned()
    };
    let monitor = of(&command.to_string(), "status", "PPid:");
    wait_for("the monitor to have let go of its client", || {
        let directory = fs_err::read_link(format!("/proc/{monitor}/cwd")).unwrap();
        (directory.to_str() == Some("/")).then_some(())
    });
    let own: u64 = of(&monitor, "smaps_rollup", "Anonymous:").parse().unwrap();
    ddock.ok(&["rm", "-f", "kept"]);
    assert!(own <= most, "{own} KiB, at most {most}");
}
