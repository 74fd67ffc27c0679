//! The monitor's watch: a container that runs, its clients, and what passes between them.

use crate::container::log::Stream;
use crate::monitor::hub::Hub;
use crate::monitor::servants::Serving;
use crate::monitor::signals::Signals;
use crate::monitor::{FromClient, FromMonitor, independent};
use crate::network::Switch;
use crate::options::Stop;
use crate::runtime::Running;
use crate::sys::message::{Channel, Listener, lacks_descriptors};
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Everyone around a container.
pub(super) struct Watch {
    pub(super) clients: Vec<Client>,
    pub(super) hub: Hub,
    /// What holds the networks of the container's user, if he is an ordinary one: handed to whoever starts the next.
    pub(super) switch: Option<Switch>,
    /// Where clients that come later connect.
    pub(super) door: Option<Listener>,
    /// Where the input of such clients goes: the terminal's master, or the writing end of a pipe.
    pub(super) input: Option<Input>,
    /// When the container's time is over.
    pub(super) deadline: Option<Instant>,
    /// When a container that was asked to end is killed.
    pub(super) last_hour: Option<Instant>,
    /// How it is asked.
    pub(super) stop: Stop,
    /// The first process of a container that is only visited: with it the command ends too.
    pub(super) host: Option<OwnedFd>,
    /// Given up for a moment where there is no descriptor left, to say that to who knocks.
    pub(super) spare: Option<OwnedFd>,
}

pub(super) struct Input {
    pub(super) to: OwnedFd,
    pub(super) is_terminal: bool,
}

/// Somebody who is told of the end.
pub(super) struct Client {
    pub(super) channel: Channel,
    pub(super) number: u32,
    /// Its death is the container's: it runs in the foreground for it.
    pub(super) is_owner: bool,
}

/// The number of the client that the monitor was forked from.
const FIRST: u32 = 0;

/// What [`poll`] found, in the order of what it was asked.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an end that was watched"
)]
struct Ready {
    has_ended: bool,
    signals: bool,
    at_door: bool,
    clients: Vec<bool>,
    host_ended: bool,
    /// One has died, or is to be started again.
    servants: bool,
}

impl Watch {
    /// Returns that of a command with one client, which owns it if it runs in the foreground for it.
    pub(super) fn new(channel: Channel, is_owner: bool, stop: Stop) -> Self {
        // A client that never reads must not keep the others waiting. One that cannot be told so is as good.
        channel.set_nonblocking().ok();
        Self {
            clients: vec![Client {
                channel,
                number: FIRST,
                is_owner,
            }],
            hub: Hub::default(),
            switch: None,
            door: None,
            input: None,
            deadline: None,
            last_hour: None,
            stop,
            host: None,
            spare: spare(),
        }
    }

    /// Returns when the command has ended; true if that was because its time was over.
    pub(super) fn until_end(
        &mut self,
        running: &Running,
        serving: &mut Serving<'_>,
    ) -> Result<bool> {
        let signals = Signals::take_of_monitor()?;
        let mut is_overdue = false;
        loop {
            let ready = self.wait(running, &signals, serving)?;
            if ready.has_ended {
                return Ok(is_overdue);
            }
            if ready.signals {
                self.heed(&signals, running)?;
            }
            let is_over = |end: &mut Instant| *end <= Instant::now();
            let is_late = self.deadline.take_if(is_over).is_some();
            is_overdue |= is_late;
            let is_left = ready.host_ended && self.host.take().is_some();
            if is_left || is_late || self.last_hour.take_if(is_over).is_some() {
                running.signal(libc::SIGKILL)?;
            }
            // What a full disk does not take of the log must not end the container.
            self.hub.advance().ok();
            if self.hub.is_abandoned() {
                // The command sees a terminal hang up once nobody holds its other end.
                self.input = None;
            }
            let mut has_left = Vec::new();
            for (at, _) in ready
                .clients
                .iter()
                .enumerate()
                .filter(|(_, ready)| **ready)
            {
                if !self.attend(at, running, serving)? {
                    has_left.push(self.clients[at].number);
                }
            }
            for number in has_left {
                self.hub.forget(number);
                self.clients.retain(|client| client.number != number);
            }
            if ready.at_door {
                self.let_in();
            }
            if ready.servants {
                serving.look_after();
            }
        }
    }

    /// A machine that shuts down asks all processes to end: for a monitor that is to stop its container.
    fn heed(&mut self, signals: &Signals, running: &Running) -> Result<()> {
        while let Some(number) = signals.next()? {
            if number == libc::SIGTERM {
                running.signal(self.stop.number())?;
                let last = self
                    .stop
                    .grace()
                    .and_then(|it| Instant::now().checked_add(it));
                self.last_hour = self.last_hour.or(last);
            }
        }
        // One that cannot be reaped is no reason to end the others.
        running.reap_orphans().ok();
        Ok(())
    }

