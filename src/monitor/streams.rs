//! Who gets which end of the command's standard streams.

use crate::monitor::relay::Relay;
use crate::runtime::Streams;
use anyhow::{Context, Result};
use rustix::fs::fstatfs;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `f_type` of a pipe without a name (linux/magic.h).
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

/// The command's streams, and what this process relays of them.
pub(crate) struct Wiring {
    pub(crate) streams: Streams,
    pub(crate) relays: Vec<Relay>,
}

impl Wiring {
    /// Wires the streams of a command with a terminal: all of them come with that.
    pub(crate) fn terminal() -> Self {
        Self {
            streams: Streams {
                stdin: None,
                output: None,
            },
            relays: Vec::new(),
        }
    }

    /// Wires the caller's own streams: pipes are handed over as they are, so that nothing is copied or lost.
    ///
    /// Anything else is relayed: a container's root could open a file, a directory, a device or a
    /// terminal again through `/proc/self/fd`, for writing too, or change its mode, a named pipe's as well.
    pub(crate) fn pipes(interactive: bool) -> Result<Self> {
        let mut relays = Vec::new();
        let stdin = if interactive {
            Some(hand_over(
                rustix::stdio::stdin(),
                &mut relays,
                Direction::In,
            )?)
        } else {
            None
        };
        let stdout = hand_over(rustix::stdio::stdout(), &mut relays, Direction::Out)?;
        let stderr = hand_over(rustix::stdio::stderr(), &mut relays, Direction::Out)?;
        let output = Some((stdout, stderr));
        Ok(Self {
            streams: Streams { stdin, output },
            relays,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

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

/// Relays between the caller's terminal and the container's, whose master is `master`.
pub(crate) fn terminal_relays(master: &OwnedFd, interactive: bool) -> Result<Vec<Relay>> {
    rustix::fs::fcntl_setfl(
        master,
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK,
    )?;
    let mut relays = vec![Relay::new(
        copy(master.as_fd())?,
        copy(rustix::stdio::stdout())?,
    )];
    if interactive {
        relays.push(Relay::input(
            copy(rustix::stdio::stdin())?,
            copy(master.as_fd())?,
        ));
    }
    Ok(relays)
}
