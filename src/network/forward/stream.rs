//! Connections that are passed on, both ways, without a copy in this process (splice(2)).

use crate::network::forward::{Target, Token};
use crate::network::published::Listener;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    Shutdown, SocketFlags, SocketType, acceptfrom_with, getpeername, shutdown, sockopt,
};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Descriptors of a connection: two sockets, two pipes.
const DESCRIPTORS: usize = 6;

/// How many connections are accepted before others have their turn.
const TURN: usize = 64;

/// A side that says nothing for so long is asked whether it is there still, then four times more until it counts as gone:
/// within two minutes, as long as a browser keeps a connection at most. What is under way to a side that is gone is the
/// kernel's to give up, after a quarter of an hour (tcp(7), `tcp_retries2`). `TCP_USER_TIMEOUT` would be sooner, but it
/// ends those who are there and read nothing for that long, too.
const SILENCE: Duration = Duration::from_mins(1);
const QUESTIONS: u32 = 4;
const BETWEEN: Duration = Duration::from_secs(15);

/// Moved at a time, and what a pipe holds if this process may make it as large (pipe(7)): four times what it holds by
/// default takes a sixth less of the processor, and a client that reads nothing still keeps little.
const CHUNK: usize = 256 << 10;

pub(super) struct Streams {
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    /// Beyond that the most silent one has to go.
    most: usize,
}

struct Connection {
    peer: SocketAddr,
    client: OwnedFd,
    /// Where else the server may be, as long as it is not known to be here.
    others: VecDeque<SocketAddr>,
    is_connected: bool,
    used: Instant,
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
            most: (descriptors / DESCRIPTORS).max(1),
        }
    }

    fn count(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Accepts what waits at a listener.
    pub(super) fn accept(&mut self, events: &OwnedFd, listener: &Listener, target: &Target<'_>) {
        // Of those that are there most have had their turn in between: who speaks is not who was silent for longest.
        for _ in 0..TURN.min(self.most.div_ceil(4)) {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (client, peer) = match acceptfrom_with(&listener.socket, flags) {
                Ok(accepted) => accepted,
                // Others have the descriptors, or their memory: a place is made, or it would be tried without end.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.end_most_silent();
                }
                // None waits any more, or whoever it was has gone.
                Err(_) => return,
            };
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let Some(peer) = peer else { continue };
            if self.count() >= self.most {
                self.end_most_silent();
            }
            let mut others = target.addresses(peer.ip(), listener.port.container.number);
            match target.connect(peer, &mut others, SocketType::STREAM) {
                // One for which there is no room is closed again.
                Ok(server) => {
                    let is_large = target.is_of_root();
                    let connection = Connection::new(peer, client, server, others, is_large);
                    connection
                        .and_then(|connection| self.add(events, connection))
                        .unwrap_or_default();
                }
                // The client sees its connection break: nobody is there.
                Err(_) => break_off(&client),
            }
        }
    }

    fn add(&mut self, events: &OwnedFd, connection: Connection) -> rustix::io::Result<()> {
        let number = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            u32::try_from(self.connections.len() - 1).expect("fewer connections than descriptors")
        });
        let added = watch(events, &connection.client, number)
            .and_then(|()| watch(events, &connection.server, number));
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

    /// Breaks off the connection by which nothing came or went for longest.
    fn end_most_silent(&mut self) {
        let connections = (0_u32..).zip(&self.connections);
        let used = connections.filter_map(|(at, it)| Some((it.as_ref()?.used, at)));
        if let Some((_, number)) = used.min() {
            self.break_off(number);
        }
    }

    fn break_off(&mut self, number: u32) {
        if let Some(Some(connection)) = self.connections.get(number as usize) {
            break_off(&connection.client);
            break_off(&connection.server);
        }
        self.end(number);
    }

    /// Moves what can be moved of a connection, and ends it when both sides have said all.
    pub(super) fn advance(&mut self, events: &OwnedFd, number: u32, target: &Target<'_>) {
        let Some(Some(connection)) = self.connections.get_mut(number as usize) else {
            return;
        };
        let connected = connection.is_connected(target, |server| watch(events, server, number));
        match connected.and_then(|is_connected| Ok(is_connected && connection.advance()?)) {
            Ok(false) => {}
            Ok(true) => self.end(number),
            Err(_) => self.break_off(number),
        }
    }
}

fn watch(events: &OwnedFd, socket: &OwnedFd, number: u32) -> rustix::io::Result<()> {
    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(events, socket, Token::Stream(number).data(), interest)
}

impl Connection {
    fn new(
        peer: SocketAddr,
        client: OwnedFd,
        server: OwnedFd,
        others: VecDeque<SocketAddr>,
        is_large: bool,
    ) -> rustix::io::Result<Self> {
        prepare(&client)?;
        prepare(&server)?;
        Ok(Self {
            peer,
            up: Way::new(is_large)?,
            down: Way::new(is_large)?,
            client,
            server,
            others,
            is_connected: false,
            used: Instant::now(),
        })
    }

    /// Tells whether the server has taken the connection. Where it does not, it is sought where else it may be, by a
    /// socket that `watch` watches; nothing was moved yet.
    fn is_connected(
        &mut self,
        target: &Target<'_>,
        watch: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<bool> {
        if self.is_connected {
            return Ok(true);
        }
        if let Err(error) = sockopt::socket_error(&self.server)? {
            if self.others.is_empty() {
                return Err(error);
            }
            self.server = target.connect(self.peer, &mut self.others, SocketType::STREAM)?;
            prepare(&self.server)?;
            watch(&self.server)?;
            return Ok(false);
        }
        self.is_connected = getpeername(&self.server).is_ok();
        Ok(self.is_connected)
    }

    /// Tells whether all was said.
    fn advance(&mut self) -> rustix::io::Result<bool> {
        self.used = Instant::now();
        self.up.advance(self.client.as_fd(), self.server.as_fd())?;
        self.down
            .advance(self.server.as_fd(), self.client.as_fd())?;
        Ok(self.up.is_shut && self.down.is_shut)
    }
}

/// Has small answers not wait for larger ones, and a side that vanished be noticed.
fn prepare(socket: &OwnedFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, SILENCE)?;
    sockopt::set_tcp_keepintvl(socket, BETWEEN)?;
    sockopt::set_tcp_keepcnt(socket, QUESTIONS)
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
            // Where the machine has no memory left for large ones (pipe(7)), a small one does too.
            fcntl_setpipe_size(&write, CHUNK).ok();
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
