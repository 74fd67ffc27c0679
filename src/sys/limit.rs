//! How many descriptors this process may have: more for what serves a container, the caller's number for its command.

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;

/// What the caller gave this process; a fork has it too.
static CALLERS: OnceLock<Rlimit> = OnceLock::new();

/// Takes as many descriptors as the hard limit allows, and returns their number.
pub(crate) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let callers = CALLERS.get_or_init(|| limit);
    let raised = Rlimit {
        current: callers.maximum,
        maximum: callers.maximum,
    };
    // What there is does too.
    setrlimit(Resource::Nofile, raised).ok();
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(1 << 20, |it| usize::try_from(it).unwrap_or(1 << 20))
}

/// Below this number are the descriptors that a process needs to open files.
const LOW: RawFd = 32;

/// From here on none is in the way of a limit that a command is likely to have.
const HIGH: u64 = 1024;

/// Gives one of many descriptors a number beyond the caller's limit: a new descriptor takes the lowest that is free, and a
/// process that has the caller's limit again can open none but by a number below it.
pub(crate) fn out_of_the_way(descriptor: OwnedFd) -> OwnedFd {
    let limit = CALLERS.get().and_then(|callers| callers.current);
    let lowest = RawFd::try_from(limit.unwrap_or(HIGH).min(HIGH)).unwrap_or(LOW);
    if descriptor.as_raw_fd() < LOW {
        return descriptor;
    }
    // Where there are no such numbers it stays where it is.
    fcntl_dupfd_cloexec(&descriptor, lowest).unwrap_or(descriptor)
}

/// Takes back what [`raise_descriptors`] did, before a command is executed: many that use `select(2)` break with more.
pub(crate) fn restore_descriptors() -> rustix::io::Result<()> {
    let callers = CALLERS.get();
    callers.map_or(Ok(()), |callers| setrlimit(Resource::Nofile, *callers))
}
