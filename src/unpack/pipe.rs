//! The way of a layer's bytes between threads: one inflates them, one hashes them, one writes files of them.

use crate::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result, ensure};
use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender, SyncSender, channel, sync_channel};

/// Bytes inflated at a time. Measured: 16 KiB cost a quarter of zlib-rs's speed, 1 MiB gains nothing.
const CHUNK_SIZE: usize = 256 << 10;

/// Bytes after which it is asked whether there is room for more.
const ROOM: u64 = 32 << 20;

/// Chunks that wait for an outlet, so that no thread waits for another at every one. With those in hand that is a little
/// more than 1 MiB a layer; as many are made as are needed, so that those who keep pace with each other find the bytes
/// in the processor's cache.
const WAITING: usize = 2;

/// Bytes that both outlets look at; whoever lets go of them last sends the buffer back.
type Chunk = Arc<Vec<u8>>;

/// The end of the pipe that inflates.
pub(crate) struct Inlet {
    full: [SyncSender<Chunk>; 2],
    empty: Receiver<Vec<u8>>,
}

/// An end of the pipe that is read.
pub(crate) struct Outlet {
    full: Receiver<Chunk>,
    empty: Sender<Vec<u8>>,
    chunk: Option<Chunk>,
    position: usize,
}

/// Returns the ends of a pipe that holds a bounded number of chunks: what goes in comes out at both outlets.
pub(crate) fn pipe() -> (Inlet, [Outlet; 2]) {
    let (empty_in, empty_out) = channel();
    let outlet = |full| Outlet {
        full,
        empty: empty_in.clone(),
        chunk: None,
        position: 0,
    };
    let (one, other) = (sync_channel(WAITING), sync_channel(WAITING));
    let inlet = Inlet {
        full: [one.0, other.0],
        empty: empty_out,
    };
    (inlet, [outlet(one.1), outlet(other.1)])
}

impl Inlet {
    /// Pumps the whole tar into the pipe; returns its size, or nothing if a reader at the other end gave up first. Asks every
    /// now and then whether there is `room` for more.
    pub(crate) fn pump(
        self,
        tar: &mut dyn Read,
        max_size: Option<u64>,
        room: &dyn Fn() -> Result<()>,
    ) -> Result<Option<u64>> {
        let mut tar_size = 0;
        let mut asked = 0;
        loop {
            // Only the channels bound how many there are. Nobody waits for one: an outlet that is gone took its own along.
            let mut chunk = self.empty.try_recv().unwrap_or_default();
            chunk.resize(CHUNK_SIZE, 0);
            let length = fill(tar, &mut chunk).context("reading the layer")?;
            chunk.truncate(length);
            if chunk.is_empty() {
                return Ok(Some(tar_size));
            }
            tar_size += chunk.len() as u64;
            ensure!(
                max_size.is_none_or(|max| tar_size <= max),
                "the layer unpacks to more than {} bytes (`DDOCK_LAYER_SIZE` is the most for any, `DDOCK_LAYER_RATIO` how \
                 many times its compressed size)",
                max_size.unwrap_or_default()
            );
            if tar_size >= asked {
                room()?;
                asked = tar_size + ROOM;
            }
            if self.send(Arc::new(chunk)).is_err() {
                return Ok(None);
            }
        }
    }

    /// Sends a chunk to both outlets, and keeps no hold of it: then the last of them would not be the last.
    fn send(&self, chunk: Chunk) -> Result<(), SendError<Chunk>> {
        let [one, other] = &self.full;
        one.send(Arc::clone(&chunk))?;
        other.send(chunk)
    }
}

/// Reads until `buffer` is full or the stream ends; returns the bytes read.
fn fill(stream: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match stream.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl Outlet {
    /// Reads to the end; returns the digest of all.
    pub(crate) fn hash(mut self) -> io::Result<Digest> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            let bytes = self.fill_buf()?;
            if bytes.is_empty() {
                return Ok(hasher.finish());
            }
            hasher.update(bytes);
            let length = bytes.len();
            self.consume(length);
        }
    }

    /// Lets go of what was read.
    fn give_back(&mut self) {
        if let Some(used) = self.chunk.take().and_then(Arc::into_inner) {
            // The inlet is gone after the last chunk: nobody wants the buffer then.
            self.empty.send(used).ok();
        }
        self.position = 0;
    }
}

impl BufRead for Outlet {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self
            .chunk
            .as_ref()
            .is_none_or(|chunk| self.position == chunk.len())
        {
            self.give_back();
            // At the end nobody sends any more.
            self.chunk = self.full.recv().ok();
        }
        Ok(self
            .chunk
            .as_ref()
            .map_or(&[], |chunk| &chunk[self.position..]))
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

/// Reads what is buffered: [`Read::read`] of a reader that has a buffer anyway.
pub(crate) fn read_buffered(reader: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let bytes = reader.fill_buf()?;
    let length = bytes.len().min(buffer.len());
    buffer[..length].copy_from_slice(&bytes[..length]);
    reader.consume(length);
    Ok(length)
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn an_outlet_that_is_gone_ends_the_pipe_whatever_it_held() {
        let (inlet, [hashed, written]) = pipe();
        let pump = thread::spawn(|| inlet.pump(&mut io::repeat(b'x'), None, &|| Ok(())));
        let hash = thread::spawn(|| hashed.hash());
        // What this outlet holds is of no more use to the other one: it was the last that held it.
        let held: Vec<Chunk> = written.full.iter().take(2 * WAITING).collect();
        while held.iter().any(|chunk| Arc::strong_count(chunk) > 1) {
            thread::yield_now();
        }
        drop((written, held));
        assert_eq!(pump.join().unwrap().unwrap(), None);
        hash.join().unwrap().unwrap();
    }
}
