//! How a container is to find others by name.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::str::FromStr;

/// How the container finds others by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkNames {
    /// `--dns`, in order, instead of the host's servers.
    pub(crate) servers: Vec<IpAddr>,
    /// `--dns-search`, in order, instead of the host's; `.` is none.
    pub(crate) search: Vec<String>,
    /// `--dns-option`, in order, instead of the host's.
    pub(crate) options: Vec<String>,
    /// `--add-host`, in order.
    pub(crate) hosts: Vec<AddedHost>,
}

/// A name and what it stands for: `NAME:ADDRESS` of `--add-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddedHost {
    pub(crate) name: String,
    pub(crate) address: HostAddress,
}

/// What a name of `--add-host` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HostAddress {
    Address(IpAddr),
    /// `host-gateway`
    Gateway,
}

impl FromStr for AddedHost {
    type Err = anyhow::Error;

    /// Reads `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may be in brackets.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            format!(
                "bad format for add-host: \"{text}\": it is NAME:ADDRESS, the address may be `host-gateway`"
            )
        };
        let (name, address) = text.split_once(['=', ':']).with_context(bad)?;
        if name.is_empty() || name.contains(|it: char| it.is_whitespace() || it.is_control()) {
            bail!(bad());
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        let address = match bare {
            "host-gateway" => HostAddress::Gateway,
            other => HostAddress::Address(other.parse().ok().with_context(bad)?),
        };
        let name = name.to_owned();
        Ok(Self { name, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for (text, name, address) in [
            ("a:10.0.0.1", "a", Some("10.0.0.1")),
            ("a=10.0.0.1", "a", Some("10.0.0.1")),
            ("a:::1", "a", Some("::1")),
            ("a:[fd00::1]", "a", Some("fd00::1")),
            ("a=fd00::1", "a", Some("fd00::1")),
            ("host.internal:host-gateway", "host.internal", None),
        ] {
            let address = address.map_or(HostAddress::Gateway, |it| {
                HostAddress::Address(it.parse().unwrap())
            });
            let name = name.to_owned();
            let expected = AddedHost { name, address };
            assert_eq!(text.parse::<AddedHost>().unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "a",
            "a:",
            ":1.2.3.4",
            "a:b",
            "a b:1.2.3.4",
            "a:1.2.3",
            "a:host",
        ] {
            assert!(bad.parse::<AddedHost>().is_err(), "{bad}");
        }
    }
}
