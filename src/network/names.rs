//! Names in networks of the user's: a process for each container that answers at 127.0.0.11, as Docker's daemon does.
//!
//! It knows nothing for longer than a query takes: the store leads from a name straight to its containers, and what is
//! none of them is asked of others. So there is no state that could be wrong, and nothing to tell anybody when
//! containers come and go.

mod attempt;
mod message;
mod queries;
mod streams;

use crate::network::Namespace;
use crate::network::helper::{Helper, Place, keep_only};
use crate::network::netlink::Socket;
use crate::network::nftables::redirect;
use crate::network::opener::Opener;
use crate::network::published::open;
use crate::sys::rights::{Needs, give_up_rights};
use anyhow::{Context, Result};
use message::{Code, Question, Unfit};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use queries::{Answer, Queries};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, SocketType, bind, getsockname, listen, recvfrom, sendto};
use rustix::thread::CapabilitySet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use streams::{LARGEST_QUERY, Streams};

/// Where containers ask.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port of name servers.
const PORT: u16 = 53;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 64;

/// Bytes for datagrams that wait to be read: some thousand questions at once, where each takes three quarters of a KiB.
const WAITING: usize = 1 << 20;

/// How many questions are taken before others have their turn.
const TURN: usize = 64;

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

/// The process that answers.
pub(crate) struct Responder(Helper);

impl Responder {
    /// Starts to answer in a network namespace. Needs a process with one thread.
    pub(crate) fn start(
        namespace: &Namespace,
        place: &Place,
        knowledge: Knowledge,
    ) -> Result<Self> {
        let [datagrams, listener, netfilter] = namespace.sockets(|| {
            let [datagrams, listener] = [SocketType::DGRAM, SocketType::STREAM].map(take_port);
            Ok([datagrams?, listener?, Socket::netfilter()?.into()])
        })?;
        let from = SocketAddrV4::new(RESOLVER, PORT);
        let (ports, others) = (port_of(&datagrams)?, port_of(&listener)?);
        redirect(&mut netfilter.into(), from, ports, others)
            .context("the kernel's nftables (`nf_tables`, `nft_nat`) are needed")?;
        Helper::start(place, || serve(&datagrams, &listener, namespace, knowledge)).map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.0.pid.as_raw_nonzero().get().cast_unsigned()
    }
}

