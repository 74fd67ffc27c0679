//! The tally of a pull: how much of all its layers is here, how fast the rest comes, and when it ends.

use crate::human;
use crate::pull::{LayerId, LayerState};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The rate is that of the last so much time: steady enough to read, and at zero soon after nothing comes any more.
const WINDOW: Duration = Duration::from_secs(5);

/// How far apart the points are that the rate is taken from.
const STEP: Duration = Duration::from_millis(200);

/// What a pull's layers add up to. Sizes are compressed bytes.
pub(crate) struct Tally {
    layers: HashMap<LayerId, Account>,
    received: u64,
    size: u64,
    done: usize,
    /// What came over the network since the pull began; what was on disk before is not in it.
    moved: u64,
    /// When how much had moved, oldest first.
    points: VecDeque<(Instant, u64)>,
}

#[derive(Default)]
struct Account {
    received: u64,
    size: u64,
    downloading: bool,
    done: bool,
}

impl Tally {
    /// Returns the tally of a pull of `layers` that begins `now`.
    pub(crate) fn new(layers: &[LayerId], now: Instant) -> Self {
        let accounts = layers.iter().map(|id| (id.clone(), Account::default()));
        Self {
            layers: accounts.collect(),
            received: 0,
            size: 0,
            done: 0,
            moved: 0,
            points: VecDeque::from([(now, 0)]),
        }
    }

    /// Counts that the layer `id` is in `state` since `now`.
    pub(crate) fn note(&mut self, id: &LayerId, state: LayerState, now: Instant) {
        let Some(layer) = self.layers.get_mut(id) else {
            return;
        };
        let before = (layer.received, layer.size);
        match state {
            LayerState::Waiting { size } => layer.size = size,
            LayerState::Downloading { received, size } => {
                (layer.received, layer.size) = (received, size);
                // The first report tells where the download goes on from.
                if layer.downloading {
                    self.moved += received.saturating_sub(before.0);
                }
                layer.downloading = true;
            }
            LayerState::Retrying { .. } => {}
            LayerState::DownloadComplete => layer.received = layer.size,
            LayerState::AlreadyExists | LayerState::PullComplete => {
                layer.received = layer.size;
                self.done += usize::from(!layer.done);
                layer.done = true;
            }
        }
        // A retry may have to start again; the total goes back with it.
        self.received = self.received + layer.received - before.0;
        self.size = self.size + layer.size - before.1;
        let last = self.points.back().map(|(at, _)| *at);
        if last.is_none_or(|last| now.duration_since(last) >= STEP) {
            self.points.push_back((now, self.moved));
        }
        while self.points.len() > 1 && now.duration_since(self.points[1].0) >= WINDOW {
            self.points.pop_front();
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how much of the bytes is here, rounded down: 100 means all.
    pub(crate) fn percent(&self) -> u64 {
        match self.size {
            0 => 0,
            size => {
                u64::try_from(u128::from(self.received) * 100 / u128::from(size)).unwrap_or(100)
            }
        }
    }

    /// Returns the bytes a second of the last seconds.
    pub(crate) fn rate(&self, now: Instant) -> u64 {
        let recent = |point: &&(Instant, u64)| now.duration_since(point.0) <= WINDOW;
        // The last point before the window, if there is one: nothing came between it and the next.
        let from = self.points.iter().rev().find(|point| !recent(point));
        let Some((at, moved)) = from.or(self.points.front()) else {
            return 0;
        };
        let millis = now.duration_since(*at).min(WINDOW).as_millis().max(1);
        u64::try_from(u128::from(self.moved - moved) * 1000 / millis).unwrap_or(u64::MAX)
    }

    /// Returns how long the bytes still to come take at the present rate, `4s left`; empty if nobody can tell.
    pub(crate) fn left(&self, now: Instant) -> String {
        let Some(seconds) = (self.size - self.received).checked_div(self.rate(now)) else {
            return String::new();
        };
        match (seconds / 60, seconds % 60) {
            (0, seconds) => format!("{seconds}s left"),
            (minutes @ ..60, seconds) => format!("{minutes}m{seconds:02}s left"),
            (minutes @ ..6000, _) => format!("{}h{:02}m left", minutes / 60, minutes % 60),
            _ => String::new(),
        }
    }

    /// Returns `45% 13.2MB/29.7MB 4.1MB/s 4s left, 3 of 8 layers`.
    pub(crate) fn line(&self, now: Instant) -> String {
        let (received, size) = (human::size(self.received, 4), human::size(self.size, 4));
        let rate = human::size(self.rate(now), 3);
        let pace = match self.left(now) {
            _ if self.received == self.size => "unpacking".to_owned(),
            left if left.is_empty() => format!("{rate}/s"),
            left => format!("{rate}/s {left}"),
        };
        let (done, all) = (self.done, self.layers.len());
        let plural = if all == 1 { "" } else { "s" };
        format!(
            "{}% {received}/{size} {pace}, {done} of {all} layer{plural}",
            self.percent()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn downloading(received: u64) -> LayerState {
        LayerState::Downloading {
            received,
            size: 10_000_000,
        }
    }

    #[test]
    fn what_was_on_disk_counts_as_received_and_not_as_fast() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tally = Tally::new(&[a.clone(), b.clone()], start);
        tally.note(&b, LayerState::AlreadyExists, start);
        tally.note(&a, LayerState::Waiting { size: 10_000_000 }, start);
        tally.note(&a, downloading(5_000_000), start);
        assert_eq!((tally.percent(), tally.rate(at(1))), (50, 0));
        assert_eq!(tally.left(at(1)), "");
        tally.note(&a, downloading(6_000_000), at(1));
        tally.note(&a, downloading(7_000_000), at(2));
        assert_eq!(
            tally.line(at(2)),
            "70% 7MB/10MB 1MB/s 3s left, 1 of 2 layers"
        );
    }

    #[test]
    fn a_stall_shows_and_a_new_start_takes_bytes_back() {
        let a = Digest::of(b"a");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tally = Tally::new(std::slice::from_ref(&a), start);
        tally.note(&a, downloading(0), start);
        tally.note(&a, downloading(4_000_000), at(1));
        assert_eq!(tally.rate(at(1)), 4_000_000);
        assert_eq!(tally.rate(at(20)), 0);
        tally.note(&a, downloading(0), at(20));
        assert_eq!((tally.percent(), tally.received()), (0, 0));
        tally.note(&a, LayerState::DownloadComplete, at(21));
        assert_eq!(tally.line(at(21)), "100% 10MB/10MB unpacking, 0 of 1 layer");
        tally.note(&a, LayerState::PullComplete, at(22));
        tally.note(&a, LayerState::PullComplete, at(22));
        assert!(tally.line(at(22)).ends_with("1 of 1 layer"));
    }

    #[test]
    fn long_waits_are_in_hours_and_endless_ones_are_not_shown() {
        let a = Digest::of(b"a");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tally = Tally::new(std::slice::from_ref(&a), start);
        let of = |received| LayerState::Downloading {
            received,
            size: 1 << 40,
        };
        tally.note(&a, of(0), start);
        tally.note(&a, of(100_000_000), at(1));
        assert_eq!(tally.left(at(1)), "3h03m left");
        let mut slow = Tally::new(std::slice::from_ref(&a), start);
        slow.note(&a, of(0), start);
        slow.note(&a, of(10), at(1));
        assert_eq!(slow.left(at(1)), "");
    }
}
