//! A layer's bytes: what a stream holds, compressed or not.

use anyhow::{Result, bail};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

/// Compressed bytes read at a time.
const INPUT_SIZE: usize = 64 << 10;

/// log2 of the largest zstd window: 128 MiB, what `zstd -d` accepts without being asked. RFC 8878
/// recommends 8 MiB as the least; `zstd --ultra -22` needs all of it.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes that are looked at to tell a compression.
const MAGIC_SIZE: u64 = 6;

/// Returns what `stream` holds: gzip, zstd or neither.
///
/// Looks at the first bytes and chooses by them, as every engine does: media types are often wrong, and what a layer is, is settled
/// by its digests. Nothing but gzip and zstd is ever inflated.
pub(crate) fn inflate<'a>(mut stream: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    (&mut stream).take(MAGIC_SIZE).read_to_end(&mut magic)?;
    let peeked = Cursor::new(magic.clone()).chain(stream);
    let buffered = |peeked| BufReader::with_capacity(INPUT_SIZE, peeked);
    match magic[..] {
        [0x1f, 0x8b, ..] => Ok(Box::new(Gzip::new(buffered(peeked)))),
        // A frame, or a skippable one (RFC 8878, 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(buffered(peeked))?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Ok(Box::new(decoder))
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => bail!("the layer is compressed with xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => bail!("the layer is compressed with bzip2"),
        // Without a buffer: its bytes go straight to where they are wanted.
        _ => Ok(Box::new(peeked)),
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
