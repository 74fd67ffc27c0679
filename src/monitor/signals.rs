//! Signals that the client passes on to the command.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Signals that do what they always do: faults, its children, its pipes, and those that stop a job in the background.
const KEPT: [Signal; 13] = [
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Signals of this process, read one by one instead of being handled.
pub(crate) struct Signals {
    read: SignalFd,
    set: SigSet,
}

impl Signals {
    /// Takes all signals that are passed on; children inherit that they are blocked.
    pub(crate) fn take() -> Result<Self> {
        let mut set = SigSet::all();
        for signal in KEPT {
            set.remove(signal);
        }
        Self::take_set(set)
    }

    /// Takes those that ask a process to end.
    pub(crate) fn take_endings() -> Result<Self> {
        Self::take_set(endings())
    }

    /// Takes what a monitor heeds: that the machine shuts down, and that a child has ended.
    pub(crate) fn take_of_monitor() -> Result<Self> {
        Self::take_set(SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]))
    }

    fn take_set(set: SigSet) -> Result<Self> {
        set.thread_block().context("blocking signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let read = SignalFd::with_flags(&set, flags).context("reading signals")?;
        Ok(Self { read, set })
    }

    /// Lets the signals do again what they did before.
    pub(crate) fn give_back(self) -> Result<()> {
        self.set.thread_unblock().context("unblocking signals")
    }

    /// Returns the next signal that is pending.
    pub(crate) fn next(&self) -> Result<Option<i32>> {
        match self.read.read_signal() {
            Ok(signal) => Ok(signal.and_then(|signal| i32::try_from(signal.ssi_signo).ok())),
            Err(Errno::EINTR) => Ok(None),
            Err(error) => Err(error).context("reading a signal"),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

fn endings() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

/// Undoes in a child what [`Signals::take_endings`] did in its parent.
pub(crate) fn heed_endings() -> Result<()> {
    endings().thread_unblock().context("unblocking signals")
}

/// What to do about one more ^C.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Forward,
    /// PID 1 ignores signals that it has no handler for: say how to stop it.
    Explain,
    Kill,
}

/// Counts ^C that come within two seconds of each other.
#[derive(Default)]
pub(crate) struct Interrupts {
    count: u32,
    last: Option<Instant>,
}

impl Interrupts {
    pub(crate) fn another(&mut self, now: Instant) -> Interrupt {
        let soon = |last: Instant| now.duration_since(last) < Duration::from_secs(2);
        self.count = if self.last.is_some_and(soon) {
            self.count + 1
        } else {
            1
        };
        self.last = Some(now);
        match self.count {
            1 => Interrupt::Forward,
            2 => Interrupt::Explain,
            _ => Interrupt::Kill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_interrupt_in_a_row_kills() {
        let mut interrupts = Interrupts::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(interrupts.another(at(0)), Interrupt::Forward);
        assert_eq!(interrupts.another(at(5)), Interrupt::Forward);
        assert_eq!(interrupts.another(at(6)), Interrupt::Explain);
        assert_eq!(interrupts.another(at(7)), Interrupt::Kill);
    }
}
