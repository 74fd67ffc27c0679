//! Questions that others are asked: which server is asked when, and what the client is told in the end.

use crate::network::names::attempt::Attempt;
use crate::network::names::message::{self, Code};
use crate::network::names::service::Token;
use crate::network::names::{Client, Server};
use crate::network::opener::Opener;
use crate::network::published::open;
use anyhow::Context as _;
use rustix::event::epoll;
use rustix::net::SocketType;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often a question is put at most, and to how many servers (resolv.conf(5), `MAXNS`).
const ATTEMPTS: usize = 3;

/// How long a server has before the next one is asked too: all together less than the five seconds after which a
/// C library gives up, so that it hears that it is in vain.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Questions that are open at most, as with Docker.
const MOST: usize = 1024;

/// Descriptors for everything but questions.
const RESERVE: usize = 128;

/// A client, and what it is told.
pub(super) type Answer = (Client, Vec<u8>);

pub(super) struct Queries<'a> {
    /// Where the attempts are watched.
    events: &'a OwnedFd,
    /// What opens sockets in the container's network namespace, if some servers are asked there.
    inside: Option<Opener>,
    open: Vec<Option<Query>>,
    most: usize,
}

/// A question that is open.
struct Query {
    client: Client,
    message: Vec<u8>,
    servers: Vec<Server>,
    /// Those that failed are none.
    attempts: Vec<Option<Attempt>>,
    /// When the next server is asked, or it was in vain.
    due: Instant,
    /// What a server said that another may know better.
    poor: Option<Vec<u8>>,
}

impl<'a> Queries<'a> {
    pub(super) fn new(events: &'a OwnedFd, inside: Option<Opener>, descriptors: usize) -> Self {
        let room = descriptors.saturating_sub(RESERVE) / ATTEMPTS;
        Self {
            events,
            inside,
            open: Vec::new(),
            most: MOST.min(room).max(1),
        }
    }

    /// Asks `servers`, one after the other; returns what the client is told if that is known at once.
    pub(super) fn add(
        &mut self,
        client: Client,
        message: Vec<u8>,
        mut servers: Vec<Server>,
    ) -> Option<Answer> {
        servers.truncate(ATTEMPTS);
        if servers.is_empty() {
            let refusal = message::refusal(&message, Code::Failure);
            return Some((client, refusal));
        }
        let Some(place) = self.place() else {
            let refusal = message::refusal(&message, Code::Refused);
            return Some((client, refusal));
        };
        self.open[place] = Some(Query {
            client,
            message,
            servers,
            attempts: Vec::new(),
            due: Instant::now(),
            poor: None,
        });
        self.ask_next(place)
    }

    fn place(&mut self) -> Option<usize> {
        if let Some(free) = self.open.iter().position(Option::is_none) {
            return Some(free);
        }
        (self.open.len() < self.most).then(|| {
            self.open.push(None);
            self.open.len() - 1
        })
    }

    /// Goes on with an attempt that is ready.
    pub(super) fn advance(
        &mut self,
        place: usize,
        number: usize,
        buffer: &mut [u8],
    ) -> Option<Answer> {
        let query = self.open.get_mut(place)?.as_mut()?;
        let slot = query.attempts.get_mut(number)?;
        match slot.as_mut()?.advance(&query.message, buffer) {
            Ok(None) => return None,
            Ok(Some(mut answer)) => {
                message::set_id(&mut answer, message::id(&query.message));
                if !message::is_poor(&answer) {
                    let client = query.client;
                    self.open[place] = None;
                    return Some((client, answer));
                }
                query.poor = Some(answer);
            }
            // Nobody is there, or it broke off.
            Err(_) => {}
        }
        *slot = None;
        if query.attempts.len() < query.servers.len() {
            return self.ask_next(place);
        }
        self.end_if_in_vain(place)
    }

    /// Asks the next server.
    fn ask_next(&mut self, place: usize) -> Option<Answer> {
        let query = self.open[place].as_mut()?;
        while query.attempts.len() < ATTEMPTS {
            let number = query.attempts.len();
            let server = query.servers[number % query.servers.len()];
            query.due = Instant::now() + PATIENCE;
            let attempt = ask(server, query, self.inside.as_ref())
                .ok()
                .filter(|attempt| {
                    let token = Token::Attempt(place, number);
                    epoll::add(self.events, attempt, token.data(), attempt.interest()).is_ok()
                });
            query.attempts.push(attempt);
            let has_more = query.attempts.len() < query.servers.len();
            if !has_more || query.attempts[number].is_some() {
                break;
            }
        }
        self.end_if_in_vain(place)
    }

    /// Ends a question for whose answer nobody is left to wait.
    fn end_if_in_vain(&mut self, place: usize) -> Option<Answer> {
        let query = self.open[place].as_ref()?;
        if query.attempts.iter().any(Option::is_some) {
            return None;
        }
        self.end(place)
    }

    fn end(&mut self, place: usize) -> Option<Answer> {
        let query = self.open[place].take()?;
        let answer = query.poor;
        let answer = answer.unwrap_or_else(|| message::refusal(&query.message, Code::Failure));
        Some((query.client, answer))
    }

    /// Asks further servers for what is not answered yet, ends what has waited for long enough, and tells when to look
    /// again.
    pub(super) fn hurry(&mut self, now: Instant) -> (Vec<Answer>, Option<Instant>) {
        let mut answers = Vec::new();
        let mut next = None;
        for place in 0..self.open.len() {
            let is_due = |query: &Query| query.due <= now;
            if self.open[place].as_ref().is_some_and(is_due) {
                let attempts = self.open[place].as_ref().map(|it| it.attempts.len());
                answers.extend(match attempts {
                    Some(ATTEMPTS) => self.end(place),
                    _ => self.ask_next(place),
                });
            }
            let due = self.open[place].as_ref().map(|query| query.due);
            next = [next, due].into_iter().flatten().min();
        }
        (answers, next)
    }
}

/// Puts the question to a server, from the network namespace in which it is meant.
fn ask(server: Server, query: &Query, inside: Option<&Opener>) -> anyhow::Result<Attempt> {
    let kind = match query.client {
        Client::Stream(_) => SocketType::STREAM,
        Client::Datagram(_) => SocketType::DGRAM,
    };
    let address = server.address.ip();
    let socket = if server.is_of_container {
        let inside = inside.context("nothing is asked in the container's network namespace")?;
        inside.open(address, kind)?
    } else {
        open(address, kind)?
    };
    Ok(Attempt::start(
        socket,
        server.address,
        &query.message,
        kind,
    )?)
}
