//! Places: the directories that hold configuration of registries.

use std::path::PathBuf;

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

    /// Returns `name` in the machine's and in the user's place, in this order.
    pub(crate) fn all(&self, name: &str) -> Vec<PathBuf> {
        let places = self.system.iter().chain(&self.user);
        places.map(|place| place.join(name)).collect()
    }
}
