//! Processes that serve a container as long as it runs: forks of its monitor that end with it, whatever ends it.

use crate::sys::clone::{Child, Clone, end_child, fork};
use crate::sys::kernel::close_all_but;
use crate::sys::limit::raise_descriptors;
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, getppid, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// What is read at most of what a process says before it ends, in bytes.
const LONGEST: usize = 1024;

/// A process that ends with this value, or with the process that holds it.
pub(super) struct Helper {
    child: Child,
    /// What it writes to its standard error, if that comes here.
    said: Option<OwnedFd>,
}

impl From<Child> for Helper {
    fn from(child: Child) -> Self {
        Self { child, said: None }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // One that is dead already only needs to be reaped.
        pidfd_send_signal(&self.child.pidfd, Signal::KILL).ok();
        self.reap(WaitIdOptions::EXITED);
    }
}

impl AsFd for Helper {
    /// Returns what becomes readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
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
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (said, says) = pipe_with(flags).context("making a pipe")?;
        let parent = getpid();
        match fork()? {
            Clone::Parent(child) => Ok(Self {
                child,
                said: Some(said),
            }),
            Clone::Child => {
                // Without the guarantee, or without what it serves with, it is of no use.
                let ended = rustix::stdio::dup2_stderr(&says)
                    .context("being heard")
                    .and_then(|()| end_with(parent))
                    .and_then(|()| place.enter())
                    .and_then(|()| act());
                if let Err(error) = &ended {
                    let text = format!("{error:#}");
                    rustix::io::write(rustix::stdio::stderr(), text.as_bytes()).ok();
                }
                end_child(u8::from(ended.is_err()))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid.as_raw_nonzero().get().cast_unsigned()
    }

    pub(super) fn has_ended(&self) -> bool {
        let mut end = [PollFd::new(self, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut end, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Returns how the process ended, which it has, and what it said of that.
    pub(super) fn end(self) -> String {
        let status = self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let how = match status.map(|it| (it.exit_status(), it.terminating_signal())) {
            Some((Some(code), _)) => format!("ended with {code}"),
            Some((_, Some(signal))) => format!("was killed by signal {signal}"),
            _ => "ended".to_owned(),
        };
        let said = self.said.as_ref().map(what_waits).unwrap_or_default();
        // One line of a file of lines.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.is_empty() {
            how
        } else {
            format!("{how}: {said}")
        }
    }

    fn reap(&self, options: WaitIdOptions) -> Option<WaitIdStatus> {
        // Somebody else of this process may have done so.
        retry_on_intr(|| waitid(WaitId::PidFd(self.as_fd()), options)).ok()?
    }
}

/// Returns what was written to a pipe and waits there.
fn what_waits(pipe: &OwnedFd) -> String {
    let mut bytes = [0; LONGEST];
    let read = retry_on_intr(|| rustix::io::read(pipe, &mut bytes)).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// Has the kernel end this process when its parent ends, which was `parent` before there was this process.
pub(super) fn end_with(parent: Pid) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("asking to end with the monitor")?;
    // It may have ended before that was asked for. One in a PID namespace above has no number here.
    ensure!(
        getppid().is_none_or(|it| it == parent),
        "the monitor ended meanwhile"
    );
    Ok(())
}

/// Closes what this process has from its parent, but for `kept` and where it says why it ends, and returns how many
/// descriptors it can have.
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
    drop(null);
    close_all_but(kept)?;
    Ok(most)
}
