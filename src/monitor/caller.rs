//! What a client has of its caller, and whether that is still there: who reads its output, and the terminal.

use crate::container::log::Stream;
use crate::monitor::streams::{copy, own};
use crate::sys::signal;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionread};
use rustix::termios::isatty;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A stream of the caller's that takes nothing more, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) stream: Stream,
    pub(crate) error: Errno,
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let reason = nix::errno::Errno::from_raw(self.error.raw_os_error()).desc();
        write!(formatter, "write /dev/{name}: {}", reason.to_lowercase())
    }
}

/// The terminals of the caller's, and its pipes that the command writes to itself.
#[derive(Default)]
pub(super) struct Caller {
    /// The controlling one, and those among the standard streams.
    terminals: Vec<OwnedFd>,
    pipes: Vec<Pipe>,
}

/// What was found out about the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nobody reads what the command wrote.
    Reader(Cut),
    Terminal,
}

struct Pipe {
    stream: Stream,
    /// The writing end, which tells when the last reader has left; after that a reading end of our own, which tells when
    /// the command writes all the same. Docker's client notices no sooner: a command that has said all may go on.
    end: OwnedFd,
    is_ours: bool,
}

impl Caller {
    /// Returns what there is to watch; `direct` are the streams that are the command's own.
    ///
    /// A caller that ignores hang-ups, as `nohup` has it, has no terminal to lose.
    pub(super) fn new(direct: &[Stream]) -> Result<Self> {
        let mut terminals = Vec::new();
        if !signal::is_ignored(Signal::SIGHUP).context("looking for hang-ups")? {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            // Without a controlling terminal this is ENXIO, in some chroots ENOENT.
            terminals.extend(open("/dev/tty", flags, Mode::empty()));
            let streams = [
                rustix::stdio::stdin(),
                rustix::stdio::stdout(),
                rustix::stdio::stderr(),
            ];
            for stream in streams.into_iter().filter(|stream| isatty(stream)) {
                terminals.push(copy(stream)?);
            }
        }
        let pipes = direct.iter().map(|&stream| {
            let end = copy(own(stream))?;
            let is_ours = false;
            Ok(Pipe {
                stream,
                end,
                is_ours,
            })
        });
        Ok(Self {
            terminals,
            pipes: pipes.collect::<Result<_>>()?,
        })
    }

    /// Tells whether a hang-up means this caller: who has no terminal is told by it to read its configuration anew.
    pub(super) fn has_terminal(&self) -> bool {
        !self.terminals.is_empty()
    }

    /// Returns what to wait for, to be given to [`Caller::look`].
    pub(super) fn interests(&self) -> impl Iterator<Item = PollFd<'_>> {
        let terminals = self.terminals.iter();
        let terminals = terminals.map(|it| PollFd::new(it, PollFlags::empty()));
        let pipes = self.pipes.iter().map(|pipe| {
            let flags = if pipe.is_ours {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            PollFd::new(&pipe.end, flags)
        });
        terminals.chain(pipes)
    }

    /// Returns what was lost, where `ready` tells of each interest whether it came.
    pub(super) fn look(&mut self, ready: &[bool]) -> Option<Loss> {
        let (terminals, pipes) = ready.split_at(ready.len().min(self.terminals.len()));
        if terminals.contains(&true) {
            return Some(Loss::Terminal);
        }
        let mut ready = pipes.iter();
        let mut cut = None;
        self.pipes.retain_mut(|pipe| {
            let found = ready.next().filter(|it| **it).and_then(|_| pipe.look());
            cut = cut.or(found);
            found.is_none()
        });
        cut.map(Loss::Reader)
    }
}

impl Pipe {
    /// Takes the place of the last reader that left, or finds that the command has written since.
    fn look(&mut self) -> Option<Cut> {
        if !self.is_ours {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let path = format!("/proc/self/fd/{}", self.end.as_raw_fd());
            if let Ok(reader) = open(path, flags, Mode::empty()) {
                // What was written while somebody could still read is no sign.
                empty(reader.as_fd());
                (self.end, self.is_ours) = (reader, true);
                return None;
            }
        }
        Some(Cut {
            stream: self.stream,
            error: Errno::PIPE,
        })
    }
}

/// Reads as much as is there now, and nothing that comes meanwhile.
fn empty(pipe: BorrowedFd<'_>) {
    let mut left = ioctl_fionread(pipe).unwrap_or(0);
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        match rustix::io::read(pipe, &mut buffer[..most]) {
            Ok(length) if length > 0 => left -= length as u64,
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}
