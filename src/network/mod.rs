//! The network of containers: bridges, addresses, the way out, published ports.
//!
//! No daemon and no database: what is taken is seen from what is there, and what belongs to a container goes with
//! its network namespace.

mod attach;
mod bridge;
mod forward;
mod forwarding;
mod helper;
mod link;
mod lock;
mod names;
mod namespace;
mod netlink;
mod nftables;
mod opener;
mod port;
mod published;
mod rootless;
mod servant;
mod settings;
mod subnet;
mod switch;

pub(crate) use forward::Forwarder;
pub(crate) use forwarding::has_way_out;
pub(crate) use helper::Place;
pub(crate) use link::{Mac, format_mac};
pub(crate) use lock::Lock;
pub(crate) use names::{Asked, Knowledge, Known, RESOLVER, Responder, Server};
pub(crate) use namespace::Namespace;
pub(crate) use port::{Port, Publication, Published, summary};
pub(crate) use published::{Listener, publish};
pub(crate) use rootless::{Link, Program, has_tun};
pub(crate) use servant::{Servant, write_down};
pub(crate) use subnet::{
    check as check_subnet, choose as choose_subnet, first as first_address, is_taken, unique_local,
};
pub(crate) use switch::Switch;

use anyhow::{Context, Result};
use bridge::Bridge;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink::Socket;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the network that every container is in unless it says otherwise.
pub(crate) const DEFAULT: &str = "bridge";

/// A network that containers can be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// 64 hex digits; none for the default network.
    pub(crate) id: String,
    /// The name of its bridge on the host; all begin with `ddock`, and are at most ten letters long.
    pub(crate) bridge: String,
    /// Chosen when the bridge is made, if it is none.
    pub(crate) v4: Option<Ipv4Net>,
    pub(crate) v6: Option<Ipv6Net>,
    /// The host's own address, if it is not the first.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// The host's own address, if it is not the first.
    pub(crate) gateway6: Option<Ipv6Addr>,
    /// Where addresses are chosen from, if not everywhere.
    pub(crate) range: Option<Ipv4Net>,
    /// The way out's, if it is none.
    pub(crate) mtu: Option<u32>,
    /// Its members do not reach each other.
    pub(crate) isolated: bool,
    /// Nothing leaves it.
    pub(crate) internal: bool,
}

impl Network {
    /// Returns the network that every container is in unless it says otherwise.
    pub(crate) fn predefined() -> Self {
        Self {
            name: DEFAULT.to_owned(),
            bridge: "ddock0".to_owned(),
            v6: Some(subnet::default6()),
            ..Self::default()
        }
    }

    /// Returns the name of the bridge of the network with this ID: with a number behind it, that of a link still.
    pub(crate) fn bridge_of(id: &str) -> String {
        format!("ddock{}", id.get(..5).unwrap_or(id))
    }

    /// Returns the addresses of the network as it is made on this host; none if it is not.
    pub(crate) fn made(&self) -> Result<Vec<IpNet>> {
        bridge::addresses_of(&self.bridge)
    }

    /// Removes what belongs to the network on this host; no container is in it.
    pub(crate) fn unmake(&self, lock: &Lock) -> Result<()> {
        bridge::remove(self, lock)
    }
}

/// How a container is to be in a network.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) network: Network,
    /// A number that other containers hardly have: where the search for a free address begins.
    pub(crate) seed: u32,
    /// The container was here before. The kernel gives its address back some time after its end, and that is waited for.
    pub(crate) comes_again: bool,
    /// `--ip`
    pub(crate) address: Option<Ipv4Addr>,
    /// `--ip6`
    pub(crate) address6: Option<Ipv6Addr>,
    /// `--mac-address`
    pub(crate) mac: Option<Mac>,
    /// Whether this network is the container's way to everywhere else.
    pub(crate) is_way_out: bool,
    /// The name of its link in the container.
    pub(crate) link: String,
    /// Further names in this network.
    pub(crate) aliases: Vec<String>,
}

/// How a container is in a network, as its record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    /// None for the default network.
    #[serde(default)]
    pub(crate) network_id: String,
    /// The name of its link in the container.
    #[serde(default)]
    pub(crate) link: String,
    /// The name of its link on the host.
    #[serde(default)]
    pub(crate) port: String,
    /// Nothing leaves the network.
    #[serde(default)]
    pub(crate) internal: bool,
    pub(crate) address: Ipv4Net,
    pub(crate) address6: Option<Ipv6Net>,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) gateway6: Option<Ipv6Addr>,
    pub(crate) mac: Mac,
    pub(crate) aliases: Vec<String>,
}

impl Attachment {
    /// Tells whether containers find each other by name in the network: in the default one they do not, as with Docker.
    pub(crate) fn has_names(&self) -> bool {
        !self.network_id.is_empty()
    }
}

/// A network that is ready, and the wish of a container that is not yet there.
pub(crate) struct Ready {
    wish: Wish,
    bridge: Bridge,
    route: Socket,
}

impl Ready {
    /// Makes the network of `wish` if it is not there, and none of those that are `reserved`; what the user should know is
    /// added to `notes`.
    pub(crate) fn prepare(
        wish: Wish,
        reserved: &dyn Fn() -> Result<Vec<Ipv4Net>>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let mut route = Socket::route()?;
        let name = &wish.network.name;
        let bridge = Bridge::ensure(&wish.network, &mut route, reserved, notes)
            .with_context(|| unavailable(name))?;
        Ok(Self {
            wish,
            bridge,
            route,
        })
    }

    /// Makes the network of `wish` in an ordinary user's switch if it is not there.
    pub(crate) fn within(switch: &Switch, wish: Wish) -> Result<Self> {
        let (route, bridge) = switch
            .bridge(&wish.network)
            .with_context(|| unavailable(&wish.network.name))?;
        Ok(Self {
            wish,
            bridge,
            route,
        })
    }

    /// Returns the host's own addresses in the network.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        let v6 = self.bridge.gateway6.map(Into::into);
        [self.bridge.gateway.into()].into_iter().chain(v6).collect()
    }

    /// Tells whether this network is the container's way to everywhere else.
    pub(crate) fn is_way_out(&self) -> bool {
        self.wish.is_way_out
    }

    /// Tells whether nothing leaves the network.
    pub(crate) fn is_internal(&self) -> bool {
        self.wish.network.internal
    }

    /// Has the host route what containers answer to clients of their published ports.
    pub(crate) fn route_answers(&mut self) -> Result<()> {
        published::route_marked(&mut self.route)
    }

    /// Connects the container whose network namespace this is.
    pub(crate) fn connect(mut self, namespace: &Namespace) -> Result<Attachment> {
        attach::attach(&mut self.route, &self.bridge, &self.wish, namespace)
            .with_context(|| unavailable(&self.wish.network.name))
    }
}

impl Attachment {
    /// Disconnects the container; the network is in this switch, if in any.
    pub(crate) fn disconnect(&self, switch: Option<&Switch>) -> Result<()> {
        let mut route = switch.map_or_else(Socket::route, Switch::route)?;
        route.request_unless(&[Errno::NODEV], vec![link::delete(&self.port)])
    }

    /// Makes this network the container's way to everywhere else.
    pub(crate) fn become_way_out(&self, namespace: &Namespace) -> Result<()> {
        let v6 = self.gateway6.map(Into::into);
        let gateways = [IpAddr::from(self.gateway)].into_iter().chain(v6);
        attach::lead_out(namespace, &self.link, gateways)
    }
}

fn unavailable(network: &str) -> String {
    format!(
        "no connection to the network `{network}` (`--network none` and `--network host` need none)"
    )
}
