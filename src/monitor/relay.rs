//! Relays: bytes from one descriptor to another, without blocking on either.

use crate::container::log::Stream;
use crate::monitor::caller::Cut;
use crate::monitor::keys::Watcher;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Read at a time; also what a relay holds at most.
const CAPACITY: usize = 64 << 10;

/// What a blocking descriptor that is ready for writing takes at once: a pipe's `PIPE_BUF` (pipe(7)).
const SAFE_WRITE: usize = 4096;

/// One direction of a stream, on its way through this process.
///
/// Descriptors of the caller's are never made non-blocking: that would change them for everyone who shares them.
pub(crate) struct Relay {
    from: OwnedFd,
    /// `None` once nobody reads any more.
    to: Option<OwnedFd>,
    /// What the kernel waits for where it passes the bytes on by itself, from one pipe to another (splice(2)).
    splice: Option<Wait>,
    /// How much a write may hold: all where none blocks.
    largest_write: usize,
    held: Vec<u8>,
    written: usize,
    at_end: bool,
    /// Which of the command's outputs this is; `None` for its input.
    output: Option<Stream>,
    /// Why the caller's stream takes nothing more. What the command writes is read all the same.
    failure: Option<Errno>,
    /// For a person's keys.
    keys: Option<Watcher>,
}

/// What a splice that moved nothing waits for, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Bytes,
    Room,
}

impl Relay {
    fn new(from: OwnedFd, to: OwnedFd) -> Self {
        let never_blocks = fcntl_getfl(&to).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
            || fstat(&to).is_ok_and(|to| FileType::from_raw_mode(to.st_mode).is_file());
        let is_pipe =
            |end| fstat(end).is_ok_and(|end| FileType::from_raw_mode(end.st_mode).is_fifo());
        Self {
            splice: (is_pipe(&from) && is_pipe(&to)).then_some(Wait::Bytes),
            from,
            to: Some(to),
            largest_write: if never_blocks { CAPACITY } else { SAFE_WRITE },
            held: Vec::new(),
            written: 0,
            at_end: false,
            output: None,
            failure: None,
            keys: None,
        }
    }

    /// A relay of the command's input.
    pub(crate) fn input(from: OwnedFd, to: OwnedFd) -> Self {
        Self::new(from, to)
    }

