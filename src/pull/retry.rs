//! Pulls that are begun anew because what made them fail may have passed.

use crate::pull::Event;
use crate::registry::RegistryError;
use anyhow::{Error, Result};
use std::time::Duration;

/// The first wait, if the user did not say how long; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest of those.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often a pull is begun anew. Broken connections are no reason: within a pull they are mended however long it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) times: u32,
    /// How long to wait before each.
    pub(crate) delay: Option<Duration>,
}

impl Retry {
    fn wait(self, failures: u32) -> Duration {
        let own = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures));
        self.delay.unwrap_or(own.min(LONGEST_WAIT))
    }
}

/// Calls `attempt` until it succeeds, fails for good or has been repeated as often as asked.
pub(super) async fn repeat<T>(
    retry: Retry,
    events: &dyn Fn(Event),
    attempt: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    for failures in 0..retry.times {
        match attempt().await {
            Err(error) if is_passing(&error) => {
                let (why, wait) = (format!("{error:#}"), retry.wait(failures));
                events(Event::Waiting { why, wait });
                tokio::time::sleep(wait).await;
            }
            ended => return ended,
        }
    }
    attempt().await
}

/// Tells whether the network or the registry may do better another time.
fn is_passing(error: &Error) -> bool {
    let registry = error.downcast_ref::<RegistryError>();
    registry.is_some_and(|error| {
        error.is_transient() || matches!(error, RegistryError::Unreachable { .. })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_unless_the_user_says_how_long_they_are() {
        let waits = |delay| {
            let retry = Retry { times: 40, delay };
            [0, 1, 2, 5, 39].map(|failures| retry.wait(failures).as_secs())
        };
        assert_eq!(waits(None), [1, 2, 4, 30, 30]);
        assert_eq!(waits(Some(Duration::from_secs(90))), [90; 5]);
    }
}
