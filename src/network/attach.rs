//! A container's link to a network: a pair of links, one end a port of the bridge, the other `eth0` inside.
//!
//! The port is named after the address: to make the link is to take the address, which the kernel gives to one
//! container only, and gives back when the container's network namespace goes, however that came about.

use crate::network::bridge::Bridge;
use crate::network::link::{self, Inside, Mac};
use crate::network::netlink::{Socket, is_refusal};
use crate::network::{Attachment, Wish, subnet};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::sched::{CloneFlags, setns};
use rustix::io::Errno;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

/// A network namespace other than this process's.
pub(crate) struct Namespace {
    file: fs::File,
}

impl Namespace {
    /// Returns the network namespace of a process; the caller sees to it that the process is not another by now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self {
            file: fs::File::open(format!("/proc/{pid}/ns/net"))?,
        })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Goes inside, for good.
    pub(super) fn enter(&self) -> Result<()> {
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET)
            .context("entering the container's network namespace")
    }

    /// Does `act` inside; sockets that it opens stay there. Needs a process with one thread.
    pub(super) fn within<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let own = fs::File::open("/proc/thread-self/ns/net")?;
        self.enter()?;
        let result = act();
        setns(own.as_fd(), CloneFlags::CLONE_NEWNET)
            .context("coming back from the container's network namespace")?;
        result
    }
}

/// What a container has in a network.
struct Chosen {
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    mac: Mac,
}

/// Connects a container to the network of `bridge`: links, addresses and, by the first one, the way out.
pub(super) fn attach(
    route: &mut Socket,
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
    link_name: &str,
) -> Result<Attachment> {
    let (chosen, port) = take_address(route, bridge, wish, namespace, link_name)?;
    let configured = configure(bridge, wish, namespace, link_name, &chosen);
    if let Err(error) = configured {
        // The first error is the one to tell.
        route.request(vec![link::delete(&port)]).ok();
        return Err(error);
    }
    Ok(Attachment {
        network: wish.network.name.clone(),
        address: net(chosen.v4, bridge.v4),
        address6: chosen.v6.zip(bridge.v6).map(|(it, of)| net6(it, of)),
        gateway: subnet::gateway(bridge.v4),
        gateway6: bridge.v6.map(subnet::gateway6),
        mac: chosen.mac,
        aliases: wish.aliases.clone(),
    })
}

fn take_address(
    route: &mut Socket,
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
    link_name: &str,
) -> Result<(Chosen, String)> {
    let room = subnet::room(bridge.v4);
    ensure!(room > 0, "the network {} has no addresses", bridge.v4);
    let (first, attempts) = match wish.address {
        Some(address) => (subnet::number(bridge.v4, address)?, 1),
        // Anywhere, by the container's ID: with few containers the first is free.
        None => (2 + wish.seed % room, room),
    };
    for attempt in 0..attempts {
        let number = 2 + (first - 2 + attempt) % room;
        let v4 = subnet::nth(bridge.v4, number);
        let chosen = Chosen {
            v4,
            v6: wish
                .address6
                .or_else(|| Some(subnet::nth6(bridge.v6?, number))),
            mac: wish.mac.unwrap_or_else(|| subnet::mac(v4)),
        };
        let port = format!("{}.{number:04x}", wish.network.bridge);
        let inside = Inside {
            namespace: namespace.as_fd(),
            name: link_name,
            mac: chosen.mac,
        };
        let pair = link::add_pair(&port, bridge.index, bridge.mtu, &inside);
        match route.request(vec![pair]) {
            Err(error) if is_refusal(&error, Errno::EXIST) => {}
            other => return other.map(|()| (chosen, port)),
        }
    }
    match wish.address {
        Some(address) => anyhow::bail!("Address already in use: {address}"),
        None => anyhow::bail!("every address of the network {} is in use", bridge.v4),
    }
}

fn net(address: Ipv4Addr, of: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new(address, of.prefix_len()).expect("the prefix is that of a network")
}

fn net6(address: Ipv6Addr, of: Ipv6Net) -> Ipv6Net {
    Ipv6Net::new(address, of.prefix_len()).expect("the prefix is that of a network")
}

/// Gives the container's end its addresses and, unless the network is internal, the way out.
fn configure(
    bridge: &Bridge,
    wish: &Wish,
    namespace: &Namespace,
    link_name: &str,
    chosen: &Chosen,
) -> Result<()> {
    let mut inside = namespace.within(Socket::route)?;
    let index = link::find(&mut inside, link_name)?
        .with_context(|| format!("the link `{link_name}` went as soon as it came"))?
        .index;
    let v4 = IpNet::V4(net(chosen.v4, bridge.v4));
    let mut requests = vec![
        link::bring_up(index, link_name),
        link::add_address(index, v4),
    ];
    let v6 = chosen.v6.zip(bridge.v6);
    requests.extend(v6.map(|(it, of)| link::add_address(index, IpNet::V6(net6(it, of)))));
    if wish.is_way_out && !wish.network.internal {
        requests.push(link::add_default_route(
            index,
            subnet::gateway(bridge.v4).into(),
        ));
        let v6 = bridge.v6.map(subnet::gateway6);
        requests.extend(v6.map(|it| link::add_default_route(index, it.into())));
    }
    inside.request(requests)
}
