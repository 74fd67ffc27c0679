//! A question put to one server: by a datagram or a connection, from a port and with an ID that nobody can guess.

use crate::network::names::message;
use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, send};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest message there is (RFC 1035, 4.2.2), and its length before it.
const LARGEST: usize = 2 + 65_535;

/// Answers that are not for the question, or not from the server, are read and forgotten, so many in one go.
const TURN: usize = 16;

pub(super) struct Attempt {
    socket: OwnedFd,
    id: u16,
    way: Way,
}

enum Way {
    Datagram,
    Stream { to_send: Vec<u8>, received: Vec<u8> },
}

impl Attempt {
    /// Asks `server` by a socket of this kind.
    pub(super) fn start(
        socket: OwnedFd,
        server: SocketAddr,
        query: &[u8],
        kind: SocketType,
    ) -> rustix::io::Result<Self> {
        let id = random();
        let mut asked = query.to_vec();
        message::set_id(&mut asked, id);
        // The kernel chooses a port at random, and lets in what comes from this server only.
        match retry_on_intr(|| connect(&socket, &server)) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let way = if kind == SocketType::STREAM {
            Way::Stream {
                to_send: framed(&asked),
                received: Vec::new(),
            }
        } else {
            retry_on_intr(|| send(&socket, &asked, SendFlags::empty()))?;
            Way::Datagram
        };
        Ok(Self { socket, id, way })
    }

    /// Returns when it can go on.
    pub(super) fn interest(&self) -> EventFlags {
        match self.way {
            Way::Datagram => EventFlags::IN,
            Way::Stream { .. } => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        }
    }

    /// Goes on as far as that is possible now; returns the answer to `query` if there is one. An error is the server's.
    pub(super) fn advance(
        &mut self,
        query: &[u8],
        buffer: &mut [u8],
    ) -> rustix::io::Result<Option<Vec<u8>>> {
        for _ in 0..TURN {
            let Some(message) = self.next(buffer)? else {
                return Ok(None);
            };
            if message::answers(query, self.id, &message) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn next(&mut self, buffer: &mut [u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        match &mut self.way {
            Way::Datagram => Ok(receive(&self.socket, buffer)?.map(<[u8]>::to_vec)),
            Way::Stream { to_send, received } => {
                if !send_all(&self.socket, to_send)? {
                    return Ok(None);
                }
                loop {
                    if let Some(message) = take_message(received) {
                        return Ok(Some(message));
                    }
                    let room = buffer.len().min(LARGEST - received.len());
                    match receive(&self.socket, &mut buffer[..room])? {
                        Some([]) => return Err(Errno::CONNRESET),
                        Some(bytes) => received.extend_from_slice(bytes),
                        None => return Ok(None),
                    }
                }
            }
        }
    }
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns what has arrived; none if nothing has.
pub(super) fn receive<'a>(
    socket: &OwnedFd,
    buffer: &'a mut [u8],
) -> rustix::io::Result<Option<&'a [u8]>> {
    match retry_on_intr(|| recv(socket, &mut *buffer, RecvFlags::DONTWAIT)) {
        Ok((length, _)) => Ok(Some(&buffer[..length])),
        // A socket that is still connecting is not ready either.
        Err(Errno::AGAIN | Errno::NOTCONN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends as much of `bytes` as is taken now; tells whether that was all.
pub(super) fn send_all(socket: &OwnedFd, bytes: &mut Vec<u8>) -> rustix::io::Result<bool> {
    while !bytes.is_empty() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match retry_on_intr(|| send(socket, bytes, flags)) {
            Ok(sent) => drop(bytes.drain(..sent)),
            Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Returns a message as connections carry it, its length before it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length =
        u16::try_from(message.len()).expect("a message is no longer than its length can say");
    [&length.to_be_bytes(), message].concat()
}

/// Takes the first message out of what a connection brought, once it is whole.
pub(super) fn take_message(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = 2 + length(received)?;
    if received.len() < end {
        return None;
    }
    let rest = received.split_off(end);
    let mut message = std::mem::replace(received, rest);
    message.drain(..2);
    Some(message)
}

/// Returns how long the first message says it is.
pub(super) fn length(received: &[u8]) -> Option<usize> {
    let bytes = received.get(..2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]).into())
}

pub(super) fn random() -> u16 {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the kernel has random numbers");
    u16::from_ne_bytes(bytes)
}
