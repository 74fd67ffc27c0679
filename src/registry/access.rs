//! Access: what the user's files, environment and flags say about reaching registries.

use crate::reference::Reference;
use crate::registry::credentials::{Credentials, Given};

/// How registries are reached and as whom. It is gathered as the user, before any namespace is
/// entered: what is asked for credentials must see who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) credentials: Credentials,
}

impl Access {
    /// Returns what this process's user, environment and command line have for `reference`.
    pub(crate) fn gather(reference: &Reference, given: &Given) -> anyhow::Result<Self> {
        Ok(Self {
            credentials: Credentials::gather(reference, given)?,
        })
    }

    /// Returns what the user should know although it stops nothing.
    pub(crate) fn warnings(&self) -> &[String] {
        self.credentials.warnings()
    }
}
