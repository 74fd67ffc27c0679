//! Killing a process that a record names by its PID and its start time.

use crate::runtime::stat;
use crate::sys::processes;
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Kills the process that had `pid` and began at `start_time`; that it is gone is no error.
///
/// The kernel may not allow that to who is in another user namespace, and the process may end all the same, with its parent:
/// for that is waited `patience`, and for the end of one that was killed.
pub(crate) fn kill(pid: u32, start_time: u64, patience: Duration) -> Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        bail!("{pid} is no PID");
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        other => other.context("opening the container's first process")?,
    };
    processes::are_shown()?;
    // Asked after the descriptor is ours: from here on it cannot become another process.
    match stat::start_time(pid.as_raw_nonzero().get().cast_unsigned()) {
        Ok(found) if found == start_time => {}
        _ => return Ok(()),
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Err(Errno::SRCH) => Ok(()),
        Ok(()) if patience.is_zero() => Ok(()),
        Ok(()) | Err(Errno::PERM) if ends_within(pidfd.as_fd(), patience)? => Ok(()),
        Ok(()) => bail!("killed, but still there: process {}", pid.as_raw_nonzero()),
        Err(error) => Err(error.into()),
    }
}

fn ends_within(pidfd: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let patience = Timespec::try_from(patience).context("a time in seconds")?;
    let mut ends = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = retry_on_intr(|| poll(&mut ends, Some(&patience)));
    Ok(ended.context("waiting for the container")? > 0)
}
