//! Retries: when a request is worth repeating, and after how long.

use crate::registry::error::RegistryError;
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// Tries that bring nothing before we give up. With the waits between them: about a quarter of a minute.
const TRIES: u32 = 6;

/// The first wait; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Longest wait that a server may ask for; when it wants more, the user decides.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// How often to try again; whoever makes progress is given all tries anew.
#[derive(Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// Returns how long to wait before trying again after `error`; `None`: it is of no use.
    pub(crate) fn wait(&mut self, error: &RegistryError) -> Option<Duration> {
        if !error.is_transient() || self.failures >= TRIES {
            return None;
        }
        let wait = match error.retry_after() {
            Some(asked) if asked > MAX_WAIT => return None,
            Some(asked) => asked,
            None => jittered(FIRST_WAIT * 2_u32.pow(self.failures)),
        };
        self.failures += 1;
        Some(wait)
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
        let mut patience = Patience::default();
        let mut waits = Vec::new();
        while let Some(wait) = patience.wait(&limited(None)) {
            waits.push(wait);
        }
        assert_eq!(waits.len(), 6);
        assert!(
            waits.is_sorted() && waits[5] > Duration::from_secs(5),
            "{waits:?}"
        );
        patience.progress();
        assert!(patience.wait(&limited(None)).is_some());
    }

    #[test]
    fn the_servers_wish_is_followed_up_to_a_minute() {
        let mut patience = Patience::default();
        let seconds = Duration::from_secs;
        assert_eq!(patience.wait(&limited(Some(seconds(7)))), Some(seconds(7)));
        assert_eq!(patience.wait(&limited(Some(seconds(61)))), None);
        let lasting = RegistryError::SpeaksHttp {
            host: "r".to_owned(),
        };
        assert_eq!(patience.wait(&lasting), None);
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
