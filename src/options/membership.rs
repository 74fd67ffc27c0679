//! `--network` and what goes with it: which networks the container is to be in, and as what.

use crate::network::Mac;
use crate::options::namespaces::Network;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// How the container is to be in a network that somebody defined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Membership {
    /// Its name, ID, or the beginning of that.
    pub(crate) network: String,
    /// `--ip`
    pub(crate) address: Option<Ipv4Addr>,
    /// `--ip6`
    pub(crate) address6: Option<Ipv6Addr>,
    /// `--mac-address`
    pub(crate) mac: Option<Mac>,
    /// `--network-alias`, in order.
    pub(crate) aliases: Vec<String>,
}

/// Sorts out what is no network of the user's. The words are Docker's.
pub(crate) fn choose(asked: Vec<Membership>) -> Result<(Network, Option<Mac>)> {
    let predefined = |it: &Membership| {
        let name = it.network.as_str();
        matches!(name, "bridge" | "default" | "none" | "host") || name.starts_with("container:")
    };
    for (at, one) in asked.iter().enumerate() {
        let name = &one.network;
        ensure!(
            asked[..at].iter().all(|other| other.network != *name),
            "network {name:?} is specified multiple times"
        );
    }
    if !asked.iter().any(predefined) {
        return Ok((Network::Named(asked), None));
    }
    let [one] = &asked[..] else {
        bail!(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        );
    };
    if !one.aliases.is_empty() {
        bail!(
            "network-scoped alias is supported only for containers in user defined networks: make one with \
             `ddock network create NAME`, and use it with `--network NAME`"
        );
    }
    if one.address.is_some() || one.address6.is_some() {
        bail!(
            "user specified IP address is supported on user defined networks only: make one with \
             `ddock network create --subnet SUBNET NAME`, and use it with `--network NAME`"
        );
    }
    let network = match (one.network.as_str(), one.network.strip_prefix("container:")) {
        (_, Some("")) => {
            bail!("Invalid network mode: invalid container format container:<name|id>")
        }
        (_, Some(name)) => Network::Container(name.to_owned()),
        ("none", _) => Network::None,
        ("host", _) => Network::Host,
        _ => Network::Bridge,
    };
    if one.mac.is_some() && network != Network::Bridge {
        bail!("conflicting options: mac-address and the network mode");
    }
    Ok((network, one.mac))
}

impl FromStr for Membership {
    type Err = anyhow::Error;

    /// Reads one `--network`: a name, or fields as `name=NAME,ip=ADDRESS`.
    fn from_str(text: &str) -> Result<Self> {
        let mut found = Self::default();
        if !text.contains('=') {
            if text.is_empty() {
                bail!("no name set for network");
            }
            text.clone_into(&mut found.network);
            return Ok(found);
        }
        for field in text.split(',') {
            let (key, value) = field
                .split_once('=')
                .with_context(|| format!("invalid field {field}"))?;
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "name" => value.clone_into(&mut found.network),
                "alias" => found.aliases.push(alias(value)?),
                "ip" => found.address = Some(address4(value)?),
                "ip6" => found.address6 = Some(address6(value)?),
                "mac-address" => found.mac = Some(mac(value)?),
                key @ ("driver-opt" | "gw-priority" | "link-local-ip") => {
                    bail!("`{key}` of `--network` is not there yet")
                }
                other => bail!("invalid field key {other}"),
            }
        }
        ensure!(
            !found.network.is_empty(),
            "network name/id is not specified"
        );
        Ok(found)
    }
}

/// A name that can be written into a message of the domain name system, and into `/etc/hosts`.
pub(crate) fn alias(text: &str) -> Result<String> {
    let is_fine = |it: char| !it.is_whitespace() && !it.is_control();
    ensure!(
        !text.is_empty() && text.len() <= 253 && text.chars().all(is_fine),
        "invalid network alias {text:?}"
    );
    Ok(text.to_owned())
}