    /// A relay of one of the command's outputs.
    pub(crate) fn output(stream: Stream, from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            output: Some(stream),
            ..Self::new(from, to)
        }
    }

    /// A relay of what a person types.
    pub(crate) fn keyboard(from: OwnedFd, to: OwnedFd, keys: Watcher) -> Self {
        Self {
            splice: None,
            keys: Some(keys),
            ..Self::input(from, to)
        }
    }

    /// Returns when keys that are held back are to go on.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.keys.as_ref().and_then(Watcher::deadline)
    }

    /// Tells whether this is the command's input.
    pub(crate) fn is_input(&self) -> bool {
        self.output.is_none()
    }

    /// Returns why the caller does not get all of an output.
    pub(crate) fn cut(&self) -> Option<Cut> {
        let (stream, error) = (self.output?, self.failure?);
        Some(Cut { stream, error })
    }

    /// Tells whether the keys that detach were pressed.
    pub(crate) fn is_detaching(&self) -> bool {
        self.keys.as_ref().is_some_and(Watcher::is_complete)
    }

    /// Lets keys go on that were held back long enough.
    pub(crate) fn release_keys(&mut self, now: Instant) {
        if let Some(keys) = &mut self.keys {
            self.held.extend(keys.release(now));
        }
    }

    /// Returns what to wait for: to be readable when nothing is held, to be writable otherwise.
    /// `None` when all was said.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if !self.held.is_empty() || self.splice == Some(Wait::Room) {
            return self.to.as_ref().map(|to| (to.as_fd(), PollFlags::OUT));
        }
        (!self.at_end).then(|| (self.from.as_fd(), PollFlags::IN))
    }

    /// Moves what can be moved now that [`Relay::interest`] is satisfied.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        if let Some(wait) = self.splice {
            self.splice(wait);
            return Ok(());
        }
        if !self.held.is_empty() {
            self.write();
            return Ok(());
        }
        self.read()?;
        if self.failure.is_some() {
            self.held.clear();
        }
        // Whether a descriptor that may block is ready has to be asked first.
        if self.held.is_empty() || self.largest_write == SAFE_WRITE {
            return Ok(());
        }
        self.write();
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        // Not before there is something to read: a monitor is forked from this process.
        self.held.reserve_exact(CAPACITY);
        match rustix::io::read(&self.from, spare_capacity(&mut self.held)) {
            // A terminal's master says EIO when the last process has closed the other end (pty(7)).
            Ok(0) | Err(Errno::IO) => self.end(),
            Ok(_) => {
                if let Some(keys) = &mut self.keys {
                    keys.watch(&mut self.held, Instant::now());
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Has the kernel pass on what it can; that never blocks, whatever is set of the caller's end.
    fn splice(&mut self, waited_for: Wait) {
        let Some(to) = &self.to else {
            return;
        };
        match splice(&self.from, None, to, None, CAPACITY, SpliceFlags::NONBLOCK) {
            Ok(0) => self.end(),
            Ok(_) => self.splice = Some(Wait::Bytes),
            // Either end may be the reason: the one that was not waited for.
            Err(Errno::AGAIN) => {
                self.splice = Some(match waited_for {
                    Wait::Bytes => Wait::Room,
                    Wait::Room => Wait::Bytes,
                });
            }
            Err(Errno::INTR) => {}
            Err(error) => self.refuse(error),
        }
    }

    /// Nothing more can be written. What the command does not want to read is its own matter; what it writes is still read,
    /// so that it does not stand still.
    fn refuse(&mut self, error: Errno) {
        self.to = None;
        self.splice = None;
        self.written = self.held.len();
        if self.is_input() {
            self.at_end = true;
        } else {
            self.failure = Some(error);
        }
    }

    fn end(&mut self) {
        self.at_end = true;
        // For a pipe that is the end; a terminal stays open, because its output is relayed too.
        self.to = None;
    }

    fn write(&mut self) {
        let Some(to) = &self.to else {
            self.held.clear();
            return;
        };
        let rest = &self.held[self.written..];
        match rustix::io::write(to, &rest[..rest.len().min(self.largest_write)]) {
            Ok(written) => self.written += written,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(error) => self.refuse(error),
        }
        if self.written == self.held.len() {
            self.held.clear();
            self.written = 0;
        }
    }

    /// Tells whether nobody reads any more, so that the source should be closed.
    pub(crate) fn is_done(&self) -> bool {
        self.interest().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn every_byte_arrives_and_the_end_too() {
        let (read_in, write_in) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (read_out, write_out) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let sent: Vec<u8> = (0..30_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        rustix::io::write(&write_in, &sent).unwrap();
        drop(write_in);
        let mut relay = Relay::output(Stream::Stdout, read_in, write_out);
        while !relay.is_done() {
            relay.advance().unwrap();
        }
        let mut received = vec![0; 40_000];
        let length = rustix::io::read(&read_out, &mut received).unwrap();
        assert_eq!(received[..length], sent);
        assert_eq!(rustix::io::read(&read_out, &mut received).unwrap(), 0);
    }

    #[test]
    fn what_the_caller_does_not_take_is_said_and_the_command_goes_on() {
        for (path, error) in [(None, Errno::PIPE), (Some("/dev/full"), Errno::NOSPC)] {
            let (read_in, write_in) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let to = match path {
                Some(path) => fs_err::File::create(path).unwrap().into_parts().0.into(),
                None => pipe_with(PipeFlags::CLOEXEC).unwrap().1,
            };
            let mut relay = Relay::output(Stream::Stderr, read_in, to);
            for _ in 0..3 {
                rustix::io::write(&write_in, b"x").unwrap();
                // One step reads, the next finds nobody to write to.
                relay.advance().unwrap();
                if relay.cut().is_none() {
                    relay.advance().unwrap();
                }
            }
            let stream = Stream::Stderr;
            assert_eq!(relay.cut(), Some(Cut { stream, error }));
            assert!(!relay.is_done());
            drop(write_in);
            relay.advance().unwrap();
            assert!(relay.is_done());
        }
    }
}
