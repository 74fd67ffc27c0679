//! Access: what the user's files, environment and flags say about reaching registries.

use crate::registry::credentials::Credentials;

/// How registries are reached and as whom. It is gathered as the user, before any namespace is
/// entered: what is asked for credentials must see who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) credentials: Credentials,
}

impl Access {
    /// Returns what this process's user and environment have.
    pub(crate) fn gather() -> Self {
        Self {
            credentials: Credentials::of_user(),
        }
    }
}
