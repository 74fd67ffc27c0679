//! Clients that ask by connections: one question at a time each, the others wait in the kernel.

use crate::network::names::attempt::{framed, length, receive, send_all, take_message};
use rustix::net::{SocketFlags, accept_with};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// At most this many; beyond that the one that was silent for longest has to go. A container has few such clients: they
/// come back with what did not fit into a datagram.
const MOST: usize = 64;

/// How long a client may be silent (RFC 7766, 6.2.3 leaves it to the server).
const SILENCE: Duration = Duration::from_secs(10);

/// The longest question that is taken: a name, and what few extensions add.
pub(super) const LARGEST_QUERY: usize = 4096;

#[derive(Default)]
pub(super) struct Streams {
    open: Vec<Option<Stream>>,
    accepted: u32,
}

/// Names a client for good, also when its place is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) place: u32,
    number: u32,
}

struct Stream {
    socket: OwnedFd,
    number: u32,
    received: Vec<u8>,
    to_send: Vec<u8>,
    /// Its question is not answered yet.
    waits: bool,
    used: Instant,
}

impl Streams {
    /// Accepts a client that waits at `listener`, if one does, and returns its place and what to watch.
    pub(super) fn accept(&mut self, listener: &OwnedFd) -> Option<(u32, &OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = accept_with(listener, flags).ok()?;
        let place = self.place();
        self.accepted = self.accepted.wrapping_add(1);
        let stream = self.open[place].insert(Stream {
            socket,
            number: self.accepted,
            received: Vec::new(),
            to_send: Vec::new(),
            waits: false,
            used: Instant::now(),
        });
        let place = u32::try_from(place).expect("there are few places");
        Some((place, &stream.socket))
    }

    /// Returns a free place; if there is none, somebody has to go.
    fn place(&mut self) -> usize {
        if let Some(free) = self.open.iter().position(Option::is_none) {
            return free;
        }
        if self.open.len() < MOST {
            self.open.push(None);
            return self.open.len() - 1;
        }
        let places = self.open.iter().enumerate();
        let used = places.min_by_key(|(_, stream)| stream.as_ref().map(|it| it.used));
        let (place, _) = used.expect("all places are taken");
        self.open[place] = None;
        place
    }

    /// Goes on with a client as far as that is possible now, and returns its next question, which it waits to be answered.
    pub(super) fn advance(&mut self, place: u32, buffer: &mut [u8]) -> Option<(Name, Vec<u8>)> {
        let slot = self.open.get_mut(place as usize)?;
        let stream = slot.as_mut()?;
        let Ok(message) = stream.advance(buffer) else {
            *slot = None;
            return None;
        };
        let number = stream.number;
        message.map(|message| (Name { place, number }, message))
    }

    /// Answers a client, if it is there still: what that says next is to be had from [`Self::advance`].
    pub(super) fn answer(&mut self, name: Name, message: &[u8]) {
        if let Some(stream) = self.slot(name).and_then(Option::as_mut) {
            stream.waits = false;
            stream.to_send = framed(message);
        }
    }

    pub(super) fn end(&mut self, name: Name) {
        self.slot(name).and_then(Option::take);
    }

    /// Returns the place of a client, if that is not another's by now.
    fn slot(&mut self, name: Name) -> Option<&mut Option<Stream>> {
        let slot = self.open.get_mut(name.place as usize);
        slot.filter(|slot| slot.as_ref().is_some_and(|it| it.number == name.number))
    }

    /// Ends those that are silent, and tells when to look again.
    pub(super) fn forget_silent(&mut self, now: Instant) -> Option<Instant> {
        for slot in &mut self.open {
            slot.take_if(|stream| !stream.waits && now >= stream.used + SILENCE);
        }
        let streams = self.open.iter().flatten().filter(|it| !it.waits);
        streams.map(|stream| stream.used + SILENCE).min()
    }
}

impl Stream {
    fn advance(&mut self, buffer: &mut [u8]) -> Result<Option<Vec<u8>>, Ended> {
        if !send_all(&self.socket, &mut self.to_send).map_err(|_| Ended)? || self.waits {
            return Ok(None);
        }
        loop {
            if length(&self.received).is_some_and(|length| length > LARGEST_QUERY) {
                return Err(Ended);
            }
            if let Some(message) = take_message(&mut self.received) {
                self.waits = true;
                return Ok(Some(message));
            }
            let room = 2 + LARGEST_QUERY - self.received.len();
            match receive(&self.socket, &mut buffer[..room]).map_err(|_| Ended)? {
                Some([]) => return Err(Ended),
                Some(bytes) => self.received.extend_from_slice(bytes),
                None => return Ok(None),
            }
            self.used = Instant::now();
        }
    }
}

/// The client has gone, or has to.
struct Ended;
