//! Places: the directories that hold configuration of registries.

use std::io;
use std::path::{Path, PathBuf};

/// Where configuration is looked for; nowhere by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The user's own, `~/.config`.
    pub(crate) user: Option<PathBuf>,
    /// The machine's, `/etc`.
    pub(crate) system: Option<PathBuf>,
    /// What `CONTAINERS_REGISTRIES_CONF` names.
    pub(crate) registries_conf: Option<PathBuf>,
}

impl Places {
    /// Returns those of this process's user.
    pub(crate) fn of_user() -> Self {
        let variable = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        Self {
            user: variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config"))),
            system: Some(PathBuf::from("/etc")),
            registries_conf: variable("CONTAINERS_REGISTRIES_CONF"),
        }
    }

    /// Tells whether a file lies in the user's place, and nobody named it.
    pub(super) fn is_users(&self, path: &Path) -> bool {
        let is_named = self.registries_conf.as_deref() == Some(path);
        !is_named
            && self
                .user
                .as_ref()
                .is_some_and(|user| path.starts_with(user))
    }

    /// Returns why the user's place is none, if it is there.
    pub(crate) fn passed_over(&self) -> Option<String> {
        let user = self.user.as_ref()?;
        let error = match std::fs::read_dir(user) {
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error,
        };
        // A home that is no directory at all, `/dev/null` say, is meant to have nothing.
        let home = user.parent()?;
        if error.kind() == io::ErrorKind::NotADirectory && !home.is_dir() {
            return None;
        }
        let place = user.display();
        Some(format!(
            "cannot read the configuration of registries in `{place}` ({error}); going on without it"
        ))
    }

    /// Returns `name` in the machine's and in the user's place, in this order.
    pub(crate) fn all(&self, name: &str) -> Vec<PathBuf> {
        let places = self.system.iter().chain(&self.user);
        places.map(|place| place.join(name)).collect()
    }
}
