//! Names in networks of the user's: a process for each container that answers at 127.0.0.11, as Docker's daemon does.
//!
//! It knows nothing for longer than a query takes: the store leads from a name straight to its containers, and what is
//! none of them is asked of others. So there is no state that could be wrong, and nothing to tell anybody when
//! containers come and go.

mod attempt;
mod message;
mod queries;
mod service;
mod streams;

use crate::network::Namespace;
use crate::network::helper::{Helper, Place, keep_only};
use crate::network::netlink::Socket;
use crate::network::nftables::redirect;
use crate::network::opener::Opener;
use crate::network::published::open;
use crate::network::servant::Servant;
use crate::sys::rights::{Needs, give_up_rights};
use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use queries::Queries;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::net::{SocketType, bind, getsockname, listen};
use rustix::thread::CapabilitySet;
use service::{Service, Token};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use streams::Streams;

/// Where containers ask.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port of name servers.
const PORT: u16 = 53;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 64;

/// Bytes for datagrams that wait to be read: some thousand questions at once, where each takes three quarters of a KiB.
const WAITING: usize = 1 << 20;

/// What a query is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// Lower case, without a dot at the end.
    Name(&'a str),
    Address(IpAddr),
    /// What no container has.
    Other,
}

/// What is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is the name of containers that have these.
    Addresses(Vec<IpAddr>),
    /// It is the address of a container that is called so.
    Name(String),
    /// It is no container's: these may know it, and without any nobody is to be asked.
    Elsewhere(Vec<Server>),
}

/// Somebody who knows other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// It is meant as the container sees it, not as the host does.
    pub(crate) is_of_container: bool,
}

/// What a responder knows, and by which ways.
pub(crate) struct Knowledge {
    /// Says what is known, afresh for each query.
    pub(crate) directory: Box<dyn FnMut(Asked<'_>) -> Result<Known>>,
    /// Some servers are asked in the container's network namespace.
    pub(crate) asks_inside: bool,
    /// What the directory reads lies behind directories that others let nobody through.
    pub(crate) reads_beyond: bool,
}

/// Sockets, beside files that are read.
#[rustfmt::skip]
const CALLS: &[libc::c_long] = &[
    libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_accept4, libc::SYS_socket, libc::SYS_connect,
    libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_recvmsg, libc::SYS_sendmsg,
];

/// What the process that answers does, in words for the user.
const NAME: &str = "the process that answers for names";

/// The process that answers, and what another needs that takes its place: the kernel sends questions to these two sockets.
pub(crate) struct Responder {
    servant: Servant,
    datagrams: OwnedFd,
    listener: OwnedFd,
    knowledge: Knowledge,
}

impl Responder {
    /// Starts to answer in a network namespace. Needs a process with one thread.
    pub(crate) fn start(
        namespace: &Namespace,
        place: &Place,
        mut knowledge: Knowledge,
    ) -> Result<Self> {
        let [datagrams, listener, netfilter] = namespace.sockets(|| {
            let [datagrams, listener] = [SocketType::DGRAM, SocketType::STREAM].map(take_port);
            Ok([datagrams?, listener?, Socket::netfilter()?.into()])
        })?;
        let from = SocketAddrV4::new(RESOLVER, PORT);
        let (ports, others) = (port_of(&datagrams)?, port_of(&listener)?);
        redirect(&mut netfilter.into(), from, ports, others)
            .context("the kernel's nftables (`nf_tables`, `nft_nat`) are needed")?;
        let helper = Helper::start(place, || {
            serve(&datagrams, &listener, namespace, &mut knowledge)
        })?;
        Ok(Self {
            servant: Servant::new(NAME, helper),
            datagrams,
            listener,
            knowledge,
        })
    }

    /// Starts it again if it has died and it is time; returns what there is to say of that.
    pub(crate) fn look_after(&mut self, namespace: &Namespace, place: &Place) -> Option<String> {
        let Self {
            servant,
            datagrams,
            listener,
            knowledge,
        } = self;
        servant.look_after(|| {
            Helper::start(place, || serve(datagrams, listener, namespace, knowledge))
        })
    }

    pub(crate) fn servant(&self) -> &Servant {
        &self.servant
    }
}

fn serve(
    datagrams: &OwnedFd,
    listener: &OwnedFd,
    namespace: &Namespace,
    knowledge: &mut Knowledge,
) -> Result<()> {
    let kept = [datagrams, listener].map(AsRawFd::as_raw_fd);
    let kept = [&kept[..], &[namespace.as_fd().as_raw_fd()]].concat();
    let descriptors = keep_only(&kept)?;
    let opener = knowledge.asks_inside.then(|| Opener::start(namespace));
    let opener = opener.transpose()?;
    let events = epoll::create(CreateFlags::CLOEXEC)?;
    if let Some(opener) = &opener {
        epoll::add(&events, opener.end(), Token::Opener.data(), EventFlags::IN)?;
    }
    epoll::add(&events, datagrams, Token::Datagrams.data(), EventFlags::IN)?;
    epoll::add(&events, listener, Token::Listener.data(), EventFlags::IN)?;
    let beyond = CapabilitySet::DAC_READ_SEARCH;
    give_up_rights(&Needs {
        capabilities: if knowledge.reads_beyond {
            beyond
        } else {
            CapabilitySet::empty()
        },
        calls: CALLS,
        reads_files: true,
    })?;
    let service = Service {
        events: &events,
        datagrams,
        listener,
        streams: Streams::default(),
        queries: Queries::new(&events, opener, descriptors),
        directory: &mut knowledge.directory,
        buffer: vec![0; usize::from(u16::MAX)],
    };
    service.serve()
}

/// Opens a socket at a port that is free: port 53 stays free for servers of the container's own.
fn take_port(kind: SocketType) -> Result<OwnedFd> {
    let socket = open(RESOLVER.into(), kind)?;
    // The loopback interface may not be up yet.
    rustix::net::sockopt::set_ip_freebind(&socket, true)?;
    let address = SocketAddr::new(RESOLVER.into(), 0);
    bind(&socket, &address).with_context(|| format!("taking a port at {RESOLVER}"))?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    } else if setsockopt(&socket, sockopt::RcvBufForce, &WAITING).is_err() {
        // Only root of the machine has more than what the machine allows to all.
        setsockopt(&socket, sockopt::RcvBuf, &WAITING).ok();
    }
    Ok(socket)
}

fn port_of(socket: &OwnedFd) -> Result<u16> {
    let address = SocketAddr::try_from(getsockname(socket)?)?;
    Ok(address.port())
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Client {
    Datagram(SocketAddr),
    Stream(streams::Name),
}

impl Client {
    /// Returns how long an answer of ours may be.
    fn most(self) -> usize {
        match self {
            Self::Datagram(_) => message::DATAGRAM,
            Self::Stream(_) => usize::from(u16::MAX),
        }
    }
}
