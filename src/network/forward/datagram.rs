//! Datagrams that are passed on: a socket for each client, so that answers find their way back.

use crate::network::forward::{Target, Token};
use crate::network::published::Listener;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg,
};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send};
use std::collections::{HashMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a client is remembered that neither asks nor is answered: longer than name servers and games are silent.
const SILENCE: Duration = Duration::from_secs(90);

/// The largest datagram (RFC 768).
const LARGEST: usize = 65_535;

/// The largest datagram that is kept until somebody answers, in bytes: a question for a name, or a greeting; the client
/// says others again.
const LARGEST_UNHEARD: usize = 2048;

/// How many datagrams are passed on before others have their turn.
const TURN: usize = 64;

/// At most this many clients are remembered; beyond that the most silent one is forgotten.
const MOST: usize = 4096;

pub(super) struct Datagrams {
    flows: HashMap<Key, u32>,
    slots: Vec<Option<Flow>>,
    free: Vec<u32>,
    most: usize,
    buffer: Vec<u8>,
}

/// Who asked, at which listener and which of its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    listener: u32,
    peer: SocketAddr,
    asked: Option<IpAddr>,
}

struct Flow {
    key: Key,
    socket: OwnedFd,
    /// Where it is passed on to, and where else the server may be.
    addresses: VecDeque<SocketAddr>,
    /// What was sent last, to be sent to the next address if nobody is at this one; none once somebody answered.
    unheard: Option<Vec<u8>>,
    is_answered: bool,
    used: Instant,
}

impl Datagrams {
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            flows: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            most: MOST.min(descriptors).max(1),
            buffer: vec![0; LARGEST],
        }
    }

    /// Passes on what waits at a listener.
    pub(super) fn receive(
        &mut self,
        events: &OwnedFd,
        number: u32,
        listener: &Listener,
        target: &Target<'_>,
    ) {
        for _ in 0..TURN {
            let Some((length, peer, asked)) = self.next(listener) else {
                break;
            };
            let key = Key {
                listener: number,
                peer,
                asked,
            };
            let Some(at) = self.flow(events, key, listener, target) else {
                continue;
            };
            if let Some(Some(flow)) = self.slots.get_mut(at as usize) {
                flow.used = Instant::now();
                let datagram = &self.buffer[..length];
                let others = flow.addresses.len() > 1 && !flow.is_answered;
                flow.unheard = (others && length <= LARGEST_UNHEARD).then(|| datagram.to_vec());
                // The error is that of what was sent before, and in its place: this one was not sent.
                if flow.send(datagram) == Err(Errno::CONNREFUSED) {
                    flow.turn(events, at, target);
                }
            }
        }
    }

    /// Returns the length of the next datagram, who sent it, and which of the host's addresses was asked.
    fn next(&mut self, listener: &Listener) -> Option<(usize, SocketAddr, Option<IpAddr>)> {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let descriptor = listener.socket.as_raw_fd();
        let received = recvmsg::<SockaddrStorage>(
            descriptor,
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let asked = received.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(u32::from_be(info.ipi_addr.s_addr).into()))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(info.ipi6_addr.s6_addr.into()))
            }
            _ => None,
        });
        let address = received.address?;
        let v4 = address
            .as_sockaddr_in()
            .map(|it| SocketAddr::V4((*it).into()));
        let v6 = address
            .as_sockaddr_in6()
            .map(|it| SocketAddr::V6((*it).into()));
        Some((received.bytes, v4.or(v6)?, asked))
    }

    fn flow(
        &mut self,
        events: &OwnedFd,
        key: Key,
        listener: &Listener,
        target: &Target<'_>,
    ) -> Option<u32> {
        if let Some(at) = self.flows.get(&key) {
            return Some(*at);
        }
        if self.flows.len() >= self.most {
            self.forget_most_silent();
        }
        let mut addresses = target.addresses(key.peer.ip(), listener.port.container.number);
        let all = addresses.clone();
        let socket = target
            .connect(key.peer, &mut addresses, SocketType::DGRAM)
            .ok()?;
        // As they are, but the one that took it is the first.
        let mut others = all;
        others.rotate_left(others.len() - 1 - addresses.len());
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer flows than descriptors")
        });
        if epoll::add(events, &socket, Token::Flow(at).data(), EventFlags::IN).is_err() {
            self.free.push(at);
            return None;
        }
        self.flows.insert(key, at);
        self.slots[at as usize] = Some(Flow {
            key,
            socket,
            addresses: others,
            unheard: None,
            is_answered: false,
            used: Instant::now(),
        });
        Some(at)
    }

    /// Passes on what the container answers.
    pub(super) fn answer(
        &mut self,
        events: &OwnedFd,
        at: u32,
        listeners: &[Listener],
        target: &Target<'_>,
    ) {
        for _ in 0..TURN {
            let Some(Some(flow)) = self.slots.get_mut(at as usize) else {
                return;
            };
            let buffer = &mut self.buffer[..];
            let length = match recv(&flow.socket, buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::CONNREFUSED) => return flow.turn(events, at, target),
                Err(_) => return,
            };
            flow.used = Instant::now();
            (flow.is_answered, flow.unheard) = (true, None);
            let listener = &listeners[flow.key.listener as usize];
            answer_as(listener, flow.key, &self.buffer[..length]);
        }
    }

    pub(super) fn forget_silent(&mut self) {
        let silent = |flow: &Flow| flow.used.elapsed() > SILENCE;
        let flows = (0_u32..).zip(&self.slots);
        let silent = flows.filter(|(_, flow)| flow.as_ref().is_some_and(silent));
        let silent: Vec<u32> = silent.map(|(at, _)| at).collect();
        for at in silent {
            self.forget(at);
        }
    }

    fn forget_most_silent(&mut self) {
        let flows = (0_u32..).zip(&self.slots);
        let used = flows.filter_map(|(at, flow)| Some((flow.as_ref()?.used, at)));
        if let Some((_, at)) = used.min() {
            self.forget(at);
        }
    }

    fn forget(&mut self, at: u32) {
        if let Some(flow) = self.slots[at as usize].take() {
            self.flows.remove(&flow.key);
            self.free.push(at);
        }
    }
}

