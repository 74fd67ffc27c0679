//! What an archive is compressed with.

use anyhow::Result;
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::io::{Cursor, Read};

/// Bytes that tell a compression.
const MAGIC_SIZE: u64 = 6;

/// log2 of the largest zstd window: 128 MiB, what `zstd -d` accepts without being asked.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes of memory that xz may take: `xz -9` needs 65 MiB.
const MAX_XZ_MEMORY: u32 = 256 << 10;

/// Returns what `stream` holds: gzip, zstd, xz, bzip2 or none of them, and whether it was compressed.
pub(crate) fn inflate<'a>(mut stream: impl Read + 'a) -> Result<(Box<dyn Read + 'a>, bool)> {
    let mut magic = Vec::new();
    stream.by_ref().take(MAGIC_SIZE).read_to_end(&mut magic)?;
    let peeked = Cursor::new(magic.clone()).chain(stream);
    let plain: Box<dyn Read> = match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(peeked)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::new(peeked)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Box::new(XzReader::new_mem_limit(peeked, true, MAX_XZ_MEMORY))
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(peeked)),
        _ => return Ok((Box::new(peeked), false)),
    };
    Ok((plain, true))
}
