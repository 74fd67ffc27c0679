//! A blob that arrives: one side adds to its segments, the other reads them from the start, as far as they are there.
//!
//! The bytes go through the store's partial blob, not through memory: so the network never waits for the disk,
//! several connections may bring parts of one blob, and what arrived is there after a death.

use crate::digest::{Algorithm, Digest, Hasher};
use crate::store::{Partial, Segments};
use fs_err as fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is there of a blob. Both sides have it.
pub(crate) struct Arriving {
    partial: Arc<Partial>,
    /// Of the whole blob, in bytes.
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    segments: Segments,
    /// Nothing comes any more.
    stopped: bool,
}

impl Arriving {
    /// Returns a blob of which `segments` are there already; they do not overlap.
    pub(crate) fn new(partial: Arc<Partial>, size: u64, segments: Segments) -> Self {
        let stopped = false;
        Self {
            partial,
            size,
            state: Mutex::new(State { segments, stopped }),
            changed: Condvar::new(),
        }
    }

    /// Notes that `length` more bytes are in the segment that begins at `start`; returns how many of the blob are there.
    pub(crate) fn add(&self, start: u64, length: u64) -> u64 {
        let mut state = self.state();
        *state.segments.entry(start).or_default() += length;
        self.changed.notify_all();
        state.segments.values().sum()
    }

    /// Returns how many bytes of the blob are there.
    pub(crate) fn received(&self) -> u64 {
        self.state().segments.values().sum()
    }

    /// Lets the reader fail, if it is not at the end yet: what is there is of no use any more.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The numbers are right at every point: a panic of the other side changes nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for bytes at `position`. Returns their segment, where it begins and where it ends so far.
    fn wait(&self, position: u64) -> io::Result<(u64, u64)> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return Err(io::Error::other("the download was stopped"));
            }
            let before = state.segments.range(..=position).next_back();
            let segment = before.map(|(start, length)| (*start, start + length));
            if let Some((start, end)) = segment
                && end > position
            {
                return Ok((start, end));
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Reads a blob in order and waits for what is missing; hashes what it reads.
pub(crate) struct Reader {
    arriving: Arc<Arriving>,
    position: u64,
    /// The segment that was read last, and where it begins.
    segment: Option<(u64, fs::File)>,
    hasher: Hasher,
}

impl Reader {
    pub(crate) fn new(arriving: Arc<Arriving>, algorithm: Algorithm) -> Self {
        Self {
            arriving,
            position: 0,
            segment: None,
            hasher: Hasher::new(algorithm),
        }
    }

    /// Reads what is left and returns the digest of the whole blob.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        let mut rest = vec![0; 64 << 10];
        while self.read(&mut rest)? > 0 {}
        Ok(self.hasher.finish())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.arriving.size || buffer.is_empty() {
            return Ok(0);
        }
        let (start, end) = self.arriving.wait(self.position)?;
        let file = match self.segment.take() {
            Some((found, file)) if found == start => file,
            _ => self.arriving.partial.read(start)?,
        };
        let length = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let length = length.min(buffer.len());
        let read = file
            .file()
            .read_at(&mut buffer[..length], self.position - start)?;
        if read == 0 {
            // It was there: somebody else is at work in the store.
            return Err(io::Error::other("what was downloaded is gone"));
        }
        self.segment = Some((start, file));
        self.hasher.update(&buffer[..read]);
        self.position += read as u64;
        Ok(read)
    }
}
