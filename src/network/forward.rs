//! The process that passes on what arrives at published ports, as long as the container runs.
//!
//! To the container it speaks with the client's own address (`IP_TRANSPARENT`, ip(7)): logs and access rules inside
//! see who it is. A client on this host, or in the container's own network, is seen as the host instead: the
//! container's answer to it would not come by here. So is one that is served by the other family than its own, because
//! nothing in the container listens at that.

mod datagram;
mod stream;

use crate::network::helper::{Helper, Place, keep_only};
use crate::network::port::Protocol;
use crate::network::published::{self, Listener};
use crate::network::servant::Servant;
use crate::network::{Attachment, Namespace};
use crate::sys::rights::{Needs, give_up_rights};
use anyhow::Result;
use datagram::Datagrams;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::thread::CapabilitySet;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use stream::Streams;

/// How often what was silent for long is looked for.
const TICK: Duration = Duration::from_secs(15);

/// Descriptors for everything but listeners, connections and clients.
const RESERVE: usize = 64;

/// Sockets, pipes, and what passes between them.
#[rustfmt::skip]
const CALLS: &[libc::c_long] = &[
    libc::SYS_splice, libc::SYS_accept4, libc::SYS_socket, libc::SYS_bind, libc::SYS_connect, libc::SYS_shutdown,
    libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_getpeername, libc::SYS_pipe2, libc::SYS_fcntl,
    libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_epoll_create1,
];

/// The process that passes on.
pub(crate) struct Forwarder(Servant);

/// What it does, in words for the user.
const NAME: &str = "the process that passes on what arrives at published ports";

impl Forwarder {
    /// Starts to pass on what arrives at `listeners` to the container. Needs a process with one thread.
    pub(crate) fn start(
        listeners: &[Listener],
        container: &Attachment,
        place: &Place,
    ) -> Result<Self> {
        let helper = start_beside(listeners, container, place)?;
        Ok(Self(Servant::new(NAME, helper)))
    }

    /// Starts it again if it has died and it is time; returns what there is to say of that.
    pub(crate) fn look_after(
        &mut self,
        listeners: &[Listener],
        container: &Attachment,
        place: &Place,
    ) -> Option<String> {
        self.0
            .look_after(|| start_beside(listeners, container, place))
    }

    /// Starts to pass on what arrives at `listeners` to the loopback interface of a network namespace.
    pub(super) fn start_inside(listeners: &[Listener], namespace: &Namespace) -> Result<Self> {
        let helper = start_inside(listeners, namespace)?;
        Ok(Self(Servant::new(NAME, helper)))
    }

    /// Starts it again if it has died and it is time; returns what there is to say of that.
    pub(super) fn look_after_inside(
        &mut self,
        listeners: &[Listener],
        namespace: &Namespace,
    ) -> Option<String> {
        self.0.look_after(|| start_inside(listeners, namespace))
    }

    pub(crate) fn servant(&self) -> &Servant {
        &self.0
    }
}

fn start_beside(listeners: &[Listener], container: &Attachment, place: &Place) -> Result<Helper> {
    Helper::start(place, || serve(listeners, &Target::Beside(container)))
}

fn start_inside(listeners: &[Listener], namespace: &Namespace) -> Result<Helper> {
    // The listeners stay where they are.
    Helper::start(&Place::default(), || {
        namespace.enter()?;
        serve(listeners, &Target::Inside)
    })
}

/// Where a container can be reached.
enum Target<'a> {
    /// In a network of this host's.
    Beside(&'a Attachment),
    /// In the network namespace of this process.
    Inside,
}

