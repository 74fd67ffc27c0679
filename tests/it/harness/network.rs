//! A network of the test's own: loopback and nothing else, every port free, no way out.

use std::process::Command;

use nix::sched::CloneFlags;

use crate::harness::scratch::command_succeeds;

/// Moves this thread into a new network; so are the threads and processes that it starts from now on.
pub(crate) fn enter() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    command_succeeds(Command::new("ip").args(["link", "set", "lo", "up"]));
    // As on a host that has run a container before: ddock says so when it has to turn this on.
    fs_err::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
}

/// Does so unless it is in one already, or was started by a thread that is: whatever a test makes of links, rules and
/// ports is its own, and the machine never sees it.
pub(crate) fn enter_own() {
    let of = |process: &str| fs_err::read_link(format!("/proc/{process}/ns/net")).unwrap();
    // Whoever runs the tests is where they begin.
    let parent = std::os::unix::process::parent_id().to_string();
    if of("thread-self") == of(&parent) {
        enter();
    }
}

/// Limits what the kernel keeps for a reader of this network to `bytes` a connection.
///
/// What was sent and not yet read is lost when the reader is killed; by default that is up to 6 MiB (tcp(7)).
pub(crate) fn limit_receive_buffers(bytes: usize) {
    let set = format!("echo 4096 {bytes} {bytes} >/proc/sys/net/ipv4/tcp_rmem");
    command_succeeds(Command::new("sh").args(["-c", &set]));
}

/// Moves this thread, and what it starts from now on, into a mount namespace whose changes nobody else sees.
pub(crate) fn enter_private_mounts() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
    command_succeeds(Command::new("mount").args(["--make-rprivate", "/"]));
}
