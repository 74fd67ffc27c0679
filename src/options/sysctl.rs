//! `--sysctl NAME=VALUE`: a kernel parameter of the container's own namespaces.

use crate::human::printable;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Those of an IPC namespace (`ipc_namespaces(7)`).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A kernel parameter that is some namespace's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sysctl {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Sysctl {
    /// Tells whether it belongs to a network namespace.
    pub(crate) fn is_of_network(&self) -> bool {
        self.name.starts_with("net.")
    }
}

impl FromStr for Sysctl {
    type Err = anyhow::Error;

    /// Refuses the names of parameters that are the whole machine's.
    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').with_context(|| {
            format!(
                "sysctl '{}' is not allowed: expected NAME=VALUE",
                printable(text)
            )
        })?;
        let is_namespaced = IPC.contains(&name)
            || ["net.", "fs.mqueue."]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        // A name is a path below /proc/sys, and has to stay there.
        let is_plain = !name.contains(['\0', '/']);
        ensure!(
            is_namespaced && is_plain,
            "sysctl '{}' is not allowed: only parameters of the container's own namespaces are, \
             `net.*`, `fs.mqueue.*`, `kernel.msg*`, `kernel.sem` and `kernel.shm*`",
            printable(text)
        );
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_machine_are_refused() {
        for text in [
            "kernel.hostname=x",
            "vm.swappiness=5",
            "kernel.domainname=x",
            "kernel/msgmax=1",
            "net/ipv4/ip_forward=1",
            "net.ipv4/../../kernel/hostname=x",
            "net.core.somaxconn",
            "=1",
        ] {
            let error = text.parse::<Sysctl>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("sysctl '{text}' is not allowed")),
                "{error}"
            );
        }
        let right: Sysctl = "kernel.sem=1 2 3 4".parse().unwrap();
        assert_eq!(
            (&*right.name, &*right.value),
            ("kernel.sem", "1 2 3 4"),
            "values are taken as they are"
        );
    }
}