impl Target<'_> {
    /// Returns where a client of `peer`'s family is passed on to, and after that where it is if nobody listens there.
    fn addresses(&self, peer: IpAddr, port: u16) -> VecDeque<SocketAddr> {
        let (v4, v6) = match self {
            Self::Beside(container) => (
                container.address.addr(),
                container.address6.map(|it| it.addr()),
            ),
            Self::Inside => (Ipv4Addr::LOCALHOST, Some(Ipv6Addr::LOCALHOST)),
        };
        let both = [Some(IpAddr::V4(v4)), v6.map(IpAddr::V6)];
        let mut both: VecDeque<_> = both.into_iter().flatten().collect();
        if both.iter().any(|it| it.is_ipv6() == peer.is_ipv6()) {
            while both[0].is_ipv6() != peer.is_ipv6() {
                both.rotate_left(1);
            }
        }
        both.into_iter()
            .map(|it| SocketAddr::new(it, port))
            .collect()
    }

    /// Gives up what passing on there does not take.
    fn give_up_rights(&self) -> Result<()> {
        let capabilities = match self {
            // To speak with a client's address, and at its port, and with pipes of more than a user's share of memory.
            Self::Beside(_) => {
                CapabilitySet::NET_RAW
                    | CapabilitySet::NET_BIND_SERVICE
                    | CapabilitySet::SYS_RESOURCE
            }
            Self::Inside => CapabilitySet::empty(),
        };
        give_up_rights(&Needs {
            capabilities,
            calls: CALLS,
            reads_files: false,
        })
    }

    /// Tells whether this process is root's: a user has a share of the memory for pipes only, and needs it for others too.
    fn is_of_root(&self) -> bool {
        matches!(self, Self::Beside(_))
    }

    /// Opens a connected socket to the first of `addresses` that takes it, and removes it and those before it. It speaks as
    /// `peer` where that can be.
    fn connect(
        &self,
        peer: SocketAddr,
        addresses: &mut VecDeque<SocketAddr>,
        kind: SocketType,
    ) -> rustix::io::Result<OwnedFd> {
        let mut failed = Errno::CONNREFUSED;
        while let Some(address) = addresses.pop_front() {
            match self.connect_to(address, peer, kind) {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn connect_to(
        &self,
        address: SocketAddr,
        peer: SocketAddr,
        kind: SocketType,
    ) -> rustix::io::Result<OwnedFd> {
        let socket = published::open(address.ip(), kind)?;
        if address.is_ipv4() == peer.is_ipv4() && self.answers_by_here(peer.ip()) {
            // SOL_IP's option is that of IPv6 sockets too.
            setsockopt(&socket, sockopt::IpTransparent, &true)
                .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
            rustix::net::bind(&socket, &peer)?;
        }
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    /// Tells whether the container's answers to `peer` come by this host, and are not for itself.
    fn answers_by_here(&self, peer: IpAddr) -> bool {
        let Self::Beside(container) = self else {
            return false;
        };
        let in_network = match peer {
            IpAddr::V4(peer) => container.address.contains(&peer),
            IpAddr::V6(peer) => container.address6.is_some_and(|net| net.contains(&peer)),
        };
        // Only an address of this host can be bound without more rights.
        !in_network
            && published::open(peer, SocketType::DGRAM)
                .and_then(|socket| rustix::net::bind(&socket, &SocketAddr::new(peer, 0)))
                .is_err()
    }
}

/// What an event is about: the listener, or the connection, of this number.
#[derive(Clone, Copy)]
enum Token {
    Listener(u32),
    Stream(u32),
    Flow(u32),
}

impl Token {
    fn data(self) -> EventData {
        let (kind, number) = match self {
            Self::Listener(number) => (0, number),
            Self::Stream(number) => (1, number),
            Self::Flow(number) => (2, number),
        };
        EventData::new_u64(kind << 32 | u64::from(number))
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let number = u32::try_from(data & u64::from(u32::MAX)).expect("as many bits as are kept");
        match data >> 32 {
            0 => Self::Listener(number),
            1 => Self::Stream(number),
            _ => Self::Flow(number),
        }
    }
}

fn serve(listeners: &[Listener], target: &Target<'_>) -> Result<()> {
    let kept: Vec<_> = listeners.iter().map(|it| it.socket.as_raw_fd()).collect();
    let most = keep_only(&kept)?;
    target.give_up_rights()?;
    let events = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, listener) in (0_u32..).zip(listeners) {
        let data = Token::Listener(number).data();
        epoll::add(&events, &listener.socket, data, EventFlags::IN)?;
    }
    let is_tcp = |it: &Listener| it.port.container.protocol == Protocol::Tcp;
    let left = most.saturating_sub(RESERVE + listeners.len());
    // Of what is left each kind has its share, if both are there.
    let of_datagrams = match (listeners.iter().any(is_tcp), listeners.iter().all(is_tcp)) {
        (_, true) => 0,
        (true, false) => left / 4,
        (false, _) => left,
    };
    let mut streams = Streams::new(left - of_datagrams);
    let mut datagrams = Datagrams::new(of_datagrams);
    let mut swept = Instant::now();
    loop {
        let mut ready = Vec::with_capacity(256);
        let timeout = rustix::time::Timespec::try_from(TICK)?;
        match epoll::wait(
            &events,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&timeout),
        ) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let mut waiting = Vec::new();
        for event in ready {
            match Token::of(event.data) {
                Token::Listener(number) => waiting.push(number),
                Token::Stream(number) => streams.advance(&events, number, target),
                Token::Flow(number) => datagrams.answer(&events, number, listeners, target),
            }
        }
        // Last: who is new may take the place of who was silent until now.
        for number in waiting {
            let listener = &listeners[number as usize];
            match listener.port.container.protocol {
                Protocol::Tcp => streams.accept(&events, listener, target),
                Protocol::Udp => datagrams.receive(&events, number, listener, target),
            }
        }
        if swept.elapsed() >= TICK {
            datagrams.forget_silent();
            swept = Instant::now();
        }
    }
}
