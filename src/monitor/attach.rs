//! The client's side: streams, signals and the terminal, until the monitor tells the end or the client leaves.

use crate::container::log::Stream;
use crate::monitor::caller::{Caller, Cut, Loss};
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
    /// Streams of the caller's that the command writes to itself.
    pub(crate) direct: Vec<Stream>,
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
    /// The container ended, and not all that it wrote could be written, as was said.
    Incomplete,
    /// Nobody reads any more what it writes: it ends with the client that runs it in the foreground.
    Cut(Cut),
    /// The caller's terminal is gone: likewise.
    HungUp,
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
    /// Not all that the command wrote is where it belongs.
    is_incomplete: bool,
    /// How it is over before the container has ended.
    end: Option<End>,
}

impl Client<'_> {
    /// Relays until the container has ended and all that it wrote is written, or the client leaves or loses its caller.
    pub(crate) fn attach(mut self) -> Result<End> {
        let mut state = State::default();
        let mut caller = if self.session.detached {
            Caller::default()
        } else {
            Caller::new(&self.direct)?
        };
        loop {
            self.relays.retain(|relay| !relay.is_done());
            match state.outcome {
                Some(_) if !self.has_output_left() && state.is_incomplete => {
                    return Ok(End::Incomplete);
                }
                Some(outcome) if !self.has_output_left() => return Ok(End::Ended(outcome)),
                _ => {}
            }
            if state.has_started && self.session.detached && self.relays.is_empty() {
                return Ok(End::Detached(Leave::Done));
            }
            match state.end.take() {
                Some(End::Detached(leave)) if state.outcome.is_none() => return self.leave(leave),
                Some(end @ (End::Cut(_) | End::HungUp)) => return Ok(end),
                _ => {}
            }
            let ready = self.wait(&caller, state.outcome.is_some())?;
            // Before the monitor is heard: what it tells of comes after its steps.
            self.narration.map_or(Ok(()), Narration::pass_on)?;
            if ready.monitor {
                self.hear(&mut state)?;
            }
            if let Some(loss) = caller.look(&ready.caller) {
                self.lose(loss, &mut state);
            }
            if ready.signals {
                self.pass_signals_on(&mut state, &caller)?;
            }
            for at in 0..ready.relays.len() {
                self.advance(at, ready.relays[at], &mut state)?;
            }
        }
    }

    fn advance(&mut self, at: usize, is_ready: bool, state: &mut State) -> Result<()> {
        let relay = &mut self.relays[at];
        relay.release_keys(Instant::now());
        let was_cut = relay.cut().is_some();
        if is_ready {
            relay
                .advance()
                .context("passing the command's streams on")?;
        }
        if relay.is_detaching() {
            state.end = Some(End::Detached(Leave::Keys));
        }
        match relay.cut().filter(|_| !was_cut) {
            Some(cut) if matches!(cut.error, Errno::PIPE | Errno::CONNRESET) => {
                state.end = Some(End::Cut(cut));
            }
            Some(cut) => {
                state.is_incomplete = true;
                (self.notify)(&format!("{cut}; the command goes on"));
            }
            None => {}
        }
        Ok(())
    }

    /// The container in the foreground ends with its client. Without `--sig-proxy` that only leaves when its terminal goes.
    fn lose(&self, loss: Loss, state: &mut State) {
        state.end = match loss {
            // It said all that it had to say.
            Loss::Reader(_) if state.outcome.is_some() => return,
            Loss::Reader(cut) => Some(End::Cut(cut)),
            Loss::Terminal if self.session.sig_proxy || state.outcome.is_some() => {
                Some(End::HungUp)
            }
            Loss::Terminal => Some(End::Detached(Leave::Signal(libc::SIGHUP))),
        };
    }

    /// The command's input needs no draining once the command is gone.
    fn has_output_left(&self) -> bool {
        self.relays.iter().any(|relay| !relay.is_input())
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

    fn wait(&self, caller: &Caller, has_ended: bool) -> Result<Ready> {
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
        let relays = fixed + self.relays.len();
        ends.extend(caller.interests());
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
            relays: ends[fixed..relays].iter().map(is_ready).collect(),
            caller: ends[relays..].iter().map(is_ready).collect(),
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
            FromMonitor::Ended { notices, .. } => {
                for notice in &notices {
                    (self.notify)(notice);
                }
                Ok(())
            }
            FromMonitor::Changed { .. } | FromMonitor::Switch => Ok(()),
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

    fn pass_signals_on(&self, state: &mut State, caller: &Caller) -> Result<()> {
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
                    state.end = Some(End::Detached(Leave::Signal(number)));
                    continue;
                }
                // To whoever has no terminal it is a request to be passed on, to read a configuration anew.
                Ok(Signal::SIGHUP) if caller.has_terminal() => {
                    state.end = Some(End::HungUp);
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
            ..
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
    /// In the order of the caller's interests.
    caller: Vec<bool>,
}
