//! The flags of `ddock run` about how the container finds others, and others find it.

use crate::cli::failure::Refusal;
use crate::cli::run::Publish;
use crate::network::{Port, Publication};
use crate::spec::{HostAddress, Network, NetworkNames};
use clap::Args;
use std::net::IpAddr;

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkFlags {
    /// Publish a port of the container's on the host
    #[arg(short, long, value_name = "[[ADDRESS:]PORT:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports, at free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Say that the container serves this port
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Ask this name server instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Look for short names in this domain instead of the host's; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf instead of the host's
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Add a name to /etc/hosts; the address `host-gateway` is the host's
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
}

impl TryFrom<NetworkFlags> for NetworkNames {
    type Error = Refusal;

    fn try_from(flags: NetworkFlags) -> Result<Self, Refusal> {
        let hosts = flags.add_host.iter().map(|text| host(text));
        Ok(Self {
            servers: flags.dns,
            search: flags.dns_search,
            options: flags.dns_option,
            hosts: hosts.collect::<Result<_, _>>()?,
            gateways: Vec::new(),
        })
    }
}

impl NetworkFlags {
    /// Refuses what another container's network leaves no choice of. Docker's words.
    pub(super) fn check(&self, network: &Network) -> Result<(), Refusal> {
        if !matches!(network, Network::Container(_)) {
            return Ok(());
        }
        let names = [&self.dns_search, &self.dns_option];
        let conflicts = [
            (
                self.publish_all || !self.publish.is_empty(),
                "port publishing and the container type network mode",
            ),
            (
                !self.expose.is_empty(),
                "port exposing and the container type network mode",
            ),
            (
                !self.dns.is_empty() || names.iter().any(|it| !it.is_empty()),
                "dns and the network mode",
            ),
            (
                !self.add_host.is_empty(),
                "custom host-to-IP mapping and the network mode",
            ),
        ];
        match conflicts.into_iter().find(|(is_asked, _)| *is_asked) {
            Some((_, what)) => Err(Refusal::new(format!("conflicting options: {what}"))),
            None => Ok(()),
        }
    }

    /// Returns what is to be published.
    pub(super) fn publish(&self) -> Result<Publish, Refusal> {
        let bad = |error: anyhow::Error| Refusal::new(format!("{error:#}"));
        let mut publish = Publish {
            all: self.publish_all,
            ..Publish::default()
        };
        for text in &self.publish {
            let parsed = Publication::parse(text).map_err(bad)?;
            publish.publications.extend(parsed);
        }
        for text in &self.expose {
            let parsed = Port::range(text).map_err(bad)?;
            publish.exposed.extend(parsed);
        }
        Ok(publish)
    }
}

/// Reads `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may be in brackets.
fn host(text: &str) -> Result<(String, HostAddress), Refusal> {
    let bad = || {
        Refusal::new(format!(
            "bad format for add-host: \"{text}\": it is NAME:ADDRESS, the address may be `host-gateway`"
        ))
    };
    let (name, address) = text.split_once(['=', ':']).ok_or_else(bad)?;
    if name.is_empty() || name.contains(|it: char| it.is_whitespace() || it.is_control()) {
        return Err(bad());
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address = match bare {
        "host-gateway" => HostAddress::Gateway,
        other => HostAddress::Address(other.parse().map_err(|_| bad())?),
    };
    Ok((name.to_owned(), address))
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
            assert_eq!(host(text).unwrap(), (name.to_owned(), address), "{text}");
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
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
