//! Kernel parameters of the container's own namespaces: `--sysctl`, and what every container has.

use crate::human::printable;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;

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

/// Those of an own network: every user may listen on every port, and ping. There is nobody else to protect from it.
const PORTS: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");
const PING: (&str, &str) = ("net.ipv4.ping_group_range", "0 2147483647");

/// What of the container's is its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) network: bool,
    /// Its IDs, in which not all groups are mapped.
    pub(crate) users: bool,
}

/// Returns the parameters to set, by name.
pub(crate) fn build(asked: &[String], own: Own) -> Result<BTreeMap<String, String>> {
    let mut sysctls = BTreeMap::new();
    if own.network {
        let defaults = [Some(PORTS), (!own.users).then_some(PING)];
        let defaults = defaults.into_iter().flatten();
        sysctls.extend(defaults.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    for text in asked {
        let (name, value) = parse(text)?;
        ensure!(
            own.network || !name.starts_with("net."),
            "sysctl '{}' is not allowed in the host network namespace",
            printable(text)
        );
        sysctls.insert(name.to_owned(), value.to_owned());
    }
    Ok(sysctls)
}

/// Tells whether they leave the loopback without IPv6. What is said of one link comes after what is said of all.
pub(crate) fn disable_ipv6(sysctls: &BTreeMap<String, String>) -> bool {
    let of = |link| sysctls.get(&format!("net.ipv6.conf.{link}.disable_ipv6"));
    of("lo")
        .or(of("all"))
        .is_some_and(|value| value.trim() != "0")
}

/// Splits `NAME=VALUE`, and refuses the names of parameters that are the whole machine's.
fn parse(text: &str) -> Result<(&str, &str)> {
    let Some((name, value)) = text.split_once('=') else {
        bail!(
            "sysctl '{}' is not allowed: expected NAME=VALUE",
            printable(text)
        );
    };
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
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(asked: &[&str], network: bool, users: bool) -> Result<Vec<String>> {
        let asked: Vec<String> = asked.iter().map(|&text| text.to_owned()).collect();
        let sysctls = build(&asked, Own { network, users })?;
        Ok(sysctls
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    }

    #[test]
    fn an_own_network_has_open_ports_and_ping() {
        let ports = "net.ipv4.ip_unprivileged_port_start=0";
        let ping = "net.ipv4.ping_group_range=0 2147483647";
        for (network, users, expected) in [
            (true, false, vec![ports, ping]),
            (true, true, vec![ports]),
            (false, false, vec![]),
        ] {
            assert_eq!(built(&[], network, users).unwrap(), expected);
        }
        let asked = "net.ipv4.ip_unprivileged_port_start=1024";
        assert_eq!(built(&[asked], true, true).unwrap(), [asked]);
    }

    #[test]
    fn parameters_of_namespaces_are_set() {
        let asked = [
            "kernel.sem=1 2 3 4",
            "fs.mqueue.msg_max=20",
            "kernel.shm_rmid_forced=1",
        ];
        let found = built(&asked, false, false).unwrap();
        assert_eq!(
            found,
            [
                "fs.mqueue.msg_max=20",
                "kernel.sem=1 2 3 4",
                "kernel.shm_rmid_forced=1"
            ]
        );
    }

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
            let error = built(&[text], true, false).unwrap_err().to_string();
            assert!(
                error.contains(&format!("sysctl '{text}' is not allowed")),
                "{error}"
            );
        }
        let error = built(&["net.core.somaxconn=5"], false, false).unwrap_err();
        assert!(
            error.to_string().contains("host network namespace"),
            "{error}"
        );
    }
}
