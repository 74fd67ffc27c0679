//! Retries: when a request is worth repeating, and after how long.

use crate::registry::error::RegistryError;
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// Answers of "not now" in a row before we give up. With the waits between them: two minutes.
const TRIES: u32 = 10;

/// The same for connections and links that are refused, and for answers without a byte: half a minute, in which a
/// registry may have been started anew.
const GONE_TRIES: u32 = 7;

/// The first wait; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait of our own.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Longest wait that a server may ask for; when it wants more, the user decides.
const MAX_WAIT: Duration = Duration::from_mins(10);

/// How often to try again; whoever makes progress is given all tries anew.
pub(crate) struct Patience {
    failures: u32,
    /// A broken connection is mended however long that takes.
    lasting: bool,
}

impl Patience {
    /// For a single question: nobody waits for a machine that cannot answer even that.
    pub(crate) fn of_question() -> Self {
        Self {
            failures: 0,
            lasting: false,
        }
    }

    /// For a transfer, which follows on answers: the network is there, or will be again. Only the user knows when
    /// it is enough, and what arrived is not lost.
    pub(crate) fn of_transfer() -> Self {
        Self {
            failures: 0,
            lasting: true,
        }
    }

    /// Returns how long to wait before trying again after `error`; `None`: it is of no use. `answered` tells whether
    /// the server took the request and brought nothing then: that is no fault of the network.
    pub(crate) fn wait(&mut self, error: &RegistryError, answered: bool) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        let is_limit = matches!(error, RegistryError::RateLimited { .. });
        match error.retry_after() {
            Some(asked) if asked > MAX_WAIT => return None,
            // A server that says when it will have us again is taken at its word.
            Some(asked) if is_limit => return Some(asked),
            _ => {}
        }
        let tries = match error {
            RegistryError::Gone { .. } | RegistryError::Expired { .. } => GONE_TRIES,
            RegistryError::Interrupted { .. } if answered => GONE_TRIES,
            _ => TRIES,
        };
        let is_network = matches!(error, RegistryError::Interrupted { .. }) && !answered;
        if self.failures >= tries && !(self.lasting && is_network) {
            return None;
        }
        let own = FIRST_WAIT * 2_u32.pow(self.failures.min(TRIES));
        self.failures += 1;
        Some(
            error
                .retry_after()
                .unwrap_or(jittered(own.min(LONGEST_WAIT))),
        )
    }

    /// Notes that something came.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
    }
}

/// Returns `wait` or up to a quarter less, so that clients that failed together do not return together.
fn jittered(wait: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = now.unwrap_or_default().subsec_nanos();
    wait * 3 / 4 + wait / 4 * (nanoseconds % 1000) / 1000
}

/// Returns how long `Retry-After` asks to wait: a number of seconds or a date (RFC 9110, 10.2.3).
pub(crate) fn after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - Utc::now()).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error::Detail;

    fn limited(after: Option<Duration>) -> RegistryError {
        RegistryError::RateLimited {
            registry: "r".to_owned(),
            detail: Detail::default(),
            after,
        }
    }

    #[test]
    fn waits_grow_and_end_and_progress_gives_them_back() {
        let mut patience = Patience::of_transfer();
        let mut waits = Vec::new();
        while let Some(wait) = patience.wait(&limited(None), true) {
            waits.push(wait);
        }
        assert_eq!(waits.len(), 10);
        assert!(
            waits[..8].is_sorted() && waits[9] > Duration::from_secs(20),
            "{waits:?}"
        );
        patience.progress();
        assert!(patience.wait(&limited(None), true).is_some());
    }

    #[test]
    fn a_broken_connection_is_mended_however_long_it_takes_once_there_were_answers() {
        let broken = RegistryError::Interrupted {
            host: "r".to_owned(),
            cause: "reset".to_owned(),
        };
        let tries = |mut patience: Patience, answered| {
            (0..100)
                .map_while(|_| patience.wait(&broken, answered))
                .inspect(|wait| assert!(*wait <= LONGEST_WAIT))
                .count()
        };
        assert_eq!(tries(Patience::of_transfer(), false), 100);
        assert_eq!(tries(Patience::of_transfer(), true), 7);
        assert_eq!(tries(Patience::of_question(), false), 10);
    }

    #[test]
    fn the_servers_wish_is_followed_up_to_ten_minutes() {
        let mut patience = Patience::of_question();
        let seconds = Duration::from_secs;
        assert_eq!(
            patience.wait(&limited(Some(seconds(7))), true),
            Some(seconds(7))
        );
        assert_eq!(patience.wait(&limited(Some(seconds(601))), true), None);
        let lasting = RegistryError::SpeaksHttp {
            host: "r".to_owned(),
        };
        assert_eq!(patience.wait(&lasting, true), None);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let header = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            after(&headers)
        };
        assert_eq!(header("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            header("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        let soon = (Utc::now() + Duration::from_secs(100)).to_rfc2822();
        assert!(header(&soon).unwrap() > Duration::from_secs(90));
        assert_eq!(header("soon"), None);
    }
}
