//! The hub: what the command writes, on its way through the monitor to the log and to everyone attached.
//!
//! Nothing is dropped for anyone: the next is read once everybody has taken the last, so that the slowest
//! reader sets the pace, as at a pipe.

use crate::container::log::{Stream, Writer};
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Read at a time, in bytes, for each of two streams: the monitor is to stay small.
const CAPACITY: usize = 16 << 10;

/// The most that is taken in at the end without waiting for readers, in bytes: more than a pipe may hold
/// (pipe(7), `pipe-max-size`).
const REST: usize = 4 << 20;

/// How long the end of a stream is waited for once all its writers are dead.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

#[derive(Default)]
pub(crate) struct Hub {
    sources: Vec<Source>,
    log: Option<Writer>,
}

/// What comes out of the command.
struct Source {
    /// `None` at the end.
    from: Option<OwnedFd>,
    stream: Stream,
    /// Read, and not taken by every sink yet.
    held: Vec<u8>,
    sinks: Vec<Sink>,
    is_abandoned: bool,
}

/// Where a copy of it goes: a pipe of our own that never blocks.
struct Sink {
    client: u32,
    to: OwnedFd,
    written: usize,
    /// Whether the command is to see that nobody reads here any more, as it would without us.
    is_last: bool,
}

impl Hub {
    /// Keeps everything in `log` from now on.
    pub(crate) fn keep(&mut self, log: Writer) {
        self.log = Some(log);
    }

    pub(crate) fn add_source(&mut self, stream: Stream, from: OwnedFd) -> Result<()> {
        set_nonblocking(&from)?;
        self.sources.push(Source {
            from: Some(from),
            stream,
            held: Vec::new(),
            sinks: Vec::new(),
            is_abandoned: false,
        });
        Ok(())
    }

    /// Copies `stream` to `to` from now on, for the client of that number.
    pub(crate) fn add_sink(
        &mut self,
        client: u32,
        stream: Stream,
        to: OwnedFd,
        is_last: bool,
    ) -> Result<()> {
        // A write to anything else may block, or be kept for ever.
        let is_pipe = FileType::from_raw_mode(fstat(&to)?.st_mode).is_fifo();
        ensure!(is_pipe, "output goes to pipes only");
        set_nonblocking(&to)?;
        let source = self
            .sources
            .iter_mut()
            .find(|source| source.stream == stream);
        // A stream that is not there, or has ended, is an end at once.
        if let Some(source) = source.filter(|source| source.from.is_some()) {
            source.sinks.push(Sink {
                client,
                to,
                written: source.held.len(),
                is_last,
            });
        }
        Ok(())
    }

    /// Stops copying to a client that left.
    pub(crate) fn forget(&mut self, client: u32) {
        for source in &mut self.sources {
            source.sinks.retain(|sink| sink.client != client);
            source.settle();
        }
    }

    /// Tells whether there is anything to attach to.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Tells whether the client for whom the command runs reads nothing of it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_in_use() && self.sources.iter().all(|source| source.is_abandoned)
    }

    /// Adds what to wait for: sources without anything held, and sinks that have not taken what is.
    pub(crate) fn interests<'a>(&'a self, ends: &mut Vec<PollFd<'a>>) {
        for source in &self.sources {
            source.interests(ends);
        }
    }

    /// Moves what can be moved without waiting. A log that cannot be written is an error only after all has been moved.
    pub(crate) fn advance(&mut self) -> Result<()> {
        let mut logged = Ok(());
        for source in &mut self.sources {
            source.write();
            if source.held.is_empty() && source.read(CAPACITY)? > 0 {
                if let Some(log) = &mut self.log {
                    logged = logged.and(log.write(source.stream, &source.held));
                }
                source.write();
            }
        }
        logged.context("writing the log")
    }

    /// Takes in all that the command left when it ended, and completes the log.
    pub(crate) fn end(&mut self) -> Result<()> {
        let mut logged = Ok(());
        for source in &mut self.sources {
            loop {
                let before = source.held.len();
                if before > REST || !source.wait_for_more() {
                    break;
                }
                // At the end nothing is held any more if everyone has it all.
                let read = source.read(before + CAPACITY)?;
                if let Some(log) = self.log.as_mut().filter(|_| read > 0) {
                    logged = logged.and(log.write(source.stream, &source.held[before..]));
                }
            }
            source.from = None;
        }
        if let Some(log) = &mut self.log {
            logged = logged.and(log.finish());
        }
        logged.context("writing the log")
    }

    /// Gives everyone the rest at their own pace; returns when all of them have it, or left.
    pub(crate) fn deliver(&mut self) -> Result<()> {
        for source in &mut self.sources {
            source.from = None;
        }
        loop {
            for source in &mut self.sources {
                source.write();
            }
            let mut ends = Vec::new();
            self.interests(&mut ends);
            if ends.is_empty() {
                return Ok(());
            }
            match poll(&mut ends, None) {
                Err(Errno::INTR) => {}
                other => drop(other.context("waiting for readers")?),
            }
        }
    }
}

