//! The client's side: streams, signals and the terminal, until the monitor tells the end or the client leaves.

use crate::monitor::keys::Watcher;
use crate::monitor::raw::{self, RawMode};
use crate::monitor::relay::Relay;
use crate::monitor::signals::{Interrupt, Interrupts, Signals};
use crate::monitor::streams::copy;
use crate::monitor::supervise::{Outcome, Session};
use crate::monitor::{FromClient, FromMonitor, Vanished};
use crate::narration::Narration;
use crate::sys::message::Channel;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// An attached client.
pub(crate) struct Client<'a> {
    pub(crate) monitor: Channel,
    pub(crate) signals: Signals,
    pub(crate) relays: Vec<Relay>,
    /// Whether the container ran before.
    pub(crate) is_visitor: bool,
    pub(crate) session: Session,
    /// Tells the user something that is not the command's.
    pub(crate) notify: &'a dyn Fn(&str),
    /// Where the steps arrive, if somebody wants to hear them.
    pub(crate) narration: Option<&'a Narration>,
}

/// How a client's time with a container ended.
#[derive(Debug)]
pub(crate) enum End {
    Ended(Outcome),
    /// The container goes on.
    Detached(Leave),
}

/// Why a client left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// There is nothing more to do.
    Done,
    /// The keys that detach were pressed.
    Keys,
    /// This signal came, which is not passed on.
    Signal(i32),
}

/// What the client knows of the container.
#[derive(Default)]
struct State {
    has_started: bool,
    terminal: Option<OwnedFd>,
    raw: Option<RawMode>,
    interrupts: Interrupts,
    /// What is left when the client has heard the end.
    outcome: Option<Outcome>,
    leave: Option<Leave>,
}

impl Client<'_> {
    /// Relays until the container has ended and all that it wrote is written, or the client leaves.
    pub(crate) fn attach(mut self) -> Result<End> {
        let mut state = State::default();
        loop {
            self.drop_what_is_done(&mut state);
            if let Some(outcome) = state.outcome.take_if(|_| !self.has_output_left()) {
                return Ok(End::Ended(outcome));
            }
            if state.has_started && self.session.detached && self.relays.is_empty() {
                return Ok(End::Detached(Leave::Done));
            }
            if let Some(leave) = state.leave.filter(|_| state.outcome.is_none()) {
                return self.leave(leave);
            }
            let ready = self.wait(state.outcome.is_some())?;
            // Before the monitor is heard: what it tells of comes after its steps.
            self.narration.map_or(Ok(()), Narration::pass_on)?;
            if ready.monitor {
                self.hear(&mut state)?;
            }
            if ready.signals {
                self.pass_signals_on(&mut state)?;
            }
            for (relay, is_ready) in self.relays.iter_mut().zip(&ready.relays) {
                relay.release_keys(Instant::now());
                if *is_ready {
                    relay
                        .advance()
                        .context("passing the command's streams on")?;
                }
                if relay.is_detaching() {
                    state.leave = Some(Leave::Keys);
                }
            }
        }
    }

    fn drop_what_is_done(&mut self, state: &mut State) {
        let mut has_lost_reader = false;
        self.relays.retain(|relay| {
            has_lost_reader |= relay.has_lost_reader && !relay.is_input;
            !relay.is_done()
        });
        if has_lost_reader && state.terminal.is_some() {
            // The command sees its terminal hang up once nobody holds the other end.
            state.terminal = None;
            self.relays.retain(|relay| !relay.is_input);
        }
    }

    /// The command's input needs no draining once the command is gone.
    fn has_output_left(&self) -> bool {
        self.relays.iter().any(|relay| !relay.is_input)
    }

    /// Leaves the container to its monitor, which from then on needs nothing of ours.
    fn leave(&self, leave: Leave) -> Result<End> {
        // A monitor that is gone is noticed below.
        self.monitor.send(&FromClient::Detach, None).ok();
        loop {
            match self.monitor.receive().context("hearing from the monitor")? {
                Some((message, _)) => {
                    if let Some(outcome) = ended(&message) {
                        return Ok(End::Ended(outcome));
                    }
                }
                None => return Ok(End::Detached(leave)),
            }
        }
    }

    fn wait(&self, has_ended: bool) -> Result<Ready> {
        let mut ends = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if !has_ended {
            ends.push(PollFd::new(&self.monitor, PollFlags::IN));
        }
        if let Some(narration) = self.narration {
            ends.push(PollFd::new(narration, PollFlags::IN));
        }
        let fixed = ends.len();
        for relay in &self.relays {
            // In the order of the relays, none of which is done.
            let (descriptor, flags) = relay.interest().context("a relay is done")?;
            ends.push(PollFd::from_borrowed_fd(descriptor, flags));
        }
        let keys = self.relays.iter().filter_map(Relay::deadline).min();
        let left = keys.map(|keys| keys.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut ends, left.as_ref()) {
            Err(Errno::INTR) => return Ok(Ready::default()),
            other => other.context("waiting for the container")?,
        };
        let is_ready = |end: &PollFd<'_>| !end.revents().is_empty();
        Ok(Ready {
            signals: is_ready(&ends[0]),
            monitor: !has_ended && is_ready(&ends[1]),
            relays: ends[fixed..].iter().map(is_ready).collect(),
        })
    }

    fn hear(&mut self, state: &mut State) -> Result<()> {
        let heard = self.monitor.receive().context("hearing from the monitor")?;
        let Some((message, input)) = heard else {
            return Err(Vanished.into());
        };
        // The last of the command's words are printed as it wrote them.
        state.outcome = ended(&message);
        match message {
            FromMonitor::Started {
                notices,
                is_terminal,
            } => {
                state.has_started = true;
                for notice in &notices {
                    (self.notify)(notice);
                }
                match input {
                    Some(terminal) if is_terminal => self.take_terminal(terminal, state)?,
                    Some(pipe) if self.session.stdin => {
                        let own = copy(rustix::stdio::stdin())?;
                        self.relays.push(Relay::input(own, pipe));
                    }
                    _ => {}
                }
                Ok(())
            }
            FromMonitor::NotStarted(error) => Err(error.into()),
            FromMonitor::Failed(error) => bail!(error),
            FromMonitor::Ended { .. } | FromMonitor::Changed { .. } | FromMonitor::Switch => Ok(()),
        }
    }

    fn take_terminal(&mut self, terminal: OwnedFd, state: &mut State) -> Result<()> {
        if self.session.detached {
            return Ok(());
        }
        if self.session.stdin {
            let (own, to) = (copy(rustix::stdio::stdin())?, copy(terminal.as_fd())?);
            let keys = Watcher::new(self.session.detach_keys.clone());
            self.relays.push(Relay::keyboard(own, to, keys));
            state.raw = RawMode::enter().context("making the terminal raw")?;
        }
        state.terminal = Some(terminal);
        if self.is_visitor {
            redraw(state);
        }
        // It may have changed since the command line asked.
        resize(state);
        Ok(())
    }

    fn pass_signals_on(&self, state: &mut State) -> Result<()> {
        while let Some(number) = self.signals.next()? {
            let number = match Signal::try_from(number) {
                Ok(Signal::SIGTSTP) => {
                    stop(state)?;
                    continue;
                }
                Ok(Signal::SIGWINCH) if state.terminal.is_some() => {
                    resize(state);
                    continue;
                }
                Ok(Signal::SIGCONT) if state.raw.is_some() => {
                    reenter(state)?;
                    continue;
                }
                Ok(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)
                    if !self.session.sig_proxy =>
                {
                    state.leave = Some(Leave::Signal(number));
                    continue;
                }
                _ if !self.session.sig_proxy => continue,
                Ok(Signal::SIGINT) => match state.interrupts.another(Instant::now()) {
                    Interrupt::Forward => number,
                    Interrupt::Explain => {
                        (self.notify)(
                            "the command does not react to ^C; once more kills the container",
                        );
                        number
                    }
                    Interrupt::Kill => Signal::SIGKILL as i32,
                },
                _ => number,
            };
            // A monitor that is gone is noticed where it is heard.
            self.monitor.send(&FromClient::Signal(number), None).ok();
        }
        Ok(())
    }
}

