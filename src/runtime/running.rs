//! A command that runs in a container, as the process that started it holds it.

use crate::narration::{Step, tell};
use crate::runtime::cgroup::{self, Cgroup};
use crate::runtime::descendants;
use crate::runtime::status::{ExitStatus, wait};
use crate::sys::signal;
use anyhow::{Context, Result};
use rustix::process::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A command that runs: a container's, or one that only visits a container.
#[derive(Debug)]
pub(crate) struct Running {
    /// The host's PID of it.
    pub(crate) pid: u32,
    /// In clock ticks since boot: with the PID it names the process for good (proc(5), `starttime`).
    pub(crate) start_time: u64,
    /// The terminal's master, if the command has a terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// What the user should know of the limits.
    pub(crate) notices: Vec<String>,
    pub(super) pidfd: OwnedFd,
    /// None of one that only visits.
    pub(super) remains: Option<Remains>,
}

/// What a container leaves when its command has ended.
#[derive(Debug)]
pub(super) struct Remains {
    /// Where its cgroup is, as the spec says it.
    pub(super) cgroups_path: PathBuf,
    pub(super) cgroup: Cgroup,
    pub(super) keeper: Keeper,
}

/// What ends the processes that the command leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// The kernel, with PID 1 of their PID namespace.
    Namespace,
    /// Whoever cleans up, by their cgroup.
    Cgroup,
    /// The process that started the container, as their ancestor: there is no cgroup.
    Ancestor,
}

impl Running {
    /// Returns a descriptor that becomes readable when the command has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends the command signal `number`; that it has ended already is no error.
    pub(crate) fn signal(&self, number: i32) -> Result<()> {
        signal::send(self.pidfd.as_fd(), number).with_context(|| format!("sending signal {number}"))
    }

    /// Reaps processes of the container that this process has become the parent of, if it adopts any.
    pub(crate) fn reap_orphans(&self) -> Result<()> {
        let command = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match (&self.remains, command) {
            (Some(remains), Some(command)) if remains.keeper == Keeper::Ancestor => {
                descendants::reap(command)
            }
            _ => Ok(()),
        }
    }

    /// Waits for the command to end, then ends whatever else ran in the container and removes its cgroup.
    ///
    /// Returns also whether the kernel killed a process because the memory limit was reached.
    pub(crate) fn finish(self) -> Result<(ExitStatus, bool)> {
        let status = wait(self.pidfd.as_fd())?;
        let Some(remains) = self.remains else {
            return Ok((status, false));
        };
        match remains.keeper {
            Keeper::Namespace => {}
            Keeper::Cgroup => remains.cgroup.kill(cgroup::DEATH)?,
            Keeper::Ancestor => descendants::kill()?,
        }
        let out_of_memory = remains.cgroup.oom_killed();
        tell(|| Step::End {
            status: status.to_string(),
            out_of_memory,
            usage: remains.cgroup.usage(),
        });
        // With a PID namespace of its own everything died with PID 1: then this finds nothing.
        if remains.cgroup.remove(cgroup::REMOVAL).is_err() {
            remove_cgroup(&remains.cgroups_path, cgroup::DEATH)?;
        }
        Ok((status, out_of_memory))
    }
}

/// Ends whatever still runs in the cgroup of a container within `patience`, and removes it; nothing there is no error.
///
/// `path` is the spec's `cgroupsPath`.
pub(crate) fn remove_cgroup(path: &Path, patience: Duration) -> Result<()> {
    let left = Cgroup::open(path)?;
    left.kill(patience)?;
    left.remove(patience)
}

/// Opens the way into where processes that serve a container are counted; `path` is the spec's `cgroupsPath`.
pub(crate) fn servants_entrance(path: &Path) -> Result<Vec<OwnedFd>> {
    Cgroup::open(path)?.servants_entrance()
}
