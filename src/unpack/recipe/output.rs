//! The recipe's file: compressed by a thread of its own, so that the files of the layer do not wait for that.

use fs_err as fs;
use std::io::{self, Write as _};
use std::mem::take;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// zstd's level. Of Debian's minimal image, 1 makes 193 kB of 4.8 MB, 3 makes 189 kB, 6 makes 169 kB; all are far below what a recipe
/// may cost in bytes, so it is the quickest.
const LEVEL: i32 = 1;

/// Bytes that are handed over at a time, and how many such batches may wait.
const BATCH_SIZE: usize = 32 << 10;
const BATCHES: usize = 2;

/// A file that is written compressed.
pub(super) struct Output {
    batch: Vec<u8>,
    /// Absent once all was handed over.
    batches: Option<SyncSender<Vec<u8>>>,
    compressor: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    pub(super) fn start(file: fs::File) -> io::Result<Self> {
        let (batches, receiver) = sync_channel(BATCHES);
        let compressor = thread::Builder::new()
            .name("recipe".to_owned())
            .spawn(|| compress(receiver, file))?;
        Ok(Self {
            batch: Vec::new(),
            batches: Some(batches),
            compressor: Some(compressor),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.batch.extend_from_slice(bytes);
        if self.batch.len() >= BATCH_SIZE {
            self.hand_over();
        }
    }

    /// Writes the rest; returns the first error that there was.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_over();
        self.end()
    }

    fn hand_over(&mut self) {
        let next = Vec::with_capacity(BATCH_SIZE);
        let batch = std::mem::replace(&mut self.batch, next);
        if let Some(batches) = &self.batches {
            // Nobody takes any more after an error, which the end tells.
            batches.send(batch).ok();
        }
    }

    /// Waits for the thread.
    fn end(&mut self) -> io::Result<()> {
        drop(take(&mut self.batches));
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
fn compress(batches: Receiver<Vec<u8>>, file: fs::File) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    for batch in batches {
        encoder.write_all(&batch)?;
    }
    encoder.finish().map(drop)
}
