//! A container's link to a network: a pair of links, one end a port of the bridge, the other `eth0` inside.
//!
//! The port is named after the address: to make the link is to take the address, which the kernel gives to one
//! container only, and gives back when the container's network namespace goes, however that came about.

use crate::network::bridge::Bridge;
use crate::network::link::{self, Inside, Mac};
use crate::network::netlink::{Socket, is_refusal, lacking};
use crate::network::{Attachment, Namespace, Wish, settings, subnet};
use anyhow::{Context, Result, bail, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long an address that was asked for may be in use still: the kernel takes its time to remove the links of a
/// container that has ended.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether the address is free by now.
const PAUSE: Duration = Duration::from_millis(5);

/// What a container has in a network.
struct Chosen {
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    mac: Mac,
    /// The name of the link on the host.
    port: String,
}

/// Connects a container to the network of `bridge`: links, addresses and, by the first one, the way out.
pub(super) fn attach(
    route: &mut Socket,
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
) -> Result<Attachment> {
    let chosen = take_address(route, bridge, wish, namespace)?;
    let configured = open_port(route, bridge, wish, &chosen.port)
        .and_then(|()| configure(bridge, wish, namespace, &chosen));
    if let Err(error) = configured {
        // The first error is the one to tell.
        route.request(vec![link::delete(&chosen.port)]).ok();
        return Err(error);
    }
    Ok(Attachment {
        network: wish.network.name.clone(),
        network_id: wish.network.id.clone(),
        link: wish.link.clone(),
        port: chosen.port,
        internal: wish.network.internal,
        address: net(chosen.v4, bridge.v4),
        address6: chosen.v6.zip(bridge.v6).map(|(it, of)| net6(it, of)),
        gateway: bridge.gateway,
        gateway6: bridge.gateway6,
        mac: chosen.mac,
        aliases: wish.aliases.clone(),
    })
}

/// Brings the port up, which is to carry the container's traffic to the bridge and nothing to the host.
fn open_port(route: &mut Socket, bridge: &Bridge, wish: &Wish, port: &str) -> Result<()> {
    if bridge.is_hosts {
        // A frame that is for bridges themselves reaches the host by the port.
        settings::distrust(port)?;
    }
    let isolate = wish.network.isolated.then(|| link::isolate(port));
    let requests = [link::distrust(port)].into_iter().chain(isolate);
    route.request(requests.chain([link::bring_up_named(port)]).collect())
}

/// Takes an address that is free, or the one that was asked for.
fn take_address(
    route: &mut Socket,
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
) -> Result<Chosen> {
    if let Some(address) = wish.address6 {
        subnet::check6(bridge.v6, address)?;
    }
    let asked = wish.address.map(|it| subnet::number(bridge.v4, it));
    let asked = asked.transpose()?;
    let is_hosts = wish.address == Some(bridge.gateway)
        || wish.address6.is_some() && wish.address6 == bridge.gateway6;
    let is_choice = asked.is_none() && wish.address6.is_none();
    let end = Instant::now() + GRACE;
    let own = is_choice && wish.comes_again;
    loop {
        if own && Instant::now() < end {
            let number = place(bridge, wish, 0);
            match find(route, bridge, wish, namespace, Some(number))? {
                Ok(chosen) => return Ok(chosen),
                Err(_) => thread::sleep(PAUSE),
            }
            continue;
        }
        match find(route, bridge, wish, namespace, asked)? {
            Ok(chosen) => return Ok(chosen),
            Err(_) if !is_choice && !is_hosts && Instant::now() < end => thread::sleep(PAUSE),
            Err(Some(address)) => bail!("Address already in use: {address}"),
            Err(None) => bail!("every address of the network {} is in use", bridge.v4),
        }
    }
}

/// Returns how many addresses containers are given.
fn room(bridge: &Bridge, wish: &Wish) -> u32 {
    let places = subnet::places(bridge.v4, wish.network.range);
    u32::try_from(places.count()).expect("there are few places")
}

/// Returns which address an attempt tries: anywhere, by the container's ID. With few containers the first is free.
fn place(bridge: &Bridge, wish: &Wish, attempt: u32) -> u32 {
    let room = room(bridge, wish);
    let first = *subnet::places(bridge.v4, wish.network.range).start();
    first + (wish.seed % room + attempt) % room
}

/// Tries the addresses that would do; else returns the one that was asked for and is in use.
fn find(
    route: &mut Socket,
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
    asked: Option<u32>,
) -> Result<Result<Chosen, Option<IpAddr>>> {
    for attempt in 0..asked.map_or(room(bridge, wish), |_| 1) {
        let number = asked.unwrap_or_else(|| place(bridge, wish, attempt));
        let v4 = subnet::nth(bridge.v4, number);
        let derived = || Some(subnet::nth6(bridge.v6?, number));
        let chosen = Chosen {
            v4,
            v6: wish.address6.or_else(derived),
            mac: wish.mac.unwrap_or_else(|| subnet::mac(v4)),
            port: format!("{}.{number:04x}", wish.network.bridge),
        };
        match take(route, bridge, wish, namespace, &chosen)? {
            None => return Ok(Ok(chosen)),
            // No other number would help.
            Some(taken) if Some(taken) == wish.address6.map(Into::into) => {
                return Ok(Err(Some(taken)));
            }
            Some(_) => {}
        }
    }
    Ok(Err(wish.address.map(Into::into)))
}

/// Makes the links that are named after addresses, which takes them; returns the one that another has, if any.
fn take(
    route: &mut Socket,
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
    chosen: &Chosen,
) -> Result<Option<IpAddr>> {
    if chosen.v4 == bridge.gateway {
        return Ok(Some(chosen.v4.into()));
    }
    if chosen.v6.is_some() && chosen.v6 == bridge.gateway6 {
        return Ok(chosen.v6.map(Into::into));
    }
    let inside = Inside {
        namespace: namespace.as_fd(),
        name: &wish.link,
        mac: chosen.mac,
    };
    let pair = link::add_pair(&chosen.port, bridge.index, bridge.mtu, &inside);
    match route.request(vec![pair]) {
        Err(error) if is_refusal(&error, Errno::EXIST) => {
            // The kernel does not say which end: no other address would help against a link of the container's own.
            let name = &wish.link;
            ensure!(
                open(namespace, name).is_err(),
                "the container has a link `{name}` of its own"
            );
            return Ok(Some(chosen.v4.into()));
        }
        // `BR_MAX_PORTS` of net/bridge/br_private.h.
        Err(error) if is_refusal(&error, Errno::XFULL) => bail!(
            "the network has 1023 containers, as many as Linux lets a bridge have: make another with `ddock network create`"
        ),
        other => other.map_err(|error| lacking(error, "pairs of links (module `veth`)"))?,
    }
    // Where nobody can ask for one, that of IPv6 goes with that of IPv4.
    let Some(v6) = chosen.v6.filter(|_| !wish.network.id.is_empty()) else {
        return Ok(None);
    };
    let name = format!("{}.{:032x}", wish.network.bridge, u128::from(v6));
    match route.request(vec![link::name_too(&chosen.port, &name)]) {
        // Linux before 5.5 has no further names: two containers that ask for one address would both have it.
        Err(error) if is_refusal(&error, Errno::OPNOTSUPP) => Ok(None),
        Err(error) => {
            // The first error is the one to tell.
            route.request(vec![link::delete(&chosen.port)]).ok();
            if is_refusal(&error, Errno::EXIST) {
                return Ok(Some(v6.into()));
            }
            Err(error)
        }
        Ok(()) => Ok(None),
    }
}

fn net(address: Ipv4Addr, of: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new(address, of.prefix_len()).expect("the prefix is that of a network")
}

fn net6(address: Ipv6Addr, of: Ipv6Net) -> Ipv6Net {
    Ipv6Net::new(address, of.prefix_len()).expect("the prefix is that of a network")
}

/// Gives the container's end its addresses and, unless the network is internal, the way out.
fn configure(bridge: &Bridge, wish: &Wish, namespace: &Namespace, chosen: &Chosen) -> Result<()> {
    let (mut inside, index) = open(namespace, &wish.link)?;
    let v4 = IpNet::V4(net(chosen.v4, bridge.v4));
    let mut requests = vec![
        link::bring_up(index, &wish.link),
        link::add_address(index, v4),
    ];
    let v6 = chosen.v6.zip(bridge.v6);
    requests.extend(v6.map(|(it, of)| link::add_address(index, IpNet::V6(net6(it, of)))));
    if wish.is_way_out && !wish.network.internal {
        requests.push(link::add_default_route(index, bridge.gateway.into()));
        let v6 = bridge.gateway6;
        requests.extend(v6.map(|it| link::add_default_route(index, it.into())));
    }
    inside.request(requests)
}

/// Makes a link of the container's its way to everywhere else.
pub(super) fn lead_out(
    namespace: &Namespace,
    link_name: &str,
    gateways: impl Iterator<Item = IpAddr>,
) -> Result<()> {
    let (mut inside, index) = open(namespace, link_name)?;
    let routes = gateways.map(|it| link::add_default_route(index, it));
    // The container may have made one itself.
    inside.request_unless(&[Errno::EXIST], routes.collect())
}

/// Returns a socket in the network namespace, and the number of a link there.
fn open(namespace: &Namespace, link_name: &str) -> Result<(Socket, u32)> {
    let [inside] = namespace.sockets(|| Ok([Socket::route()?.into()]))?;
    let mut inside = Socket::from(inside);
    let found = link::find(&mut inside, link_name)?;
    let found = found.with_context(|| format!("the container has no link `{link_name}`"))?;
    Ok((inside, found.index))
}
