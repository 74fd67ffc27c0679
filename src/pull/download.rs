//! Downloads: a blob's missing bytes into the store's partial blob, over one connection or several.

use crate::digest::Digest;
use crate::pull::arriving::Arriving;
use crate::registry::{Blob, Client, Piece};
use crate::store::{Partial, Segments};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Bytes that one request asks for at most when a blob is large enough to be split. Each costs a round trip or two.
const PART: u64 = 16 << 20;

/// What is missing is split if it is at least as large as this.
const SPLIT: u64 = 2 * PART;

/// Connections for one blob. One is often held back by the server; many are a burden for it.
const CONNECTIONS: usize = 4;

/// How often what arrived is written to disk, so that it counts after a power cut too.
const SYNC: Duration = Duration::from_secs(5);

/// Where in the blob a missing part lies, and the segment that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gap {
    /// Where the segment begins.
    segment: u64,
    part: Range<u64>,
}

/// A blob's way from the registry.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    pub(crate) partial: &'a Arc<Partial>,
    pub(crate) arriving: &'a Arriving,
    /// What the whole pull may have at once.
    pub(crate) connections: &'a Semaphore,
    pub(crate) tell: &'a dyn Fn(Progress),
}

/// What a download tells.
pub(crate) enum Progress {
    /// So much of the blob is here, in bytes.
    Received(u64),
    /// Nothing moves for so long.
    Retrying(Duration),
}

/// Cuts what is in `partial` to what can be a blob of `size` bytes and does not overlap, and returns it.
pub(crate) fn resume(partial: &Partial, size: u64) -> Result<Segments> {
    let mut found = partial.segments()?;
    let starts: Vec<u64> = found.keys().copied().collect();
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(size).min(size);
        let length = found.get_mut(start).expect("its key");
        let kept = (*length).min(end.saturating_sub(*start));
        if kept < *length {
            partial.truncate(*start, kept)?;
            *length = kept;
        }
    }
    found.retain(|_, length| *length > 0);
    Ok(found)
}

impl Download<'_> {
    /// Fetches what is missing. An error is one that no retry mends; what arrived stays.
    pub(crate) async fn run(&self, segments: &Segments) -> Result<()> {
        let gaps = RefCell::new(gaps(segments, self.size));
        if gaps.borrow().is_empty() {
            return Ok(());
        }
        let synced = Cell::new(Instant::now());
        let mut first = Some(self.connect().await?);
        // The first answer shows whether the server knows parts: only then others help.
        self.fetch_next(&gaps, &synced).await?;
        let workers = FuturesUnordered::new();
        for _ in 0..CONNECTIONS.min(gaps.borrow().len()) {
            let (gaps, synced, permit) = (&gaps, &synced, first.take());
            workers.push(async move {
                // Given back when nothing is left to fetch: the next one may be waiting for it.
                let _permit = match permit {
                    Some(permit) => permit,
                    None => self.connect().await?,
                };
                while self.fetch_next(gaps, synced).await? {}
                anyhow::Ok(())
            });
        }
        workers.try_collect().await
    }

    async fn connect(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let permit = self.connections.acquire().await;
        permit.context("the pull has ended")
    }

    /// Fetches the first of the gaps; false if there is none.
    async fn fetch_next(
        &self,
        gaps: &RefCell<VecDeque<Gap>>,
        synced: &Cell<Instant>,
    ) -> Result<bool> {
        let Some(Gap { segment, part }) = gaps.borrow_mut().pop_front() else {
            return Ok(false);
        };
        let mut file = self.partial.append(segment)?;
        let mut blob = self.client.blob(self.digest, self.size, part);
        while let Some(piece) = blob.next().await? {
            match piece {
                Piece::Retrying { wait, .. } => (self.tell)(Progress::Retrying(wait)),
                Piece::Bytes(bytes) => {
                    self.take_all(&mut blob, gaps);
                    self.write(&mut file, segment, &bytes)?;
                    self.sync(synced).await?;
                }
            }
        }
        Ok(true)
    }

    /// If the server sends the whole blob, whatever it is asked for, takes all that follows from this one answer
    /// where nothing of it is there yet: each of the other gaps would cost the whole blob again.
    fn take_all(&self, blob: &mut Blob<'_>, gaps: &RefCell<VecDeque<Gap>>) {
        let mut gaps = gaps.borrow_mut();
        if blob.is_whole() && blob.end() < self.size {
            let follows = |end: u64| gaps.iter().position(|gap| gap.part.start == end);
            if let Some(at) = follows(blob.end()) {
                let gap = gaps.remove(at).expect("its position");
                blob.extend(gap.part.end);
            }
        }
    }

    fn write(&self, file: &mut fs_err::File, segment: u64, bytes: &Bytes) -> Result<()> {
        file.write_all(bytes)?;
        let received = self.arriving.add(segment, bytes.len() as u64);
        (self.tell)(Progress::Received(received));
        Ok(())
    }

    async fn sync(&self, synced: &Cell<Instant>) -> Result<()> {
        if synced.get().elapsed() < SYNC {
            return Ok(());
        }
        synced.set(Instant::now());
        // Not on this thread: a slow disk must not hold up the network.
        let partial = Arc::clone(self.partial);
        tokio::task::spawn_blocking(move || partial.sync()).await?
    }
}

