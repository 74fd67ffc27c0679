//! Where the container's first process waits until its network is as it is to be.

use anyhow::{Context, Result, ensure};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;

/// A pipe of the parent's and the first process's, in each of which it is.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: OwnedFd,
    outside: OwnedFd,
}

impl Gate {
    pub(crate) fn new() -> Result<Self> {
        let (inside, outside) =
            pipe_with(PipeFlags::CLOEXEC).context("making a pipe to the container")?;
        Ok(Self { inside, outside })
    }

    /// Lets the first process go on; one that has ended already has said why.
    pub(crate) fn open(self) {
        rustix::io::write(&self.outside, &[1]).ok();
    }

    /// Waits for the parent, in the first process.
    pub(crate) fn wait(self) -> Result<()> {
        // Its own end would keep it waiting for a parent that is gone.
        drop(self.outside);
        let mut byte = [0];
        let read = retry_on_intr(|| rustix::io::read(&self.inside, &mut byte));
        ensure!(
            read.context("waiting for the network")? == 1,
            "the monitor died"
        );
        Ok(())
    }
}
