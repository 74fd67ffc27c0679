//! Sparse files: the map from what a tar stores to where it stands in the file, in GNU tar's four formats.

use crate::unpack::header::{self, BLOCK_SIZE, Block};
use crate::unpack::pax::{self, SparseRecords};
use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;

/// A run of stored bytes and its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A sparse file's map: the file's size, and segments in order that do not overlap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) size: u64,
    pub(crate) segments: Vec<Segment>,
}

/// Which map a PAX header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    Nothing,
    /// Formats 0.0 and 0.1: in the header itself.
    Here,
    /// Format 1.0: at the start of the body.
    InBody,
}

// A header of type `S` and the blocks that continue it (GNU tar, `struct oldgnu_header`, `struct sparse_header`).
const OLD_SEGMENTS: Range<usize> = 386..482;
const OLD_EXTENDED: usize = 482;
const OLD_SIZE: Range<usize> = 483..495;
const MORE_SEGMENTS: Range<usize> = 0..504;
const MORE_EXTENDED: usize = 504;
const SEGMENT_SIZE: usize = 24;

impl Map {
    /// Accepts a map only if it leaves no doubt: segments in order, apart, inside the file,
    /// and together as long as the `stored` bytes.
    pub(crate) fn new(size: i64, pairs: &[(i64, i64)], stored: u64) -> Result<Self> {
        let size = u64::try_from(size).context("the sparse file's size is negative")?;
        let mut segments = Vec::with_capacity(pairs.len());
        let (mut end, mut sum) = (0, 0);
        for (offset, length) in pairs {
            let (Ok(offset), Ok(length)) = (u64::try_from(*offset), u64::try_from(*length)) else {
                bail!("the sparse map has a negative number");
            };
            // Neither can overflow: both were i64.
            ensure!(
                offset >= end && offset + length <= size,
                "the sparse map's segments overlap or leave the file"
            );
            end = offset + length;
            sum += length;
            segments.push(Segment { offset, length });
        }
        ensure!(
            sum == stored,
            "the sparse map covers {sum} bytes, {stored} are stored"
        );
        Ok(Self { size, segments })
    }
}

/// Reads the map of an old GNU sparse header, calling `more` for the blocks that continue it.
/// Returns the file's size and the segments.
pub(crate) fn old_gnu(
    block: &Block,
    mut more: impl FnMut() -> Result<Block>,
) -> Result<(i64, Vec<(i64, i64)>)> {
    let size = header::number(&block[OLD_SIZE])?;
    let mut pairs = Vec::new();
    old_segments(&block[OLD_SEGMENTS], &mut pairs)?;
    let mut extended = block[OLD_EXTENDED] != 0;
    while extended {
        let block = more()?;
        old_segments(&block[MORE_SEGMENTS], &mut pairs)?;
        extended = block[MORE_EXTENDED] != 0;
    }
    Ok((size, pairs))
}

fn old_segments(table: &[u8], pairs: &mut Vec<(i64, i64)>) -> Result<()> {
    for segment in table.chunks_exact(SEGMENT_SIZE) {
        let (offset, length) = segment.split_at(SEGMENT_SIZE / 2);
        if offset[0] == 0 {
            break;
        }
        pairs.push((header::number(offset)?, header::number(length)?));
    }
    Ok(())
}

impl SparseRecords {
    /// Tells where the map is; a version that nobody has defined is refused.
    pub(crate) fn announced(&self) -> Result<Announced> {
        match (&self.major[..], &self.minor[..]) {
            (b"1", b"0") => Ok(Announced::InBody),
            (b"", b"") if self.map.is_empty() && self.pairs.is_empty() => Ok(Announced::Nothing),
            // The first version did not number itself.
            (b"", b"") | (b"0", b"0" | b"1") => Ok(Announced::Here),
            _ => bail!("its sparse format is not known"),
        }
    }

    /// Returns the size of the file, where the records give it.
    pub(crate) fn file_size(&self) -> Result<Option<i64>> {
        Ok(pax::integer(&self.size)?.or(pax::integer(&self.real_size)?))
    }

