//! Published ports: sockets of the host's that are held from before the container starts until it has ended.
//!
//! What arrives there went through the host's firewall as for any of its services, `INPUT` included; a process
//! passes it on (`forward`). Nobody else can take the port meanwhile, and the host sees who has it.

use crate::network::link;
use crate::network::netlink::Socket;
use crate::network::port::{Port, Protocol, Publication, Published};
use crate::sys::limit::{out_of_the_way, raise_descriptors};
use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// What packets bear that are for a socket which speaks with a client's address.
pub(super) const MARK: u32 = 0xdd0c;

/// The routing table that takes such packets for the host's own.
const TABLE: u8 = 0xdd;

/// How many connections wait at most that nobody has accepted yet (listen(2)).
const BACKLOG: i32 = 4096;

/// How often a free port is looked for that is free for both IPv4 and IPv6.
const ATTEMPTS: usize = 64;

/// A held port, and where what arrives there goes.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(super) socket: OwnedFd,
    pub(crate) port: Published,
}

/// Takes the ports of `publications`; all or none.
pub(crate) fn publish(publications: &[Publication]) -> Result<Vec<Listener>> {
    if !publications.is_empty() {
        // Each port is held by two, here and in the processes to come: the caller's limit is often 1024.
        raise_descriptors();
    }
    let mut listeners = Vec::new();
    for publication in publications {
        listeners.extend(take(publication)?);
    }
    Ok(listeners)
}

fn take(publication: &Publication) -> Result<Vec<Listener>> {
    let candidates: Vec<u16> = match &publication.host {
        Some(range) => range.clone().collect(),
        None => vec![0; ATTEMPTS],
    };
    let is_choice = candidates.len() > 1;
    for number in candidates {
        match take_at(publication, number) {
            Err(error) if is_choice && is_taken(&error) => {}
            other => return other,
        }
    }
    bail!(
        "all ports of the range for {} are allocated",
        publication.container
    )
}

fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Errno>() == Some(&Errno::ADDRINUSE)
}

/// Takes one port at the address, or at all of them: those of IPv4 and those of IPv6, one socket each.
fn take_at(publication: &Publication, number: u16) -> Result<Vec<Listener>> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let addresses = match &publication.address {
        Some(address) => std::slice::from_ref(address),
        None => &any,
    };
    let (mut listeners, mut number) = (Vec::new(), number);
    for address in addresses {
        let host = SocketAddr::new(*address, number);
        match hold(host, publication.container) {
            // A host without IPv6 has all its addresses nevertheless.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
                if publication.address.is_none() && address.is_ipv6() => {}
            Err(Errno::ADDRINUSE) => {
                let context = format!("Bind for {host} failed: port is already allocated");
                return Err(anyhow::Error::from(Errno::ADDRINUSE).context(context));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("publishing the port {host}"));
            }
            Ok(listener) => {
                // The second one has the number that the first was given.
                number = listener.port.host.port();
                listeners.push(listener);
            }
        }
    }
    Ok(listeners)
}

fn hold(host: SocketAddr, container: Port) -> rustix::io::Result<Listener> {
    let kind = match container.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = out_of_the_way(open(host.ip(), kind)?);
    match container.protocol {
        Protocol::Tcp => rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?,
        // The answer leaves from the address that was asked.
        Protocol::Udp if host.is_ipv4() => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)
            .map_err(|errno| Errno::from_raw_os_error(errno as i32))?,
        Protocol::Udp => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
            .map_err(|errno| Errno::from_raw_os_error(errno as i32))?,
    }
    bind(&socket, &host)?;
    if container.protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    let host = SocketAddr::try_from(getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    Ok(Listener {
        socket,
        port: Published { container, host },
    })
}

/// Opens a socket that does not block and is closed on exec; one of IPv6 is that alone.
pub(super) fn open(address: IpAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// Has the host take packets for its own that are for sockets which speak with a client's address; once a host.
pub(super) fn route_marked(route: &mut Socket) -> Result<()> {
    let families: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    for any in families {
        let requests = vec![
            link::add_rule(any, MARK, TABLE),
            link::add_local_route(any, TABLE),
        ];
        // They are there already, or there is no IPv6: then nothing arrives by it.
        let harmless = [
            Errno::EXIST,
            Errno::AFNOSUPPORT,
            Errno::OPNOTSUPP,
            Errno::NODEV,
        ];
        route.request_unless(&harmless, requests)?;
    }
    Ok(())
}
