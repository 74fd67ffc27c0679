//! What flags say about the way to registries.

use crate::reference::Reference;
use crate::registry::routes::route::{Base, Route};
use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

/// The flags of one command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) insecure: Vec<Insecure>,
    /// `--tls-verify=false`: the registry that is asked, whichever it is, is insecure.
    pub(crate) skip_verify: bool,
}

impl Flags {
    /// Returns the mirrors for the registry of `reference`, in order.
    pub(crate) fn mirrors(&self, reference: &Reference) -> Vec<Route> {
        let wanted = self
            .mirrors
            .iter()
            .filter(|it| it.registry == reference.registry());
        let route = |mirror: &Mirror| Route {
            namespace: Some(mirror.registry.clone()),
            ..Route::mirror(&mirror.base, reference)
        };
        wanted.map(route).collect()
    }
}

/// `--mirror HOST=URL`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The registry that it stands in for.
    registry: String,
    base: Base,
    text: String,
}

impl FromStr for Mirror {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (registry, url) = text.split_once('=').context("expected HOST=URL")?;
        let registry: Base = registry.parse()?;
        ensure!(registry.path.is_empty(), "expected HOST=URL");
        Ok(Self {
            registry: registry.registry,
            base: url.parse()?,
            text: text.to_owned(),
        })
    }
}

impl Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Hosts that need not prove who they are: one with its port, or all addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Insecure {
    Host(String),
    Network(IpNet),
}

impl Insecure {
    /// Tells whether the host of `route` is meant. Names are not looked up: a network means hosts
    /// that are named by their addresses.
    pub(crate) fn means(&self, route: &Route) -> bool {
        match self {
            Self::Host(host) => *host == route.registry || *host == route.host,
            Self::Network(network) => {
                let address = address(&route.host);
                address.is_some_and(|address| network.contains(&address))
            }
        }
    }
}

/// Returns the address that `host`, which may have a port, is.
fn address(host: &str) -> Option<IpAddr> {
    let url = reqwest::Url::parse(&format!("https://{host}/")).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    Some(host.parse::<IpAddr>().ok()?.to_canonical())
}

impl FromStr for Insecure {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        let base: Base = text.parse().context("expected HOST[:PORT] or a CIDR")?;
        ensure!(base.path.is_empty(), "expected HOST[:PORT] or a CIDR");
        Ok(Self::Host(base.registry))
    }
}

impl Display for Insecure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}