impl Flow {
    fn send(&self, datagram: &[u8]) -> rustix::io::Result<usize> {
        // A datagram may be lost, as on any way.
        send(&self.socket, datagram, SendFlags::empty())
    }

    /// Turns to the next address with what nobody heard at this one: once for each datagram of the client's.
    fn turn(&mut self, events: &OwnedFd, at: u32, target: &Target<'_>) {
        let Some(datagram) = self.unheard.take() else {
            return;
        };
        self.addresses.rotate_left(1);
        let next = target.connect_to(self.addresses[0], self.key.peer, SocketType::DGRAM);
        let Ok(socket) = next else {
            return;
        };
        if epoll::add(events, &socket, Token::Flow(at).data(), EventFlags::IN).is_ok() {
            self.socket = socket;
            self.send(&datagram).ok();
        }
    }
}

/// Sends a datagram to who asked, from the address that was asked.
fn answer_as(listener: &Listener, key: Key, bytes: &[u8]) {
    let parts = [IoSlice::new(bytes)];
    let (descriptor, flags) = (listener.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    // A datagram may be lost, as on any way.
    match (key.peer, key.asked) {
        (SocketAddr::V4(peer), Some(IpAddr::V4(asked))) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(asked).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let from = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(
                descriptor,
                &parts,
                &from,
                flags,
                Some(&SockaddrIn::from(peer)),
            )
            .ok();
        }
        (SocketAddr::V6(peer), Some(IpAddr::V6(asked))) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: asked.octets(),
                },
                ipi6_ifindex: 0,
            };
            let from = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(
                descriptor,
                &parts,
                &from,
                flags,
                Some(&SockaddrIn6::from(peer)),
            )
            .ok();
        }
        _ => {}
    }
}
