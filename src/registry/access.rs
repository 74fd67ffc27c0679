//! Access: what the user's files, environment and flags say about reaching registries.

use crate::reference::Reference;
use crate::registry::credentials::{Credentials, Given};
use crate::registry::proxy::Proxies;
use crate::registry::routes::{Flags, Places, Routes};

/// How registries are reached and as whom. It is gathered as the user, before any namespace is
/// entered: what is asked for credentials must see who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) credentials: Credentials,
    pub(crate) routes: Routes,
    pub(crate) proxies: Proxies,
    pub(super) warnings: Vec<String>,
}

impl Access {
    /// Returns what this process's user, environment and command line have for `reference`, its mirrors included.
    pub(crate) fn gather(
        reference: &Reference,
        given: &Given,
        flags: Flags,
    ) -> anyhow::Result<Self> {
        let mut access = Self {
            credentials: Credentials::gather(reference, given)?,
            ..Self::anonymous(flags)
        };
        let mirrors = access.routes.to(reference)?.into_iter();
        for mirror in mirrors.filter(|route| route.is_mirror) {
            access
                .credentials
                .prepare(&mirror.registry, &mirror.repository);
        }
        access
            .warnings
            .extend(access.credentials.warnings().iter().cloned());
        access.warnings.extend(access.routes.places.passed_over());
        Ok(access)
    }

    /// Returns how registries are reached, as nobody.
    pub(crate) fn anonymous(flags: Flags) -> Self {
        Self {
            credentials: Credentials::default(),
            routes: Routes {
                flags,
                places: Places::of_user(),
            },
            proxies: Proxies::of_environment(),
            warnings: Vec::new(),
        }
    }

    /// Returns what the user should know although it stops nothing.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