    fn wait(&self, running: &Running, signals: &Signals, serving: &Serving<'_>) -> Result<Ready> {
        let mut ends = vec![
            PollFd::from_borrowed_fd(running.end(), PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        ends.extend(
            self.clients
                .iter()
                .map(|client| PollFd::new(&client.channel, PollFlags::IN)),
        );
        ends.extend(
            self.door
                .iter()
                .map(|door| PollFd::new(door, PollFlags::IN)),
        );
        let servants = ends.len();
        ends.extend(
            serving
                .ends()
                .map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)),
        );
        let others = ends.len();
        ends.extend(
            self.host
                .iter()
                .map(|host| PollFd::new(host, PollFlags::IN)),
        );
        self.hub.interests(&mut ends);
        let due = serving.due();
        let next = [self.deadline, self.last_hour, due];
        let left = next.into_iter().flatten().min();
        let left = left.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut ends, left.as_ref()) {
            Err(Errno::INTR) => {}
            other => drop(other.context("watching the container")?),
        }
        let is_ready = |at: usize| !ends[at].revents().is_empty();
        let clients = self.clients.len();
        Ok(Ready {
            has_ended: is_ready(0),
            signals: is_ready(1),
            clients: (2..clients + 2).map(is_ready).collect(),
            at_door: self.door.is_some() && is_ready(clients + 2),
            host_ended: self.host.is_some() && is_ready(others),
            servants: (servants..others).any(is_ready)
                || due.is_some_and(|due| due <= Instant::now()),
        })
    }

    /// Does what a client asks; false if it left, or asked for what cannot be: that ends the client, and the container only
    /// where it runs for that client.
    fn attend(&mut self, at: usize, running: &Running, serving: &mut Serving<'_>) -> Result<bool> {
        let answer = match self.hear(at, running, serving) {
            Ok(Some(stays)) => return Ok(stays),
            Ok(None) => None,
            Err(error) => Some(FromMonitor::Failed(format!("{error:#}"))),
        };
        let client = &self.clients[at];
        if let Some(answer) = answer {
            // A client that is gone needs none.
            client.channel.send(&answer, None).ok();
        }
        if client.is_owner {
            running.signal(libc::SIGKILL)?;
        }
        Ok(false)
    }

    /// Does what a client asks; false if it left, `None` if it is gone.
    fn hear(
        &mut self,
        at: usize,
        running: &Running,
        serving: &mut Serving<'_>,
    ) -> Result<Option<bool>> {
        let client = &mut self.clients[at];
        let (number, is_owner) = (client.number, client.is_owner);
        let heard = match client.channel.receive() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(true)),
            heard => heard.context("hearing from the client")?,
        };
        match heard {
            Some((FromClient::Signal(signal), _)) => running.signal(signal)?,
            Some((FromClient::Output(stream), Some(to))) => {
                self.hub.add_sink(number, stream, to, false)?;
            }
            Some((FromClient::Output(_), None)) => bail!("no descriptor came along"),
            Some((FromClient::Attach, _)) => self.attach(at)?,
            Some((FromClient::Change(wanted), _)) => {
                let answer = match serving.change(wanted, self.switch.as_ref()) {
                    Ok(notices) => FromMonitor::Changed { notices },
                    Err(error) => FromMonitor::Failed(format!("{error:#}")),
                };
                client.channel.send(&answer, None)?;
            }
            Some((FromClient::Switch, _)) => {
                let switch = self.switch.as_ref().map(AsFd::as_fd);
                client.channel.send(&FromMonitor::Switch, switch)?;
            }
            Some((FromClient::Detach, _)) => {
                if is_owner {
                    independent::become_independent()?;
                }
                return Ok(Some(false));
            }
            None => return Ok(None),
        }
        Ok(Some(true))
    }

    fn attach(&self, at: usize) -> Result<()> {
        let answer = if self.hub.is_in_use() {
            FromMonitor::Started {
                notices: Vec::new(),
                is_terminal: self.input.as_ref().is_some_and(|input| input.is_terminal),
            }
        } else {
            FromMonitor::Failed(
                "its output goes straight to whoever started it in the foreground".to_owned(),
            )
        };
        let input = self.input.as_ref().map(|input| input.to.as_fd());
        Ok(self.clients[at].channel.send(&answer, input)?)
    }

    /// Lets in who knocks, and tells whether there was somebody. Where there is no descriptor left, that is said instead.
    fn let_in(&mut self) -> bool {
        let Some(door) = &self.door else {
            return false;
        };
        let channel = match door.accept() {
            Ok(Some(channel)) => channel,
            Err(error) if lacks_descriptors(&error) && self.spare.take().is_some() => {
                if let Ok(Some(channel)) = door.accept() {
                    let answer = FromMonitor::Failed("too many clients".to_owned());
                    // A client that is gone needs none.
                    channel.send(&answer, None).ok();
                }
                self.spare = spare();
                return true;
            }
            // Whoever it was has left.
            Ok(None) => return true,
            // Whoever it is tries again.
            Err(_) => return false,
        };
        // A client that never reads must not keep the others waiting.
        if channel.set_nonblocking().is_ok() {
            let last = self.clients.iter().map(|client| client.number).max();
            self.clients.push(Client {
                channel,
                number: last.unwrap_or(FIRST) + 1,
                is_owner: false,
            });
        }
        true
    }

    /// Lets in who knocked already, to be told the end with the others, and nobody after them.
    pub(super) fn close_door(&mut self) {
        // First: nobody comes in between, to find it closed without a word.
        if self
            .door
            .as_ref()
            .is_some_and(|it| it.refuse_others().is_ok())
        {
            while self.let_in() {}
        }
        self.door = None;
    }

    /// Tells everyone.
    pub(super) fn tell(&self, message: &FromMonitor) {
        for client in &self.clients {
            // A client that is gone needs no answer.
            client.channel.send(message, None).ok();
        }
    }

    /// Gives the first client what it sees of the command: `sinks` are its ends.
    pub(super) fn connect(&mut self, sinks: Vec<(Stream, OwnedFd)>, is_owner: bool) -> Result<()> {
        for (stream, to) in sinks {
            self.hub.add_sink(FIRST, stream, to, is_owner)?;
        }
        Ok(())
    }
}

/// Returns a descriptor that is held to be given up.
fn spare() -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // Without one, who knocks in vain waits at the door.
    open("/", flags, Mode::empty()).ok()
}