    /// Returns the segments of formats 0.0 and 0.1.
    pub(crate) fn pairs(&self) -> Result<Vec<(i64, i64)>> {
        let numbers: Vec<&[u8]> = if !self.pairs.is_empty() {
            ensure!(self.map.is_empty(), "it has two sparse maps");
            self.pairs.iter().map(Vec::as_slice).collect()
        } else if self.map.is_empty() {
            Vec::new()
        } else {
            self.map.split(|byte| *byte == b',').collect()
        };
        let count = pax::integer(&self.count)?.and_then(|count| usize::try_from(count).ok());
        ensure!(
            numbers.len().is_multiple_of(2) && count == Some(numbers.len() / 2),
            "the sparse map has not as many segments as it says"
        );
        numbers
            .chunks_exact(2)
            .map(|pair| Ok((decimal(pair[0])?, decimal(pair[1])?)))
            .collect()
    }
}

/// Reads the map of format 1.0, decimal numbers a line, taking whole blocks of the body through `next`.
pub(crate) fn in_body(mut next: impl FnMut() -> Result<Block>) -> Result<Vec<(i64, i64)>> {
    let mut text = Vec::new();
    let mut at = 0;
    let mut line = || -> Result<i64> {
        loop {
            if let Some(length) = text[at..].iter().position(|byte| *byte == b'\n') {
                let number = decimal(&text[at..at + length]);
                at += length + 1;
                return number;
            }
            // No number has this many digits.
            ensure!(text.len() - at < BLOCK_SIZE, "the sparse map is malformed");
            text.drain(..at);
            at = 0;
            text.extend_from_slice(&next()?);
        }
    };
    let count = line()?;
    ensure!(count >= 0, "the sparse map is malformed");
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((line()?, line()?));
    }
    Ok(pairs)
}

fn decimal(text: &[u8]) -> Result<i64> {
    pax::integer(text)?.context("the sparse map is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_leave_doubt_are_refused() {
        assert!(Map::new(10, &[(0, 2), (2, 3), (8, 2), (10, 0)], 7).is_ok());
        assert!(Map::new(10, &[], 0).is_ok());
        for (size, pairs, stored) in [
            (-1, &[][..], 0),
            (10, &[(0, 2)], 3),
            (10, &[(0, 11)], 11),
            (10, &[(5, 2), (0, 2)], 4),
            (10, &[(0, 4), (3, 2)], 6),
            (10, &[(-1, 2)], 2),
            (10, &[(1, -2)], 0),
            (i64::MAX, &[(i64::MAX, i64::MAX)], 0),
        ] {
            assert!(Map::new(size, pairs, stored).is_err(), "{size} {pairs:?}");
        }
    }

    #[test]
    fn records_must_agree_with_their_count() {
        let records = |count: &[u8], map: &[u8]| SparseRecords {
            count: count.to_vec(),
            map: map.to_vec(),
            ..SparseRecords::default()
        };
        assert_eq!(records(b"2", b"0,1,5,2").pairs().unwrap(), [(0, 1), (5, 2)]);
        assert_eq!(records(b"0", b"").pairs().unwrap(), []);
        for (count, map) in [
            (&b""[..], &b"0,1"[..]),
            (b"2", b"0,1"),
            (b"1", b"0,1,2"),
            (b"1", b"0,"),
            (b"-1", b"0,1"),
            (b"9223372036854775807", b"0,1"),
        ] {
            assert!(records(count, map).pairs().is_err());
        }
    }

    #[test]
    fn a_map_in_the_body_takes_whole_blocks() {
        let mut text = b"1\n512\n3\n".to_vec();
        text.resize(BLOCK_SIZE, 0);
        let mut blocks = vec![text];
        let pairs = in_body(|| Ok(blocks.pop().unwrap().try_into().unwrap()));
        assert_eq!(pairs.unwrap(), [(512, 3)]);
        assert!(blocks.is_empty());
    }

    #[test]
    fn a_map_in_the_body_without_lines_is_refused() {
        assert!(in_body(|| Ok([b'1'; BLOCK_SIZE])).is_err());
        assert!(in_body(|| Ok([b'\n'; BLOCK_SIZE])).is_err());
    }
}