impl Source {
    fn interests<'a>(&'a self, ends: &mut Vec<PollFd<'a>>) {
        if self.held.is_empty() {
            let from = self.from.iter();
            ends.extend(from.map(|from| PollFd::new(from, PollFlags::IN)));
            return;
        }
        let behind = self
            .sinks
            .iter()
            .filter(|sink| sink.written < self.held.len());
        ends.extend(behind.map(|sink| PollFd::new(&sink.to, PollFlags::OUT)));
    }

    /// Reads until `length` bytes are held or there are no more; returns how many came.
    fn read(&mut self, length: usize) -> Result<usize> {
        let Some(from) = &self.from else {
            return Ok(0);
        };
        let before = self.held.len();
        self.held.resize(length, 0);
        let read = rustix::io::read(from, &mut self.held[before..]);
        self.held.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            // A terminal's master says EIO when the last process has closed the other end (pty(7)).
            Ok(0) | Err(Errno::IO) => {
                self.from = None;
                self.settle();
                Ok(0)
            }
            Ok(length) => Ok(length),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error).context("reading the command's output"),
        }
    }

    /// Waits until there is more to read, or for the end; false if neither comes.
    fn wait_for_more(&self) -> bool {
        let Some(from) = &self.from else {
            return false;
        };
        let mut ends = [PollFd::new(from, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ends, Some(&PATIENCE))).is_ok_and(|ready| ready > 0)
    }

    /// Writes to each sink what it takes now.
    fn write(&mut self) {
        let held = &self.held;
        let mut ends_here = false;
        self.sinks.retain_mut(|sink| {
            while sink.written < held.len() {
                match rustix::io::write(&sink.to, &held[sink.written..]) {
                    Ok(written) => sink.written += written,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return true,
                    // Its reader left.
                    Err(_) => {
                        ends_here |= sink.is_last;
                        return false;
                    }
                }
            }
            true
        });
        if ends_here {
            (self.from, self.is_abandoned) = (None, true);
        }
        self.settle();
    }

    /// Makes room once every sink has what is held, and lets them see the end.
    fn settle(&mut self) {
        if self
            .sinks
            .iter()
            .all(|sink| sink.written >= self.held.len())
        {
            self.held.clear();
            self.sinks.iter_mut().for_each(|sink| sink.written = 0);
            if self.from.is_none() {
                self.sinks.clear();
            }
        }
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> Result<()> {
    let descriptor: BorrowedFd<'_> = descriptor.as_fd();
    let flags = rustix::fs::fcntl_getfl(descriptor)? | rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(descriptor, flags).context("making a stream non-blocking")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::log::Reader;
    use crate::options::Rotation;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn the_slowest_reader_sets_the_pace_and_nobody_loses_a_byte() {
        let (from, command) = pipe();
        let (quick, quick_end) = pipe();
        let (slow, slow_end) = pipe();
        for end in [&command, &quick, &slow] {
            set_nonblocking(end).unwrap();
        }
        let mut hub = Hub::default();
        hub.add_source(Stream::Stdout, from).unwrap();
        hub.add_sink(0, Stream::Stdout, quick_end, true).unwrap();
        hub.add_sink(1, Stream::Stdout, slow_end, false).unwrap();
        let (mut sent, mut received) = (0_u32, [Vec::new(), Vec::new()]);
        let mut buffer = vec![0; 1 << 16];
        while received[1].len() < 400_000 {
            while sent < 100_000 && rustix::io::write(&command, &sent.to_le_bytes()).is_ok() {
                sent += 1;
            }
            hub.advance().unwrap();
            // The quick one reads all there is whenever it can, the slow one a little.
            if let Ok(length) = rustix::io::read(&quick, &mut buffer) {
                received[0].extend_from_slice(&buffer[..length]);
            }
            if let Ok(length) = rustix::io::read(&slow, &mut buffer[..999]) {
                received[1].extend_from_slice(&buffer[..length]);
            }
        }
        let expected: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        assert!(received[0] == expected && received[1] == expected);
    }

    #[test]
    fn the_command_sees_that_its_last_reader_left() {
        let (from, command) = pipe();
        let (reader, end) = pipe();
        let mut hub = Hub::default();
        hub.add_source(Stream::Stdout, from).unwrap();
        hub.add_sink(0, Stream::Stdout, end, true).unwrap();
        drop(reader);
        rustix::io::write(&command, b"x").unwrap();
        hub.advance().unwrap();
        assert_eq!(rustix::io::write(&command, b"x"), Err(Errno::PIPE));
    }

    #[test]
    fn what_nobody_but_the_log_reads_is_complete_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (from, command) = pipe();
        let mut hub = Hub::default();
        hub.keep(Writer::create(directory.path(), Rotation::default()).unwrap());
        hub.add_source(Stream::Stdout, from).unwrap();
        rustix::io::write(&command, b"the end").unwrap();
        drop(command);
        hub.end().unwrap();
        hub.deliver().unwrap();
        let entry = Reader::open(directory.path()).next().unwrap().unwrap();
        assert_eq!(entry.log, "the end");
    }

    #[test]
    fn what_is_left_at_the_end_is_delivered_and_ends() {
        let (from, command) = pipe();
        let (reader, end) = pipe();
        let mut hub = Hub::default();
        hub.add_source(Stream::Stderr, from).unwrap();
        hub.add_sink(0, Stream::Stderr, end, true).unwrap();
        rustix::io::write(&command, b"the end").unwrap();
        drop(command);
        hub.end().unwrap();
        hub.deliver().unwrap();
        let mut buffer = [0; 100];
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(7));
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(0));
    }
}
