//! How a container is to end.

use crate::sys::signal;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a container is asked to end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stop {
    /// As the user or the image named it, and checked; SIGTERM otherwise.
    pub(crate) signal: Option<String>,
    /// Seconds until it is killed, for ever if negative; ten otherwise.
    pub(crate) timeout: Option<i64>,
}

/// How long a command has to end by itself unless somebody says otherwise, in seconds, as with Docker.
const GRACE: i64 = 10;

impl Stop {
    /// Returns the number of the signal that asks the command to end.
    pub(crate) fn number(&self) -> i32 {
        let named = self.signal.as_deref().and_then(signal::parse);
        named.unwrap_or(libc::SIGTERM)
    }

    /// Returns how long it then has; `None` is for ever.
    pub(crate) fn grace(&self) -> Option<Duration> {
        // A negative one is no duration: then there is no end to the patience.
        let seconds = u64::try_from(self.timeout.unwrap_or(GRACE));
        seconds.ok().map(Duration::from_secs)
    }
}