/// Returns what is missing of a blob of `size` bytes, in order, in parts for one request each.
fn gaps(segments: &Segments, size: u64) -> VecDeque<Gap> {
    let mut gaps = VecDeque::new();
    // The start of the segment before a gap, and where the gap begins.
    let mut before = (0, 0);
    let ends = segments.iter().map(|(start, length)| (*start, *length));
    for (start, length) in ends.chain([(size, 0)]) {
        let (segment, missing) = before;
        if missing < start {
            split(segment, missing..start, &mut gaps);
        }
        before = (start, start + length);
    }
    gaps
}

fn split(segment: u64, missing: Range<u64>, gaps: &mut VecDeque<Gap>) {
    let length = missing.end - missing.start;
    let step = if length >= SPLIT { PART } else { length };
    let mut start = missing.start;
    while start < missing.end {
        let end = missing.end.min(start + step);
        // What follows on bytes that are there belongs to their segment; the others begin new ones.
        let segment = if start == missing.start {
            segment
        } else {
            start
        };
        let part = start..end;
        gaps.push_back(Gap { segment, part });
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(segments: &[(u64, u64)], size: u64) -> Vec<(u64, Range<u64>)> {
        let segments = segments.iter().copied().collect();
        let gaps = gaps(&segments, size).into_iter();
        gaps.map(|gap| (gap.segment, gap.part)).collect()
    }

    #[test]
    fn gaps_are_what_is_missing_in_order() {
        assert_eq!(found(&[], 10), [(0, 0..10)]);
        assert_eq!(found(&[], 0), []);
        assert_eq!(found(&[(0, 10)], 10), []);
        assert_eq!(found(&[(0, 4)], 10), [(0, 4..10)]);
        assert_eq!(found(&[(6, 4)], 10), [(0, 0..6)]);
        assert_eq!(found(&[(0, 2), (4, 1)], 10), [(0, 2..4), (4, 5..10)]);
    }

    #[test]
    fn a_large_gap_is_split_and_its_start_belongs_to_the_segment_before() {
        let size = SPLIT + PART + 1;
        assert_eq!(
            found(&[(0, 1)], size),
            [
                (0, 1..PART + 1),
                (PART + 1, PART + 1..2 * PART + 1),
                (2 * PART + 1, 2 * PART + 1..size)
            ]
        );
        assert_eq!(found(&[], SPLIT - 1), [(0, 0..SPLIT - 1)]);
    }
}
