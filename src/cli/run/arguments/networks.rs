//! `--network` and what goes with it: which networks the container is in, and as what.

use crate::cli::failure::Refusal;
use crate::network::Mac;
use crate::spec::{Donor, Membership, Network};
use clap::Args;
use std::net::IpAddr;

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct MembershipFlags {
    /// Connect it to `bridge` (the default), networks of yours (NAME or `name=NAME,ip=ADDRESS,alias=NAME,…`, repeatable), `none` (loopback only), `host` or `container:NAME`
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Its IPv4 address in a network of yours
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address in a network of yours
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Its hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Another name that it has in a network of yours
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
}

impl MembershipFlags {
    /// Returns the container's network, and the hardware address that it is to have in the default one.
    pub(super) fn read(self) -> Result<(Network, Option<Mac>), Refusal> {
        let asked = self.network.iter().map(|text| membership(text));
        let mut asked: Vec<Membership> = asked.collect::<Result<_, _>>()?;
        if asked.is_empty() {
            asked.push(Membership {
                network: "default".to_owned(),
                ..Membership::default()
            });
        }
        for (at, one) in asked.iter().enumerate() {
            if asked[..at].iter().any(|other| other.network == one.network) {
                let name = &one.network;
                return Err(Refusal::new(format!(
                    "network {name:?} is specified multiple times"
                )));
            }
        }
        self.add_to(&mut asked[0])?;
        choose(asked)
    }

    /// What stands alone is meant for the first network.
    fn add_to(self, first: &mut Membership) -> Result<(), Refusal> {
        let conflict = |flag: &str, key: &str| {
            Refusal::new(format!(
                "conflicting options: cannot specify both {flag} and per-network {key}"
            ))
        };
        if let Some(text) = self.ip {
            let before = first.address.replace(address4(&text)?);
            before.map_or(Ok(()), |_| Err(conflict("--ip", "IPv4 address")))?;
        }
        if let Some(text) = self.ip6 {
            let before = first.address6.replace(address6(&text)?);
            before.map_or(Ok(()), |_| Err(conflict("--ip6", "IPv6 address")))?;
        }
        if let Some(text) = self.mac_address {
            let before = first.mac.replace(mac(&text)?);
            before.map_or(Ok(()), |_| Err(conflict("--mac-address", "MAC address")))?;
        }
        if !self.network_alias.is_empty() {
            if !first.aliases.is_empty() {
                return Err(conflict("--network-alias", "alias"));
            }
            for name in &self.network_alias {
                first.aliases.push(alias(name)?);
            }
        }
        Ok(())
    }
}

/// Sorts out what is no network of the user's. The words are Docker's.
fn choose(asked: Vec<Membership>) -> Result<(Network, Option<Mac>), Refusal> {
    let predefined = |it: &Membership| {
        let name = it.network.as_str();
        matches!(name, "bridge" | "default" | "none" | "host") || name.starts_with("container:")
    };
    if !asked.iter().any(predefined) {
        return Ok((Network::Named(asked), None));
    }
    let [one] = &asked[..] else {
        return Err(Refusal::new(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ));
    };
    if !one.aliases.is_empty() {
        return Err(Refusal::new(
            "network-scoped alias is supported only for containers in user defined networks",
        )
        .hint(
            "make a network with `ddock network create NAME`, and use it with `--network NAME`",
        ));
    }
    if one.address.is_some() || one.address6.is_some() {
        return Err(Refusal::new(
            "user specified IP address is supported on user defined networks only",
        )
        .hint("make one with `ddock network create --subnet SUBNET NAME`, and use it with `--network NAME`"));
    }
    let network = match (one.network.as_str(), one.network.strip_prefix("container:")) {
        (_, Some("")) => {
            return Err(Refusal::new(
                "Invalid network mode: invalid container format container:<name|id>",
            ));
        }
        (_, Some(name)) => Network::Container(Donor {
            name: name.to_owned(),
            ..Donor::default()
        }),
        ("none", _) => Network::None,
        ("host", _) => Network::Host,
        _ => Network::Bridge,
    };
    if one.mac.is_some() && network != Network::Bridge {
        return Err(Refusal::new(
            "conflicting options: mac-address and the network mode",
        ));
    }
    Ok((network, one.mac))
}

