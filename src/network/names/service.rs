//! The loop of the process that answers: what arrives is taken, considered, and answered or asked of others.

use crate::network::names::message::{self, Code, Question, Unfit};
use crate::network::names::queries::{Answer, Queries};
use crate::network::names::streams::{LARGEST_QUERY, Streams};
use crate::network::names::{Asked, Client, Known, attempt};
use anyhow::{Result, bail};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How many questions are taken before others have their turn.
const TURN: usize = 64;

/// What an event is about.
#[derive(Clone, Copy)]
pub(super) enum Token {
    Datagrams,
    Listener,
    Stream(u32),
    /// The process in the container's network namespace.
    Opener,
    /// A question, and the number of the attempt to have it answered.
    Attempt(usize, usize),
}

impl Token {
    pub(super) fn data(self) -> EventData {
        let (kind, number) = match self {
            Self::Datagrams => (0, 0),
            Self::Listener => (1, 0),
            Self::Stream(place) => (2, u64::from(place)),
            Self::Opener => (3, 0),
            Self::Attempt(place, number) => (4 + number as u64, place as u64),
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
            3 => Self::Opener,
            kind => Self::Attempt(
                number as usize,
                usize::try_from(kind - 4).unwrap_or(usize::MAX),
            ),
        }
    }
}

pub(super) struct Service<'a> {
    pub(super) events: &'a OwnedFd,
    pub(super) datagrams: &'a OwnedFd,
    pub(super) listener: &'a OwnedFd,
    pub(super) streams: Streams,
    pub(super) queries: Queries<'a>,
    pub(super) directory: &'a mut dyn FnMut(Asked<'_>) -> Result<Known>,
    pub(super) buffer: Vec<u8>,
}

impl Service<'_> {
    pub(super) fn serve(mut self) -> Result<()> {
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
                    // Another cannot be started from here; whoever takes this process's place brings one along.
                    Token::Opener => {
                        bail!("the process in the container's network namespace ended")
                    }
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
