//! The caller's umask and personality, which any process has from whoever starts it: ddock goes on without them.
//!
//! What ddock makes is a daemon's in all but name: the modes of a store's files, a container's root and its `/etc/hosts`
//! are nobody's habit, and a container of a 64-bit machine says so, at random addresses.

use crate::sys::kernel;
use rustix::fs::Mode;
use rustix::process::umask;
use std::sync::OnceLock;

/// What files of ddock's own are made with: everybody may read, if the directories on the way let them.
const OWN: Mode = Mode::from_raw_mode(0o022);

/// The caller's umask, once it was left.
static CALLERS: OnceLock<Mode> = OnceLock::new();

/// Leaves both behind. To be called once, before anything is made.
pub(crate) fn leave() {
    CALLERS.get_or_init(|| umask(OWN));
    kernel::reset_personality();
}

/// Takes the caller's umask again, for this very program to be started anew in this process.
pub(crate) fn go_back() {
    umask(callers());
}

/// Calls `make`, which makes a file for the caller, as the caller's other programs make theirs.
pub(crate) fn as_caller<T>(make: impl FnOnce() -> T) -> T {
    umask(callers());
    let result = make();
    umask(OWN);
    result
}

fn callers() -> Mode {
    CALLERS.get().copied().unwrap_or(OWN)
}
