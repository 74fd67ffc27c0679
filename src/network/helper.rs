//! Processes that serve a container as long as it runs: forks of its monitor that end with it, whatever ends it.

use crate::sys::clone::{Child, Clone, end_child, fork};
use crate::sys::kernel::close_all_but;
use crate::sys::limit::raise_descriptors;
use anyhow::{Context, Result};
use rustix::io::retry_on_intr;
use rustix::process::{
    Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid,
};
use std::os::fd::{AsFd, OwnedFd, RawFd};

/// A process that ends with this value, or with the process that holds it.
pub(super) struct Helper(pub(super) Child);

impl Drop for Helper {
    fn drop(&mut self) {
        // One that is dead already only needs to be reaped.
        pidfd_send_signal(&self.0.pidfd, Signal::KILL).ok();
        retry_on_intr(|| waitid(WaitId::PidFd(self.0.pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
    }
}

/// Where processes that serve a container are counted: files of cgroups into which each writes `0`.
#[derive(Debug, Default)]
pub(crate) struct Place(Vec<OwnedFd>);

impl From<Vec<OwnedFd>> for Place {
    fn from(files: Vec<OwnedFd>) -> Self {
        Self(files)
    }
}

impl Place {
    fn enter(&self) -> Result<()> {
        let mut files = self.0.iter();
        files
            .try_for_each(|file| rustix::io::write(file, b"0").map(drop))
            .context("entering a cgroup of the container's")
    }
}

impl Helper {
    /// Does `act` in a process of its own, which is counted at `place`. Needs a process with one thread.
    pub(super) fn start(place: &Place, act: impl FnOnce() -> Result<()>) -> Result<Self> {
        match fork()? {
            Clone::Parent(child) => Ok(Self(child)),
            Clone::Child => {
                // Without the guarantee, or without what it serves with, it is of no use.
                let ended = set_parent_process_death_signal(Some(Signal::KILL))
                    .context("asking to end with the monitor")
                    .and_then(|()| place.enter())
                    .and_then(|()| act());
                end_child(u8::from(ended.is_err()))
            }
        }
    }
}

/// Closes what this process has from its parent, but for `kept`, and returns how many descriptors it can have.
///
/// Above all the ends of the monitor's channels: who waits for those must see them close.
pub(super) fn keep_only(kept: &[RawFd]) -> Result<usize> {
    let most = raise_descriptors();
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::empty(),
    )
    .context("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    close_all_but(kept)?;
    Ok(most)
}