/// Returns how the container ended, if `message` tells that.
pub(super) fn ended(message: &FromMonitor) -> Option<Outcome> {
    match *message {
        FromMonitor::Ended {
            status,
            out_of_memory,
            is_overdue,
        } => Some(Outcome {
            status,
            out_of_memory,
            is_overdue,
        }),
        _ => None,
    }
}

/// Stops as a job of the shell's, which gets its terminal back as it was.
fn stop(state: &mut State) -> Result<()> {
    let was_raw = state.raw.take().is_some();
    nix::sys::signal::raise(Signal::SIGSTOP).context("stopping")?;
    if was_raw {
        state.raw = RawMode::enter().context("making the terminal raw")?;
        resize(state);
    }
    Ok(())
}

/// Takes the terminal again after someone else may have had it and changed it.
fn reenter(state: &mut State) -> Result<()> {
    // First the old one, which restores the terminal as it goes.
    state.raw = None;
    state.raw = RawMode::enter().context("making the terminal raw")?;
    resize(state);
    Ok(())
}

/// Gives the terminal a size that it does not keep: the change makes programs draw anew what this user never saw.
fn redraw(state: &State) {
    if let (Some(terminal), Some(mut size)) = (&state.terminal, raw::size()) {
        size.ws_row = size.ws_row.saturating_add(1);
        // A terminal whose command has ended needs no size.
        tcsetwinsize(terminal.as_fd(), size).ok();
    }
}

fn resize(state: &State) {
    if let (Some(terminal), Some(size)) = (&state.terminal, raw::size()) {
        // A terminal whose command has ended needs no size.
        tcsetwinsize(terminal.as_fd(), size).ok();
    }
}

#[derive(Default)]
struct Ready {
    monitor: bool,
    signals: bool,
    /// In the order of the relays.
    relays: Vec<bool>,
}
