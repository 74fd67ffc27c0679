//! What files hold, from the archive into each file.

use crate::unpack::archive::Archive;
use crate::unpack::sparse::Map;
use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use std::io::BufRead;

/// Writes the body of the archive's current entry to `file`, where `map` says if there is one. Calls `begin` with the offset of
/// each run of bytes.
pub(crate) fn write(
    archive: &mut Archive<impl BufRead>,
    file: &OwnedFd,
    map: Option<&Map>,
    begin: impl Fn(u64),
) -> Result<()> {
    match map {
        None => {
            begin(0);
            copy(archive, file)
        }
        Some(map) => copy_sparse(archive, file, map, begin),
    }
}

/// Zeros that are worth a hole, in bytes: sixteen pages of the kernel's cache.
const HOLE: usize = 64 << 10;

fn copy(archive: &mut Archive<impl BufRead>, file: &OwnedFd) -> Result<()> {
    let (mut offset, mut written) = (0, 0);
    loop {
        let chunk = archive.chunk()?;
        if chunk.is_empty() {
            break;
        }
        let length = if chunk.len() >= HOLE && is_zero(chunk) {
            chunk.len()
        } else {
            let length = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, chunk, offset));
            let length = length.context("writing it")?;
            written = offset + length as u64;
            length
        };
        offset += length as u64;
        archive.consume(length);
    }
    if written < offset {
        rustix::fs::ftruncate(file, offset).context("sizing it")?;
    }
    Ok(())
}

/// Tells whether there are only zeros. Nearly always the first bytes tell.
fn is_zero(bytes: &[u8]) -> bool {
    let any = |part: &[u8]| part.iter().fold(0, |any, byte| any | byte);
    bytes.chunks(1 << 10).all(|part| any(part) == 0)
}

/// Writes what the archive stores where the map says; the rest are holes. Calls `begin` with each segment's offset.
fn copy_sparse(
    archive: &mut Archive<impl BufRead>,
    file: &OwnedFd,
    map: &Map,
    begin: impl Fn(u64),
) -> Result<()> {
    rustix::fs::ftruncate(file, map.size).context("sizing it")?;
    for segment in &map.segments {
        let (mut offset, end) = (segment.offset, segment.offset + segment.length);
        begin(offset);
        while offset < end {
            let chunk = archive.chunk()?;
            let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let chunk = &chunk[..chunk.len().min(left)];
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, chunk, offset));
            let written = written.context("writing it")?;
            archive.consume(written);
            offset += written as u64;
        }
    }
    Ok(())
}
