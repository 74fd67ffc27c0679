//! A network on this host: its bridge, its addresses there, its rules. Made when first needed, kept until it is removed.
//!
//! Nothing is written down: what a network is, its bridge's alias says; a link that is up has all the rest.

use crate::network::forwarding::{self, has_ipv6};
use crate::network::netlink::{Lacking, Socket, lacking};
use crate::network::nftables::{self, Families, Family, Rules};
use crate::network::{Lock, Network, link, published, settings, subnet};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The size of packets that every network takes.
const ETHERNET: u32 = 1500;

/// The words of an alias that say by which family the host was closed to others.
const CLOSED4: &str = "closed-ipv4";
const CLOSED6: &str = "closed-ipv6";

/// A bridge that is ready for containers.
#[derive(Debug, Clone)]
pub(super) struct Bridge {
    pub(super) index: u32,
    pub(super) mtu: u32,
    pub(super) v4: Ipv4Net,
    /// None where the kernel has no IPv6, or is told not to use it.
    pub(super) v6: Option<Ipv6Net>,
    pub(super) gateway: Ipv4Addr,
    pub(super) gateway6: Option<Ipv6Addr>,
    /// Whether it is in this process's network namespace, and not in an ordinary user's switch.
    pub(super) is_hosts: bool,
}

/// What the alias of a bridge says, in words, of which an older ddock passes over those that it does not know.
struct Alias {
    v4: Ipv4Net,
    v6: Option<Ipv6Net>,
    /// The host was closed to others when this was written.
    closed: Families,
}

impl Alias {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let v4 = words.next()?.parse().ok()?;
        let has = |word| text.split(' ').any(|it| it == word);
        Some(Self {
            v4,
            v6: words.next().and_then(|word| word.parse().ok()),
            closed: Families {
                v4: has(CLOSED4),
                v6: has(CLOSED6),
            },
        })
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.v4)?;
        if let Some(v6) = self.v6 {
            write!(formatter, " {v6}")?;
        }
        for family in self.closed.each() {
            let word = match family {
                Family::V4 => CLOSED4,
                Family::V6 => CLOSED6,
            };
            write!(formatter, " {word}")?;
        }
        Ok(())
    }
}

impl Bridge {
    /// Returns the bridge of `network`, which is made if it is not there; what the user should know is added to `notes`.
    ///
    /// `reserved` are the networks that may not be chosen although no route leads there.
    pub(super) fn ensure(
        network: &Network,
        route: &mut Socket,
        reserved: &dyn Fn() -> Result<Vec<Ipv4Net>>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let mut netfilter = Socket::netfilter()?;
        if let Some(bridge) = Self::ready(network, route, &mut netfilter)? {
            return Ok(bridge);
        }
        let _lock = Lock::take()?;
        // Another process may have made it meanwhile.
        if let Some(bridge) = Self::ready(network, route, &mut netfilter)? {
            return Ok(bridge);
        }
        let (of, index) = Self::make(network, route, reserved)?;
        let wanted = if network.internal {
            Families::default()
        } else {
            forwarding::lacking(of.v6.is_some())?
        };
        // Somebody may have flushed what closed the host since.
        let closed = of.closed.or(nftables::closed(&mut netfilter)?).or(wanted);
        // First: who dies in between leaves a host that is closed and does not forward.
        rules(network)
            .add(&mut netfilter, closed)
            .map_err(|error| {
                lacking(
                    error,
                    "nftables with all that rules need (modules `nft_masq` and `nft_ct`)",
                )
            })?;
        forwarding::turn_on(wanted, notes)?;
        let alias = Alias { closed, ..of }.to_string();
        let mtu = match network.mtu {
            Some(mtu) => mtu,
            None => uplink_mtu(route)?,
        };
        settings::distrust(&network.bridge)?;
        route.request(vec![link::distrust(&network.bridge)])?;
        // Last: whoever finds it up finds it complete.
        route.request(vec![link::bring_up_as(index, &network.bridge, &alias, mtu)])?;
        Self::ready(network, route, &mut netfilter)?
            .with_context(|| format!("the bridge `{}` went as soon as it came", network.bridge))
    }

    /// Returns the bridge of `network` where it has no address and no rules: it only joins the ports of its members.
    pub(super) fn bare(network: &Network, route: &mut Socket) -> Result<Self> {
        let name = network.bridge.as_str();
        let v4 = network.v4.context("the network has no addresses")?;
        let v6 = network.v6.filter(|_| has_ipv6());
        let gateway = network.gateway.unwrap_or_else(|| subnet::gateway(v4));
        let mtu = network.mtu.unwrap_or(ETHERNET);
        // Another container may make it at the same time.
        let made = vec![link::add_bridge(name, subnet::mac(gateway))];
        route.request_unless(&[Errno::EXIST], made)?;
        let found = link::find(route, name)?;
        let index = found
            .with_context(|| format!("there is no link `{name}`"))?
            .index;
        route.request(vec![link::bring_up_as(index, name, "", mtu)])?;
        Ok(Self {
            index,
            mtu,
            v4,
            v6,
            gateway,
            gateway6: v6.map(|it| network.gateway6.unwrap_or_else(|| subnet::gateway6(it))),
            is_hosts: false,
        })
    }

