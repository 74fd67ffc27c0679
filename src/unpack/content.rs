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

fn copy(archive: &mut Archive<impl BufRead>, file: &OwnedFd) -> Result<()> {
    loop {
        let chunk = archive.chunk()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, chunk));
        archive.consume(written.context("writing it")?);
    }
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
