//! The recipe's file: compressed by a thread of its own, so that the files of the layer do not wait for that.

use crate::unpack::recipe::HEADER;
use fs_err as fs;
use std::io::{self, Write as _};
use std::mem::take;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

/// zstd's level. Of Debian's minimal image, 1 makes 178 kB of 1.1 MB, -5 makes 243 kB in two thirds of the time, which is a
/// few milliseconds for a gigabyte of tar.
const LEVEL: i32 = 1;

/// Bytes that are compressed at a time, as a frame by itself: so zstd copies none of them. And how many such batches may wait.
const BATCH_SIZE: usize = 128 << 10;
const BATCHES: usize = 2;

/// A file that is written compressed.
pub(super) struct Output {
    batch: Vec<u8>,
    /// Absent once all was handed over.
    full: Option<SyncSender<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    compressor: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    /// Begins a recipe in an empty file.
    pub(super) fn start(file: fs::File) -> io::Result<Self> {
        let (full, receiver) = sync_channel(BATCHES);
        let (sender, empty) = channel();
        let compressor = thread::Builder::new()
            .name("recipe".to_owned())
            .spawn(move || compress(&receiver, &sender, file))?;
        Ok(Self {
            batch: HEADER.to_vec(),
            full: Some(full),
            empty,
            compressor: Some(compressor),
        })
    }

    /// Begins a record of a kind; returns where the rest of it goes.
    pub(super) fn record(&mut self, kind: u8) -> &mut Vec<u8> {
        if self.batch.len() >= BATCH_SIZE {
            self.hand_over();
        }
        self.batch.push(kind);
        &mut self.batch
    }

    /// Returns the records that are not handed over yet: the last one may be gone on with.
    pub(super) fn batch(&mut self) -> &mut Vec<u8> {
        &mut self.batch
    }

    /// Writes the rest; returns the first error that there was.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_over();
        self.end()
    }

    fn hand_over(&mut self) {
        // Only the channel bounds how many there are.
        let next = self.empty.try_recv();
        let next = next.unwrap_or_else(|_| Vec::with_capacity(BATCH_SIZE));
        let batch = std::mem::replace(&mut self.batch, next);
        if let Some(full) = &self.full {
            // Nobody takes any more after an error, which the end tells.
            full.send(batch).ok();
        }
    }

    /// Waits for the thread.
    fn end(&mut self) -> io::Result<()> {
        drop(take(&mut self.full));
        let ended = take(&mut self.compressor).map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| {
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Of a recipe that nobody finished; what went wrong is told by who did not.
        self.end().ok();
    }
}

/// Compresses what arrives, until nothing does any more.
fn compress(
    full: &Receiver<Vec<u8>>,
    empty: &Sender<Vec<u8>>,
    mut file: fs::File,
) -> io::Result<()> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    let mut frame = Vec::new();
    for mut batch in full {
        frame.clear();
        frame.reserve(zstd::zstd_safe::compress_bound(batch.len()));
        compressor.compress_to_buffer(&batch, &mut frame)?;
        file.write_all(&frame)?;
        batch.clear();
        // Nobody wants it after the last one.
        empty.send(batch).ok();
    }
    Ok(())
}
