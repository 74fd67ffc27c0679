//! A monitor that outlives its client.

use crate::sys::kernel;
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, open};

/// Lets go of all that was the caller's: its streams, its other descriptors, its directory, which could not be
/// unmounted otherwise, and the memory that reading its command line took.
pub(super) fn become_independent() -> Result<()> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.context("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    kernel::close_inherited_descriptors().context("closing the caller's descriptors")?;
    kernel::give_memory_back();
    rustix::process::chdir("/").context("leaving the caller's directory")
}
