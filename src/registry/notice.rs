//! Notices: what a client tells while it works, of registries, mirrors and waits.

use crate::human;
use std::fmt::{self, Display};
use std::time::Duration;

/// What happens on the way that the user should know while it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Nothing moves for so long; then the request is repeated.
    Waiting { why: String, wait: Duration },
    /// The registry will answer so few requests more until `window` is over.
    NearLimit {
        registry: String,
        remaining: u64,
        limit: u64,
        window: Duration,
        /// It counts us by our address and not as a user.
        anonymous: bool,
    },
    /// A mirror could not give what it was asked for; the next host is asked. Told once a mirror.
    MirrorFailed { mirror: String, why: String },
    /// What a tag names was said by this mirror, not by the registry.
    ResolvedByMirror { mirror: String },
}

impl Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { why, wait } => write!(f, "{why}; retrying in {} s", wait.as_secs()),
            Self::NearLimit {
                registry,
                remaining,
                limit,
                window,
                anonymous,
            } => {
                let window = human::duration(i64::try_from(window.as_secs()).unwrap_or(i64::MAX));
                let whose = if *anonymous {
                    " (you are not logged in)"
                } else {
                    ""
                };
                write!(
                    f,
                    "{registry}: {remaining} of {limit} pulls left in {window}{whose}"
                )
            }
            Self::MirrorFailed { mirror, why } => {
                write!(f, "mirror `{mirror}` is passed over: {why}")
            }
            Self::ResolvedByMirror { mirror } => {
                write!(f, "what the tag names was told by mirror `{mirror}`")
            }
        }
    }
}