    /// Returns the bridge if it is there and complete.
    fn ready(
        network: &Network,
        route: &mut Socket,
        netfilter: &mut Socket,
    ) -> Result<Option<Self>> {
        let Some(found) = link::find(route, &network.bridge)?.filter(|link| link.is_up) else {
            return Ok(None);
        };
        let Some(Alias { v4, v6, .. }) = Alias::parse(&found.alias) else {
            return Ok(None);
        };
        ensure!(
            network.v4.is_none_or(|own| own == v4),
            "the bridge `{}` is that of another network, {v4}: define this one anew",
            network.bridge
        );
        let bridge = Self {
            is_hosts: true,
            index: found.index,
            mtu: found.mtu,
            v4,
            v6,
            gateway: network.gateway.unwrap_or_else(|| subnet::gateway(v4)),
            gateway6: v6.map(|it| network.gateway6.unwrap_or_else(|| subnet::gateway6(it))),
        };
        // Somebody may have flushed all rules, as firewalls do when they are loaded again.
        let are_there = rules(network).are_there(netfilter)?;
        Ok(are_there.then_some(bridge))
    }

    /// Makes the link and gives it its addresses; one that a process left unfinished is made anew.
    fn make(
        network: &Network,
        route: &mut Socket,
        reserved: &dyn Fn() -> Result<Vec<Ipv4Net>>,
    ) -> Result<(Alias, u32)> {
        let name = network.bridge.as_str();
        if let Some(found) = link::find(route, name)? {
            if let Some(alias) = Alias::parse(&found.alias) {
                return Ok((alias, found.index));
            }
            ensure!(
                !found.is_up,
                "there is a link `{name}` that ddock did not make"
            );
            route.request(vec![link::delete(name)])?;
        }
        let v4 = match network.v4 {
            Some(v4) => {
                // It had none when the network was defined, but hosts move.
                ensure!(
                    !subnet::overlaps_a_route(v4.into())?,
                    "this host has another way to {v4} by now: remove the network and define it anew"
                );
                v4
            }
            None => subnet::choose(&reserved()?)?,
        };
        let v6 = network.v6.filter(|_| has_ipv6());
        let gateways = gateways(network, v4, v6);
        let mac = subnet::mac(network.gateway.unwrap_or_else(|| subnet::gateway(v4)));
        route
            .request(vec![link::add_bridge(name, mac)])
            .map_err(|error| lacking(error, "bridges (module `bridge`)"))?;
        let index = link::find(route, name)?
            .with_context(|| format!("the bridge `{name}` went as soon as it came"))?
            .index;
        let gateways = gateways.into_iter();
        route.request(gateways.map(|it| link::add_address(index, it)).collect())?;
        let closed = Families::default();
        Ok((Alias { v4, v6, closed }, index))
    }
}

/// Returns the addresses of the network whose bridge this is, if it is there.
pub(super) fn addresses_of(bridge: &str) -> Result<Vec<IpNet>> {
    let found = link::find(&mut Socket::route()?, bridge)?;
    let alias = found.map(|link| link.alias).unwrap_or_default();
    Ok(alias.split(' ').filter_map(|it| it.parse().ok()).collect())
}

/// Removes the bridge of a network and its rules, as far as they are there.
pub(super) fn remove(network: &Network, _: &Lock) -> Result<()> {
    let mut route = Socket::route()?;
    let found = link::find(&mut route, &network.bridge)?;
    let of = found.and_then(|link| link.alias.split(' ').next()?.parse().ok());
    if network.v4.is_some() && of.is_some_and(|of| network.v4 != Some(of)) {
        // Another store's: the first digits of their IDs are the same.
        return Ok(());
    }
    route.request_unless(&[Errno::NODEV], vec![link::delete(&network.bridge)])?;
    let removed = Socket::netfilter().and_then(|mut socket| rules(network).remove(&mut socket));
    match removed {
        // What cannot be there is not there.
        Err(error) if error.is::<Lacking>() => Ok(()),
        removed => removed,
    }
}

fn rules(network: &Network) -> Rules<'_> {
    Rules {
        bridge: &network.bridge,
        internal: network.internal,
        isolated: network.isolated,
        mark: published::MARK,
    }
}

fn gateways(network: &Network, v4: Ipv4Net, v6: Option<Ipv6Net>) -> Vec<IpNet> {
    let with = |address: IpAddr, prefix| {
        IpNet::new(address, prefix).expect("the prefix is that of a network")
    };
    let own4 = network.gateway.unwrap_or_else(|| subnet::gateway(v4));
    let own6 = |net| network.gateway6.unwrap_or_else(|| subnet::gateway6(net));
    let v6 = v6.map(|net| with(own6(net).into(), net.prefix_len()));
    [with(own4.into(), v4.prefix_len())]
        .into_iter()
        .chain(v6)
        .collect()
}

/// Returns the MTU of the way out of this host: what is larger would be cut up there, or lost.
fn uplink_mtu(route: &mut Socket) -> Result<u32> {
    let table = fs::read_to_string("/proc/net/route")?;
    let Some(name) = subnet::uplink(&table) else {
        return Ok(ETHERNET);
    };
    Ok(link::find(route, name)?.map_or(ETHERNET, |link| link.mtu.min(ETHERNET)))
}
