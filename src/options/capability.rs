//! Capabilities by name, as `--cap-add` and `--cap-drop` have them.

use crate::human::printable;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Every capability in the order of its number (linux/capability.h).
pub(crate) const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A name of [`CAPABILITIES`], or `ALL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Capability(String);

const ALL: &str = "ALL";

impl Capability {
    pub(crate) fn is_all(&self) -> bool {
        self.0 == ALL
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Capability {
    type Err = anyhow::Error;

    /// Reads a name in any case, with its prefix or without.
    fn from_str(word: &str) -> Result<Self> {
        let upper = word.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == ALL {
            return Ok(Self(ALL.to_owned()));
        }
        let mut known = CAPABILITIES.into_iter();
        match known.find(|name| name["CAP_".len()..] == *short) {
            Some(name) => Ok(Self(name.to_owned())),
            None => bail!("unknown capability `{}`", printable(word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (word, expected) in [
            ("NET_ADMIN", "CAP_NET_ADMIN"),
            ("cap_net_admin", "CAP_NET_ADMIN"),
            ("Chown", "CAP_CHOWN"),
            ("all", "ALL"),
            ("CAP_ALL", "ALL"),
        ] {
            assert_eq!(word.parse::<Capability>().unwrap().as_str(), expected);
        }
        for bad in ["", "CAP_", "CAP_CAP_CHOWN", "NET_ADMIM"] {
            let error = bad.parse::<Capability>().unwrap_err().to_string();
            assert_eq!(error, format!("unknown capability `{bad}`"));
        }
    }
}
