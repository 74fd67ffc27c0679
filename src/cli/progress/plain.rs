//! A pull in a log: at most a line every five seconds, however many layers it has.

use crate::cli::progress::seconds;
use crate::cli::progress::tally::Tally;
use crate::human;
use crate::pull::{LayerId, LayerState};
use std::time::{Duration, Instant};

/// Between two lines. A pull that takes less has none.
const INTERVAL: Duration = Duration::from_secs(5);

/// What has been said, and when.
pub(crate) struct Plain {
    tally: Tally,
    /// When how far it is may be told next.
    due: Instant,
    /// When the next trouble may be told: the first at once.
    trouble_due: Instant,
}

impl Plain {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            tally: Tally::new(&[], now),
            due: now + INTERVAL,
            trouble_due: now,
        }
    }

    pub(crate) fn start(&mut self, layers: &[LayerId], now: Instant) {
        self.tally = Tally::new(layers, now);
        self.due = self.due.max(now + INTERVAL);
    }

    /// Returns the line to show now that the layer `id` is in `state`, if it is time for one.
    pub(crate) fn next(&mut self, id: &LayerId, state: LayerState, now: Instant) -> Option<String> {
        self.tally.note(id, state, now);
        if let LayerState::Retrying { after } = state {
            return self.trouble(&format!("{}: Retrying", id.short()), after, now);
        }
        if now < self.due {
            return None;
        }
        self.rest(now);
        Some(format!("Pulling: {}\n", self.tally.line(now)))
    }

    /// Returns the line about a wait, if it is time for one.
    pub(crate) fn wait(&mut self, why: &str, wait: Duration, now: Instant) -> Option<String> {
        self.trouble(&format!("{}; retrying", human::printable(why)), wait, now)
    }

    fn trouble(&mut self, what: &str, wait: Duration, now: Instant) -> Option<String> {
        if now < self.trouble_due {
            return None;
        }
        self.rest(now);
        Some(format!("{what} in {}\n", seconds(wait)))
    }

    fn rest(&mut self, now: Instant) {
        self.due = now + INTERVAL;
        self.trouble_due = self.due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn thirty_layers_in_a_minute_make_a_dozen_lines() {
        let ids: Vec<LayerId> = (0..30_u8).map(|n| Digest::of(&[n])).collect();
        let start = Instant::now();
        let mut plain = Plain::new(start);
        plain.start(&ids, start);
        let mut lines = Vec::new();
        for tick in 0..600_u64 {
            let now = start + Duration::from_millis(tick * 100);
            for id in &ids {
                let (received, size) = (tick * 1000, 600_000);
                lines.extend(plain.next(id, LayerState::Downloading { received, size }, now));
            }
        }
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!(
            lines[0],
            "Pulling: 8% 1.471MB/18MB 294kB/s 56s left, 0 of 30 layers\n"
        );
    }

    #[test]
    fn trouble_is_told_at_once_and_then_no_more_often_than_the_rest() {
        let id = Digest::of(b"");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut plain = Plain::new(start);
        plain.start(std::slice::from_ref(&id), start);
        let after = Duration::from_secs(3);
        let retrying = LayerState::Retrying { after };
        assert_eq!(
            plain.next(&id, retrying, at(1)).unwrap(),
            "e3b0c44298fc: Retrying in 3 seconds\n"
        );
        assert_eq!(plain.next(&id, retrying, at(2)), None);
        assert_eq!(plain.wait("x", after, at(5)), None);
        assert_eq!(
            plain.wait("x\u{1b}", after, at(6)).unwrap(),
            "x\\u{1b}; retrying in 3 seconds\n"
        );
        assert_eq!(plain.next(&id, LayerState::PullComplete, at(7)), None);
    }
}
