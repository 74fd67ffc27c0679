//! The way of a layer's bytes: from the compressed stream, through inflation and the hash, to the thread that writes files.

use crate::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Chain, Cursor, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes inflated at a time. Measured: 16 KiB cost a quarter of zlib-rs's speed, 1 MiB gains nothing.
const CHUNK_SIZE: usize = 256 << 10;

/// Chunks on their way, so that neither thread waits for the other at every one. 2 MiB a layer.
const CHUNKS: usize = 8;

/// log2 of the largest zstd window: 128 MiB, what `zstd -d` accepts without being asked. RFC 8878
/// recommends 8 MiB as the least; `zstd --ultra -22` needs all of it.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes that are looked at to tell a compression.
const MAGIC_SIZE: u64 = 6;

/// A stream whose first bytes were looked at.
type Peeked<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A layer's bytes, uncompressed.
enum Inflater<'a, R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<Gzip<Peeked<R>>>),
    Zstd(Box<zstd::Decoder<'a, Peeked<R>>>),
}

impl<R: Read> Inflater<'_, R> {
    /// Looks at the first bytes and chooses by them, as every engine does: media types are often wrong, and
    /// what a layer is, is settled by its digests. Nothing but gzip and zstd is ever inflated.
    fn new(mut stream: R) -> Result<Self> {
        let mut magic = Vec::new();
        (&mut stream).take(MAGIC_SIZE).read_to_end(&mut magic)?;
        let peeked = Cursor::new(magic.clone()).chain(stream);
        let stream = BufReader::with_capacity(CHUNK_SIZE, peeked);
        match magic[..] {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip(Box::new(Gzip::new(stream)))),
            // A frame, or a skippable one (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(stream)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                Ok(Self::Zstd(Box::new(decoder)))
            }
            [0xfd, b'7', b'z', b'X', b'Z', ..] => bail!("the layer is compressed with xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => bail!("the layer is compressed with bzip2"),
            _ => Ok(Self::Plain(stream)),
        }
    }
}

/// Returns what `stream` holds: gzip, zstd or neither.
pub(crate) fn inflate(stream: impl Read) -> Result<impl Read> {
    Inflater::new(stream)
}

impl<R: Read> Read for Inflater<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Gzip(stream) => stream.read(buffer),
            Self::Zstd(stream) => stream.read(buffer),
        }
    }
}

/// gzip members one after another, the last one perhaps padded with zeros (RFC 1952, 2.2; `gzip -d` takes the
/// padding, flate2's own multi-member decoder does not).
struct Gzip<R: BufRead> {
    /// Absent after the last member.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(stream: R) -> Self {
        Self {
            member: Some(GzDecoder::new(stream)),
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let mut stream = self.member.take().expect("matched").into_inner();
            match stream.fill_buf()?.first() {
                None => {}
                Some(0) => skip_zeros(&mut stream)?,
                Some(_) => self.member = Some(GzDecoder::new(stream)),
            }
        }
        Ok(0)
    }
}

fn skip_zeros(stream: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = stream.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            let why = "the gzip stream has something behind its end";
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        let length = bytes.len();
        stream.consume(length);
    }
}

/// What a stream held, once it was read to the end.
pub(crate) struct Summary {
    pub(crate) diff_id: Digest,
    pub(crate) tar_size: u64,
}

/// The end of the pipe that inflates. Buffers come back through `empty` and are filled again.
pub(crate) struct Inlet {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// The end of the pipe that is read.
pub(crate) struct Outlet {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

/// Returns both ends of a pipe that holds a bounded number of chunks.
pub(crate) fn pipe() -> (Inlet, Outlet) {
    let (full_in, full_out) = sync_channel(CHUNKS);
    let (empty_in, empty_out) = channel();
    for _ in 0..CHUNKS {
        empty_in.send(Vec::new()).expect("its receiver is here");
    }
    let inlet = Inlet {
        full: full_in,
        empty: empty_out,
    };
    let outlet = Outlet {
        full: full_out,
        empty: empty_in,
        chunk: Vec::new(),
        position: 0,
    };
    (inlet, outlet)
}

impl Inlet {
    /// Pumps the whole tar into the pipe. Returns nothing if the reader at the other end gave up first.
    pub(crate) fn pump(self, mut tar: impl Read, max_size: Option<u64>) -> Result<Option<Summary>> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut tar_size = 0;
        while let Ok(mut chunk) = self.empty.recv() {
            chunk.resize(CHUNK_SIZE, 0);
            let length = fill(&mut tar, &mut chunk).context("reading the layer")?;
            chunk.truncate(length);
            if chunk.is_empty() {
                let diff_id = hasher.finish();
                return Ok(Some(Summary { diff_id, tar_size }));
            }
            hasher.update(&chunk);
            tar_size += chunk.len() as u64;
            ensure!(
                max_size.is_none_or(|max| tar_size <= max),
                "the layer unpacks to more than {} bytes",
                max_size.unwrap_or_default()
            );
            if self.full.send(chunk).is_err() {
                break;
            }
        }
        Ok(None)
    }
}

/// Reads until `buffer` is full or the stream ends; returns the bytes read.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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

impl BufRead for Outlet {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len()
            && let Ok(chunk) = self.full.recv()
        {
            self.position = 0;
            let used = std::mem::replace(&mut self.chunk, chunk);
            // The inlet is gone after the last chunk: nobody wants the buffer then.
            self.empty.send(used).ok();
        }
        Ok(&self.chunk[self.position..])
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
