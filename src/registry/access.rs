//! Access: what the user's files, environment and flags say about reaching registries.

use crate::registry::credentials::Credentials;
use crate::registry::proxy::Proxies;
use crate::registry::routes::{Flags, Places, Routes};

/// How registries are reached and as whom. It is gathered as the user, before any namespace is
/// entered: what is asked for credentials must see who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) credentials: Credentials,
    pub(crate) routes: Routes,
    pub(crate) proxies: Proxies,
}

impl Access {
    /// Returns what this process's user and environment have.
    pub(crate) fn gather() -> Self {
        Self {
            credentials: Credentials::of_user(),
            routes: Routes {
                flags: Flags::default(),
                places: Places::of_user(),
            },
            proxies: Proxies::of_environment(),
        }
    }

    /// Adds what the command's flags say.
    pub(crate) fn with_flags(mut self, flags: Flags) -> Self {
        self.routes.flags = flags;
        self
    }
}
