//! A network on this host: its bridge, its addresses there, its rules. Made when first needed, kept until it is removed.
//!
//! Nothing is written down: what a network is, its bridge's alias says; a link that is up has all the rest.

use crate::network::netlink::{Lacking, Socket, lacking};
use crate::network::nftables::Rules;
use crate::network::{Network, link, published, subnet};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The size of packets that every network takes.
const ETHERNET: u32 = 1500;

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
}

/// The lock of everything that is made for networks in this network namespace: that of the namespace itself,
/// which no file system has to hold.
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] fs::File);

impl Lock {
    pub(super) fn take() -> Result<Self> {
        let namespace = fs::File::open("/proc/thread-self/ns/net")?;
        retry_on_intr(|| flock(&namespace, FlockOperation::LockExclusive))
            .context("locking the host's networks")?;
        Ok(Self(namespace))
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
        let (v4, v6, index) = Self::make(network, route, reserved)?;
        let addresses = addresses(v4, v6);
        let rules = rules(network, &addresses);
        if !rules.are_there(&mut netfilter)? {
            rules.add(&mut netfilter).map_err(|error| {
                lacking(
                    error,
                    "nftables with all that rules need (module `nft_masq`)",
                )
            })?;
        }
        if !network.internal {
            forward(v6.is_some(), notes)?;
        }
        let alias = addresses.iter().map(ToString::to_string);
        let alias = alias.collect::<Vec<_>>().join(" ");
        let mtu = match network.mtu {
            Some(mtu) => mtu,
            None => uplink_mtu(route)?,
        };
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
        let mut words = found.alias.split(' ');
        let Some(Ok(v4)) = words.next().map(str::parse) else {
            return Ok(None);
        };
        ensure!(
            network.v4.is_none_or(|own| own == v4),
            "the bridge `{}` is that of another network, {v4}: define this one anew",
            network.bridge
        );
        let v6 = words.next().and_then(|word| word.parse().ok());
        let bridge = Self {
            index: found.index,
            mtu: found.mtu,
            v4,
            v6,
            gateway: network.gateway.unwrap_or_else(|| subnet::gateway(v4)),
            gateway6: v6.map(|it| network.gateway6.unwrap_or_else(|| subnet::gateway6(it))),
        };
        // Somebody may have flushed all rules, as firewalls do when they are loaded again.
        let are_there = rules(network, &addresses(v4, v6)).are_there(netfilter)?;
        Ok(are_there.then_some(bridge))
    }

    /// Makes the link and gives it its addresses; one that a process left unfinished is made anew.
    fn make(
        network: &Network,
        route: &mut Socket,
        reserved: &dyn Fn() -> Result<Vec<Ipv4Net>>,
    ) -> Result<(Ipv4Net, Option<Ipv6Net>, u32)> {
        let name = network.bridge.as_str();
        if let Some(found) = link::find(route, name)? {
            let mut words = found.alias.split(' ');
            if let Some(Ok(v4)) = words.next().map(str::parse) {
                let v6 = words.next().and_then(|word| word.parse().ok());
                return Ok((v4, v6, found.index));
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
        Ok((v4, v6, index))
    }
}

/// Returns the addresses of the network whose bridge this is, if it is there.
pub(super) fn addresses_of(bridge: &str) -> Result<Vec<IpNet>> {
    let found = link::find(&mut Socket::route()?, bridge)?;
    let alias = found.map(|link| link.alias).unwrap_or_default();
    Ok(alias.split(' ').filter_map(|it| it.parse().ok()).collect())
}

/// Removes the bridge of a network and its rules, as far as they are there.
pub(super) fn remove(network: &Network) -> Result<()> {
    let _lock = Lock::take()?;
    let mut route = Socket::route()?;
    let found = link::find(&mut route, &network.bridge)?;
    let of = found.and_then(|link| link.alias.split(' ').next()?.parse().ok());
    if network.v4.is_some() && of.is_some_and(|of| network.v4 != Some(of)) {
        // Another store's: the first digits of their IDs are the same.
        return Ok(());
    }
    route.request_unless(&[Errno::NODEV], vec![link::delete(&network.bridge)])?;
    let removed =
        Socket::netfilter().and_then(|mut socket| rules(network, &[]).remove(&mut socket));
    match removed {
        // What cannot be there is not there.
        Err(error) if error.is::<Lacking>() => Ok(()),
        removed => removed,
    }
}

fn rules<'a>(network: &'a Network, networks: &'a [IpNet]) -> Rules<'a> {
    Rules {
        bridge: &network.bridge,
        networks,
        internal: network.internal,
        isolated: network.isolated,
        mark: published::MARK,
    }
}

fn addresses(v4: Ipv4Net, v6: Option<Ipv6Net>) -> Vec<IpNet> {
    let v6 = v6.map(IpNet::V6);
    [IpNet::V4(v4)].into_iter().chain(v6).collect()
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

/// Tells whether links have IPv6 here.
fn has_ipv6() -> bool {
    // Without the file there is no IPv6 at all.
    fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        .is_ok_and(|text| text.trim() == "0")
}

/// Returns the MTU of the way out of this host: what is larger would be cut up there, or lost.
fn uplink_mtu(route: &mut Socket) -> Result<u32> {
    let table = fs::read_to_string("/proc/net/route")?;
    let Some(name) = subnet::uplink(&table) else {
        return Ok(ETHERNET);
    };
    Ok(link::find(route, name)?.map_or(ETHERNET, |link| link.mtu.min(ETHERNET)))
}

/// Has the host forward packets, and says so if it did not.
fn forward(v6: bool, notes: &mut Vec<String>) -> Result<()> {
    turn_on("/proc/sys/net/ipv4/ip_forward", notes)?;
    // A host that hears of its routes from a router stops to listen when it forwards, unless told otherwise.
    if v6 && has_default_route6()? {
        let all = Path::new("/proc/sys/net/ipv6/conf/all/forwarding");
        if fs::read_to_string(all)?.trim() == "0" {
            for entry in fs::read_dir("/proc/sys/net/ipv6/conf")? {
                let accepts = entry?.path().join("accept_ra");
                if fs::read_to_string(&accepts)?.trim() == "1" {
                    fs::write(&accepts, "2")?;
                }
            }
            turn_on("/proc/sys/net/ipv6/conf/all/forwarding", notes)?;
        }
    }
    Ok(())
}

fn turn_on(path: &str, notes: &mut Vec<String>) -> Result<()> {
    if fs::read_to_string(path)?.trim() != "0" {
        return Ok(());
    }
    fs::write(path, "1")?;
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    notes.push(format!(
        "this host forwards packets from now on, for containers to reach others (`{name}` was 0)"
    ));
    Ok(())
}

/// Tells whether this host has a way out itself.
pub(crate) fn has_way_out() -> Result<bool> {
    let table = fs::read_to_string("/proc/net/route")?;
    Ok(subnet::uplink(&table).is_some() || has_ipv6() && has_default_route6()?)
}

fn has_default_route6() -> Result<bool> {
    let table = fs::read_to_string("/proc/net/ipv6_route")?;
    Ok(table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Destination and prefix length are zero; routes of `lo` only say that there is none.
        let any = Ipv6Addr::UNSPECIFIED
            .octets()
            .map(|byte| format!("{byte:02x}"))
            .concat();
        fields.first() == Some(&any.as_str())
            && fields.get(1) == Some(&"00")
            && fields.last().is_some_and(|link| *link != "lo")
    }))
}
