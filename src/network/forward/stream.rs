//! Connections that are passed on, both ways, without a copy in this process (splice(2)).

use crate::network::forward::{Target, Token};
use crate::network::published::Listener;
use anyhow::Result;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{Shutdown, SocketFlags, SocketType, acceptfrom_with, shutdown, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Descriptors of a connection: two sockets, two pipes.
const DESCRIPTORS: usize = 6;

/// What is left for everything else.
const RESERVE: usize = 64;

/// Moved at a time, and what a pipe holds if this process may make it as large (pipe(7)): four times what it holds by
/// default takes a sixth less of the processor, and a client that reads nothing still keeps little.
const CHUNK: usize = 256 << 10;

pub(super) struct Streams {
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    most: usize,
    /// No more are accepted for now: those that wait do so in the kernel.
    is_full: bool,
}

struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    up: Way,
    down: Way,
}

/// One direction.
struct Way {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in the pipe.
    held: usize,
    has_ended: bool,
    is_shut: bool,
}

impl Streams {
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            connections: Vec::new(),
            free: Vec::new(),
            most: (descriptors.saturating_sub(RESERVE) / DESCRIPTORS).max(1),
            is_full: false,
        }
    }

    fn count(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Accepts what waits at a listener.
    pub(super) fn accept(
        &mut self,
        events: &OwnedFd,
        listener: &Listener,
        target: &Target<'_>,
    ) -> Result<()> {
        loop {
            if self.count() >= self.most {
                self.is_full = true;
                epoll::delete(events, &listener.socket)?;
                return Ok(());
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // None waits any more, whoever it was has gone, or there is no memory for another now.
            let Ok((client, peer)) = acceptfrom_with(&listener.socket, flags) else {
                return Ok(());
            };
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let Some(peer) = peer else { continue };
            let port = listener.port.container.number;
            match target.connect(peer, port, SocketType::STREAM) {
                // One for which there is no room is closed again.
                Ok(server) => self
                    .add(events, client, server, target.is_of_root())
                    .unwrap_or_default(),
                // The client sees its connection break: nobody is there.
                Err(_) => break_off(&client),
            }
        }
    }

    fn add(
        &mut self,
        events: &OwnedFd,
        client: OwnedFd,
        server: OwnedFd,
        is_large: bool,
    ) -> rustix::io::Result<()> {
        // Small answers do not wait for larger ones.
        sockopt::set_tcp_nodelay(&client, true)?;
        sockopt::set_tcp_nodelay(&server, true)?;
        let connection = Connection {
            up: Way::new(is_large)?,
            down: Way::new(is_large)?,
            client,
            server,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            u32::try_from(self.connections.len() - 1).expect("fewer connections than descriptors")
        });
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = Token::Stream(number).data();
        let added = epoll::add(events, &connection.client, data, interest)
            .and_then(|()| epoll::add(events, &connection.server, data, interest));
        self.connections[number as usize] = Some(connection);
        if added.is_err() {
            self.end(number);
        }
        added
    }

    fn end(&mut self, number: u32) {
        if self.connections[number as usize].take().is_some() {
            self.free.push(number);
        }
    }

    /// Moves what can be moved of a connection, and ends it when both sides have said all.
    pub(super) fn advance(&mut self, number: u32) {
        let Some(Some(connection)) = self.connections.get_mut(number as usize) else {
            return;
        };
        match connection.advance() {
            Ok(false) => {}
            Ok(true) => self.end(number),
            Err(_) => {
                break_off(&connection.client);
                break_off(&connection.server);
                self.end(number);
            }
        }
    }

    /// Listens again once there is room.
    pub(super) fn resume(&mut self, events: &OwnedFd, listeners: &[Listener]) -> Result<()> {
        if !self.is_full || self.count() >= self.most {
            return Ok(());
        }
        self.is_full = false;
        for (number, listener) in (0_u32..).zip(listeners) {
            let data = Token::Listener(number).data();
            match epoll::add(events, &listener.socket, data, EventFlags::IN) {
                // It was never full.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Tells whether all was said.
    fn advance(&mut self) -> rustix::io::Result<bool> {
        self.up.advance(self.client.as_fd(), self.server.as_fd())?;
        self.down
            .advance(self.server.as_fd(), self.client.as_fd())?;
        Ok(self.up.is_shut && self.down.is_shut)
    }
}

/// Has a side see that the connection broke, not that it ended well.
fn break_off(side: &OwnedFd) {
    // A side that is gone needs no telling.
    sockopt::set_socket_linger(side, Some(Duration::ZERO)).ok();
}

impl Way {
    fn new(is_large: bool) -> rustix::io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if is_large {
            fcntl_setpipe_size(&write, CHUNK)?;
        }
        Ok(Self {
            read,
            write,
            held: 0,
            has_ended: false,
            is_shut: false,
        })
    }

    fn advance(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        // Until neither end takes any more: the next event comes only when that changes.
        while self.fill(from)? | self.empty(to)? {}
        if self.has_ended && self.held == 0 && !self.is_shut {
            self.is_shut = true;
            match shutdown(to, Shutdown::Write) {
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn fill(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        if self.has_ended {
            return Ok(false);
        }
        match moved(from, self.write.as_fd(), CHUNK)? {
            Some(0) => self.has_ended = true,
            Some(count) => self.held += count,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn empty(&mut self, to: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        if self.held == 0 {
            return Ok(false);
        }
        let count = moved(self.read.as_fd(), to, self.held)?;
        self.held -= count.unwrap_or(0);
        Ok(count.is_some())
    }
}

/// Moves bytes; `None` if one side is not ready.
fn moved(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    most: usize,
) -> rustix::io::Result<Option<usize>> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    match retry_on_intr(|| splice(from, None, to, None, most, flags)) {
        Ok(count) => Ok(Some(count)),
        // A socket that is still connecting is not ready either.
        Err(Errno::AGAIN | Errno::NOTCONN) => Ok(None),
        Err(error) => Err(error),
    }
}