/// Reads one `--network`: a name, or fields as `name=NAME,ip=ADDRESS`.
fn membership(text: &str) -> Result<Membership, Refusal> {
    let invalid = |why: &str| {
        Refusal::new(format!(
            "invalid argument {text:?} for \"--network\" flag: {why}"
        ))
    };
    let mut found = Membership::default();
    if !text.contains('=') {
        if text.is_empty() {
            return Err(Refusal::new("no name set for network"));
        }
        text.clone_into(&mut found.network);
        return Ok(found);
    }
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| invalid(&format!("invalid field {field}")))?;
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut found.network),
            "alias" => found.aliases.push(alias(value)?),
            "ip" => found.address = Some(address4(value)?),
            "ip6" => found.address6 = Some(address6(value)?),
            "mac-address" => found.mac = Some(mac(value)?),
            key @ ("driver-opt" | "gw-priority" | "link-local-ip") => {
                return Err(Refusal::new(format!(
                    "`{key}` of `--network` is not there yet"
                )));
            }
            other => return Err(invalid(&format!("invalid field key {other}"))),
        }
    }
    if found.network.is_empty() {
        return Err(invalid("network name/id is not specified"));
    }
    Ok(found)
}

/// A name that can be written into a message of the domain name system, and into `/etc/hosts`.
pub(crate) fn alias(text: &str) -> Result<String, Refusal> {
    let is_fine = |it: char| !it.is_whitespace() && !it.is_control();
    if text.is_empty() || text.len() > 253 || !text.chars().all(is_fine) {
        return Err(Refusal::new(format!("invalid network alias {text:?}")));
    }
    Ok(text.to_owned())
}

pub(crate) fn address4(text: &str) -> Result<std::net::Ipv4Addr, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new(format!("invalid IPv4 address: {text}")))
}

pub(crate) fn address6(text: &str) -> Result<std::net::Ipv6Addr, Refusal> {
    match text.parse() {
        Ok(IpAddr::V6(address)) => Ok(address),
        _ => Err(Refusal::new(format!("invalid IPv6 address: {text}"))),
    }
}

/// Reads `02:42:ac:11:00:02` or the same with `-`, which must be one interface's.
fn mac(text: &str) -> Result<Mac, Refusal> {
    let invalid = || Refusal::new(format!("{text} is not a valid mac address"));
    let byte = |it: &str| u8::from_str_radix(it, 16).ok().filter(|_| it.len() == 2);
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    let mac: Mac = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(invalid)?;
    let is_for_many = mac[0] & 1 != 0;
    if is_for_many || mac == Mac::default() {
        return Err(invalid());
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(networks: &[&str]) -> Result<(Network, Option<Mac>), Refusal> {
        MembershipFlags {
            network: networks.iter().map(|&it| it.to_owned()).collect(),
            ip: None,
            ip6: None,
            mac_address: None,
            network_alias: Vec::new(),
        }
        .read()
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
            (&[][..], Network::Bridge),
            (&["default"], Network::Bridge),
            (&["bridge"], Network::Bridge),
            (&["none"], Network::None),
            (&["name=host"], Network::Host),
            (
                &["a", "name=b"],
                Network::Named(vec![named("a"), named("b")]),
            ),
        ] {
            assert_eq!(read(networks), Ok((expected, None)), "{networks:?}");
        }
        let full = "name=a,ip=10.0.0.5,ip6=fd00::5,alias=x,alias=y,mac-address=02-42-00-00-00-05";
        let expected = Membership {
            network: "a".to_owned(),
            address: Some("10.0.0.5".parse().unwrap()),
            address6: Some("fd00::5".parse().unwrap()),
            mac: Some([2, 0x42, 0, 0, 0, 5]),
            aliases: vec!["x".to_owned(), "y".to_owned()],
        };
        assert_eq!(read(&[full]), Ok((Network::Named(vec![expected]), None)));
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let bridge = read(&["name=bridge,mac-address=02:00:00:00:00:01"]);
        assert_eq!(bridge, Ok((Network::Bridge, mac)));
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