fn serve(
    datagrams: &OwnedFd,
    listener: &OwnedFd,
    namespace: &Namespace,
    knowledge: Knowledge,
) -> Result<()> {
    let kept = [datagrams, listener].map(AsRawFd::as_raw_fd);
    let kept = [&kept[..], &[namespace.as_fd().as_raw_fd()]].concat();
    let descriptors = keep_only(&kept)?;
    let opener = knowledge.asks_inside.then(|| Opener::start(namespace));
    let opener = opener.transpose()?;
    let events = epoll::create(CreateFlags::CLOEXEC)?;
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
        directory: knowledge.directory,
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

/// What an event is about.
#[derive(Clone, Copy)]
enum Token {
    Datagrams,
    Listener,
    Stream(u32),
    /// A question, and the number of the attempt to have it answered.
    Attempt(usize, usize),
}

impl Token {
    fn data(self) -> EventData {
        let (kind, number) = match self {
            Self::Datagrams => (0, 0),
            Self::Listener => (1, 0),
            Self::Stream(place) => (2, u64::from(place)),
            Self::Attempt(place, number) => (3 + number as u64, place as u64),
        };
        EventData::new_u64(kind << 32 | number)
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let number = u32::try_from(data & u64::from(u32::MAX)).expect("as many bits as are kept");
        match data >> 32 {
            0 => Self::Datagrams,
            1 => Self::Listener,
            2 => Self::Stream(number),
            kind => Self::Attempt(
                number as usize,
                usize::try_from(kind - 3).unwrap_or(usize::MAX),
            ),
        }
    }
}

struct Service<'a> {
    events: &'a OwnedFd,
    datagrams: &'a OwnedFd,
    listener: &'a OwnedFd,
    streams: Streams,
    queries: Queries<'a>,
    directory: Box<dyn FnMut(Asked<'_>) -> Result<Known>>,
    buffer: Vec<u8>,
}

impl Service<'_> {
    fn serve(mut self) -> Result<()> {
        loop {
            let timeout = self.keep_time();
            let timeout = timeout.map(rustix::time::Timespec::try_from).transpose()?;
            let mut ready = Vec::with_capacity(256);
            let space = rustix::buffer::spare_capacity(&mut ready);
            match epoll::wait(self.events, space, timeout.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            for event in ready {
                match Token::of(event.data) {
                    Token::Datagrams => self.receive(),
                    Token::Listener => self.accept(),
                    Token::Stream(place) => self.advance(place),
                    Token::Attempt(place, number) => {
                        let answer = self.queries.advance(place, number, &mut self.buffer);
                        self.tell(answer);
                    }
                }
            }
        }
    }

    /// Does what is due, and returns how long there is nothing to do.
    fn keep_time(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let (answers, query) = self.queries.hurry(now);
        self.tell(answers);
        let stream = self.streams.forget_silent(now);
        let next = [query, stream].into_iter().flatten().min();
        next.map(|next| next.saturating_duration_since(now))
    }

    fn receive(&mut self) {
        for _ in 0..TURN {
            let buffer = &mut self.buffer[..];
            let received =
                retry_on_intr(|| recvfrom(self.datagrams, &mut *buffer, RecvFlags::DONTWAIT));
            let Ok((_, length, peer)) = received else {
                return;
            };
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let Some(peer) = peer.filter(|_| length <= LARGEST_QUERY) else {
                continue;
            };
            let message = self.buffer[..length].to_vec();
            let answer = self.consider(Client::Datagram(peer), message);
            self.tell(answer);
        }
    }

    fn accept(&mut self) {
        let Some((place, socket)) = self.streams.accept(self.listener) else {
            return;
        };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        // One that cannot be watched is silent, and goes for that.
        epoll::add(self.events, socket, Token::Stream(place).data(), interest).ok();
    }

    /// Goes on with a client that asks by a connection, as long as its questions are answered at once.
    fn advance(&mut self, place: u32) {
        while let Some((name, message)) = self.streams.advance(place, &mut self.buffer) {
            let Some((_, answer)) = self.consider(Client::Stream(name), message) else {
                return;
            };
            self.streams.answer(name, &answer);
        }
    }

    fn tell(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for (client, message) in answers {
            match client {
                Client::Datagram(peer) => {
                    let flags = SendFlags::DONTWAIT;
                    // A datagram may be lost, as on any way.
                    retry_on_intr(|| sendto(self.datagrams, &message, flags, &peer)).ok();
                }
                Client::Stream(name) => {
                    self.streams.answer(name, &message);
                    self.advance(name.place);
                }
            }
        }
    }

    /// Returns what a client is told, unless others have to be asked for it first.
    fn consider(&mut self, client: Client, message: Vec<u8>) -> Option<Answer> {
        let question = match Question::parse(&message) {
            Ok(question) => question,
            Err(Unfit::NoQuery) => {
                // Whoever says such things by a connection is not listened to any longer.
                if let Client::Stream(name) = client {
                    self.streams.end(name);
                }
                return None;
            }
            Err(Unfit::Refused(code)) => return Some((client, message::refusal(&message, code))),
        };
        let most = client.most();
        match self.look_up(&question) {
            Ok(Known::Addresses(mut addresses)) => {
                // Each has its turn to be first, which is the one that most programs take.
                let first = usize::from(attempt::random()) % addresses.len().max(1);
                addresses.rotate_left(first);
                let answer = message::addresses(&message, &question, &addresses, most);
                Some((client, answer))
            }
            Ok(Known::Name(name)) => {
                let answer = message::name(&message, &question, &name, most);
                Some((client, answer))
            }
            Ok(Known::Elsewhere(servers)) => self.queries.add(client, message, servers),
            // What would be known cannot be read now.
            Err(_) => Some((client, message::refusal(&message, Code::Failure))),
        }
    }

    fn look_up(&mut self, question: &Question) -> Result<Known> {
        let name = question
            .name
            .as_deref()
            .filter(|_| question.is_of_internet());
        let asked = match (question.reverse(), name) {
            (Some(address), Some(_)) => Asked::Address(address),
            (None, Some(name)) => Asked::Name(name),
            (_, None) => Asked::Other,
        };
        (self.directory)(asked)
    }
}
