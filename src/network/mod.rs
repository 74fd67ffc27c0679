//! The network of containers: bridges, addresses, the way out, published ports.
//!
//! No daemon and no database: what is taken is seen from what is there, and what belongs to a container goes with
//! its network namespace.

mod attach;
mod bridge;
mod forward;
mod link;
mod netlink;
mod nftables;
mod port;
mod published;
mod rootless;
mod subnet;

pub(crate) use attach::Namespace;
pub(crate) use bridge::has_way_out;
pub(crate) use forward::Forwarder;
pub(crate) use link::Mac;
pub(crate) use port::{Port, Publication, Published, summary};
pub(crate) use published::{Listener, publish};
pub(crate) use rootless::{Link, Program, has_tun};

use anyhow::{Context, Result};
use bridge::Bridge;
use ipnet::{Ipv4Net, Ipv6Net};
use netlink::Socket;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the network that every container is in unless it says otherwise.
pub(crate) const DEFAULT: &str = "bridge";

/// A network that containers can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// The name of its bridge on the host; all begin with `ddock`, and are at most ten letters long.
    pub(crate) bridge: String,
    /// Chosen when the bridge is made, if it is none.
    pub(crate) v4: Option<Ipv4Net>,
    pub(crate) v6: Option<Ipv6Net>,
    /// Nothing leaves it.
    pub(crate) internal: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            name: DEFAULT.to_owned(),
            bridge: "ddock0".to_owned(),
            v4: None,
            v6: Some(subnet::default6()),
            internal: false,
        }
    }
}

/// How a container is to be in a network.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) network: Network,
    /// A number that other containers hardly have: where the search for a free address begins.
    pub(crate) seed: u32,
    /// `--ip`
    pub(crate) address: Option<Ipv4Addr>,
    /// `--ip6`
    pub(crate) address6: Option<Ipv6Addr>,
    /// `--mac-address`
    pub(crate) mac: Option<Mac>,
    /// Whether this network is the container's way to everywhere else.
    pub(crate) is_way_out: bool,
    /// Further names in this network.
    pub(crate) aliases: Vec<String>,
}

/// How a container is in a network, as its record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) address: Ipv4Net,
    pub(crate) address6: Option<Ipv6Net>,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) gateway6: Option<Ipv6Addr>,
    pub(crate) mac: Mac,
    pub(crate) aliases: Vec<String>,
}

/// A network that is ready, and the wish of a container that is not yet there.
pub(crate) struct Ready {
    wish: Wish,
    bridge: Bridge,
    route: Socket,
}

impl Ready {
    /// Makes the network of `wish` if it is not there; what the user should know is added to `notes`.
    pub(crate) fn prepare(wish: Wish, notes: &mut Vec<String>) -> Result<Self> {
        let mut route = Socket::route()?;
        let name = &wish.network.name;
        let bridge =
            Bridge::ensure(&wish.network, &mut route, notes).with_context(|| unavailable(name))?;
        Ok(Self {
            wish,
            bridge,
            route,
        })
    }

    /// Returns the host's own addresses in the network.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        let v6 = self.bridge.v6.map(|net| subnet::gateway6(net).into());
        [subnet::gateway(self.bridge.v4).into()]
            .into_iter()
            .chain(v6)
            .collect()
    }

    /// Has the host route what containers answer to clients of their published ports.
    pub(crate) fn route_answers(&mut self) -> Result<()> {
        published::route_marked(&mut self.route)
    }

    /// Connects the container whose network namespace this is, by a link called `link` there.
    pub(crate) fn connect(mut self, namespace: &Namespace, link: &str) -> Result<Attachment> {
        let name = self.wish.network.name.clone();
        attach::attach(&mut self.route, &self.bridge, &self.wish, namespace, link)
            .with_context(|| unavailable(&name))
    }
}

fn unavailable(network: &str) -> String {
    format!(
        "no connection to the network `{network}` (`--network none` and `--network host` need none)"
    )
}
