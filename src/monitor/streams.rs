//! Who gets which end of the command's standard streams.

use crate::container::log::Stream;
use crate::monitor::relay::Relay;
use crate::monitor::supervise::{Ends, Session};
use crate::runtime::Streams;
use anyhow::{Context, Result};
use rustix::fs::fstatfs;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{BorrowedFd, OwnedFd};

/// `f_type` of a pipe without a name (linux/magic.h).
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

/// The command's streams: what the client relays of them, and the ends for the monitor and the command.
pub(crate) struct Wiring {
    pub(crate) relays: Vec<Relay>,
    pub(crate) ends: Ends,
}

impl Wiring {
    /// Decides which way the streams go. Foreground output that nobody keeps does not go through the monitor.
    pub(crate) fn new(session: &Session, has_terminal: bool, is_logged: bool) -> Result<Self> {
        let mut wiring = Self {
            relays: Vec::new(),
            ends: Ends {
                streams: Streams {
                    stdin: None,
                    output: None,
                    handed: Vec::new(),
                },
                sources: Vec::new(),
                sinks: Vec::new(),
                input: None,
            },
        };
        if has_terminal {
            // All of the command's streams come with that.
            wiring.copy_to_client(session.stdout, Stream::Stdout)?;
            return Ok(wiring);
        }
        wiring.add_input(session)?;
        let is_direct = !is_logged
            && !session.detached
            && session.sig_proxy
            && session.stdout
            && session.stderr;
        let output = if is_direct {
            let stdout = hand_over(rustix::stdio::stdout(), &mut wiring.relays, Direction::Out)?;
            let stderr = hand_over(rustix::stdio::stderr(), &mut wiring.relays, Direction::Out)?;
            (stdout, stderr)
        } else {
            let stdout = wiring.through_monitor(session.stdout, Stream::Stdout)?;
            let stderr = wiring.through_monitor(session.stderr, Stream::Stderr)?;
            (stdout, stderr)
        };
        wiring.ends.streams.output = Some(output);
        Ok(wiring)
    }

    fn add_input(&mut self, session: &Session) -> Result<()> {
        if session.stdin {
            let stdin = hand_over(rustix::stdio::stdin(), &mut self.relays, Direction::In)?;
            self.ends.streams.stdin = Some(stdin);
        } else if session.keeps_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
            rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK)?;
            self.ends.streams.stdin = Some(read);
            self.ends.input = Some(write);
        }
        Ok(())
    }

    /// Returns the command's end of a stream that the monitor reads.
    fn through_monitor(&mut self, is_attached: bool, stream: Stream) -> Result<OwnedFd> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
        self.ends.sources.push((stream, read));
        self.copy_to_client(is_attached, stream)?;
        Ok(write)
    }

    fn copy_to_client(&mut self, is_attached: bool, stream: Stream) -> Result<()> {
        if is_attached {
            let own = match stream {
                Stream::Stdout => rustix::stdio::stdout(),
                Stream::Stderr => rustix::stdio::stderr(),
            };
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
            self.relays.push(Relay::new(read, copy(own)?));
            self.ends.sinks.push((stream, write));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// Returns the command's end of one of the caller's streams: a pipe as it is, so that nothing is copied or lost.
///
/// Anything else is relayed: a container's root could open a file, a directory, a device or a
/// terminal again through `/proc/self/fd`, for writing too, or change its mode, a named pipe's as well.
fn hand_over(
    stream: BorrowedFd<'_>,
    relays: &mut Vec<Relay>,
    direction: Direction,
) -> Result<OwnedFd> {
    let own = copy(stream)?;
    if fstatfs(&own)?.f_type == PIPEFS_MAGIC {
        return Ok(own);
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    Ok(match direction {
        Direction::In => {
            rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK)?;
            relays.push(Relay::input(own, write));
            read
        }
        Direction::Out => {
            relays.push(Relay::new(read, own));
            write
        }
    })
}

/// Copies a descriptor; the copy closes on exec.
pub(crate) fn copy(descriptor: BorrowedFd<'_>) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(descriptor, 3).context("copying a standard stream")
}