pub(crate) fn address4(text: &str) -> Result<Ipv4Addr> {
    let parsed = text.parse().ok();
    parsed.with_context(|| format!("invalid IPv4 address: {text}"))
}

pub(crate) fn address6(text: &str) -> Result<Ipv6Addr> {
    match text.parse() {
        Ok(IpAddr::V6(address)) => Ok(address),
        _ => bail!("invalid IPv6 address: {text}"),
    }
}

/// Reads `02:42:ac:11:00:02` or the same with `-`, which must be one interface's.
pub(crate) fn mac(text: &str) -> Result<Mac> {
    let byte = |it: &str| u8::from_str_radix(it, 16).ok().filter(|_| it.len() == 2);
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    let mac: Option<Mac> = bytes.and_then(|bytes| bytes.try_into().ok());
    let is_for_many = |mac: &Mac| mac[0] & 1 != 0;
    mac.filter(|mac| !is_for_many(mac) && *mac != Mac::default())
        .with_context(|| format!("{text} is not a valid mac address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(networks: &[&str]) -> Result<(Network, Option<Mac>)> {
        let asked = networks.iter().map(|text| text.parse());
        choose(asked.collect::<Result<_>>()?)
    }

    fn named(network: &str) -> Membership {
        Membership {
            network: network.to_owned(),
            ..Membership::default()
        }
    }

    #[test]
    fn networks_are_modes_or_names() {
        for (networks, expected) in [
            (&["default"][..], Network::Bridge),
            (&["bridge"], Network::Bridge),
            (&["none"], Network::None),
            (&["name=host"], Network::Host),
            (
                &["a", "name=b"],
                Network::Named(vec![named("a"), named("b")]),
            ),
        ] {
            assert_eq!(read(networks).unwrap(), (expected, None), "{networks:?}");
        }
        let full = "name=a,ip=10.0.0.5,ip6=fd00::5,alias=x,alias=y,mac-address=02-42-00-00-00-05";
        let expected = Membership {
            network: "a".to_owned(),
            address: Some("10.0.0.5".parse().unwrap()),
            address6: Some("fd00::5".parse().unwrap()),
            mac: Some([2, 0x42, 0, 0, 0, 5]),
            aliases: vec!["x".to_owned(), "y".to_owned()],
        };
        assert_eq!(
            read(&[full]).unwrap(),
            (Network::Named(vec![expected]), None)
        );
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let bridge = read(&["name=bridge,mac-address=02:00:00:00:00:01"]);
        assert_eq!(bridge.unwrap(), (Network::Bridge, mac));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_dockers_words() {
        for (networks, words) in [
            (&[""][..], "no name set for network"),
            (&["a", "a"], "network \"a\" is specified multiple times"),
            (&["a", "host"], "cannot attach both user-defined"),
            (&["none", "a"], "cannot attach both user-defined"),
            (&["container:"], "invalid container format"),
            (&["alias=x"], "network name/id is not specified"),
            (&["name=a,x=1"], "invalid field key x"),
            (&["name=a,b"], "invalid field b"),
            (&["name=a,ip=x"], "invalid IPv4 address: x"),
            (&["name=a,ip6=1.2.3.4"], "invalid IPv6 address: 1.2.3.4"),
            (&["name=a,mac-address=1"], "1 is not a valid mac address"),
            (
                &["name=a,mac-address=01:00:00:00:00:00"],
                "is not a valid mac address",
            ),
            (
                &["name=bridge,alias=x"],
                "network-scoped alias is supported only",
            ),
            (
                &["name=none,ip=1.2.3.4"],
                "user specified IP address is supported on",
            ),
            (
                &["name=host,mac-address=02:00:00:00:00:01"],
                "mac-address and the network mode",
            ),
            (
                &["name=a,driver-opt=x=y"],
                "`driver-opt` of `--network` is not there yet",
            ),
        ] {
            let refusal = read(networks).unwrap_err().to_string();
            assert!(refusal.contains(words), "{networks:?}: {refusal}");
        }
    }
}
