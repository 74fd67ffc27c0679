//! Kernel parameters of the container's own namespaces: `--sysctl`, and what every container has.

use crate::options::Sysctl;
use std::collections::BTreeMap;

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

/// Returns the parameters to set, by name; of two of one name the last one counts.
pub(crate) fn build(asked: &[Sysctl], own: Own) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if own.network {
        let defaults = [Some(PORTS), (!own.users).then_some(PING)];
        let defaults = defaults.into_iter().flatten();
        sysctls.extend(defaults.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let asked = asked.iter().cloned();
    sysctls.extend(asked.map(|Sysctl { name, value }| (name, value)));
    sysctls
}

/// Tells whether they leave the loopback without IPv6. What is said of one link comes after what is said of all.
pub(crate) fn disable_ipv6(sysctls: &BTreeMap<String, String>) -> bool {
    let of = |link| sysctls.get(&format!("net.ipv6.conf.{link}.disable_ipv6"));
    of("lo")
        .or(of("all"))
        .is_some_and(|value| value.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(asked: &[&str], network: bool, users: bool) -> Vec<String> {
        let asked: Vec<Sysctl> = asked.iter().map(|text| text.parse().unwrap()).collect();
        let sysctls = build(&asked, Own { network, users });
        sysctls
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
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
            assert_eq!(built(&[], network, users), expected);
        }
        let asked = "net.ipv4.ip_unprivileged_port_start=1024";
        assert_eq!(built(&[asked], true, true), [asked]);
    }

    #[test]
    fn parameters_of_namespaces_are_set() {
        let asked = [
            "kernel.sem=1 2 3 4",
            "fs.mqueue.msg_max=20",
            "kernel.shm_rmid_forced=0",
            "kernel.shm_rmid_forced=1",
        ];
        let expected = [
            "fs.mqueue.msg_max=20",
            "kernel.sem=1 2 3 4",
            "kernel.shm_rmid_forced=1",
        ];
        assert_eq!(built(&asked, false, false), expected);
    }
}
