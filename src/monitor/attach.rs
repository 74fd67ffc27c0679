//! The client's side: streams, signals and the terminal, until the monitor tells the end.

use crate::monitor::raw::{self, RawMode};
use crate::monitor::relay::Relay;
use crate::monitor::signals::{Interrupt, Interrupts, Signals};
use crate::monitor::streams::terminal_relays;
use crate::monitor::supervise::Outcome;
use crate::monitor::{FromClient, FromMonitor};
use crate::narration::Narration;
use crate::sys::message::Channel;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// An attached client.
pub(crate) struct Client<'a> {
    pub(crate) monitor: Channel,
    pub(crate) signals: Signals,
    pub(crate) relays: Vec<Relay>,
    /// Whether the caller's input goes to the command.
    pub(crate) interactive: bool,
    /// Tells the user something that is not the command's.
    pub(crate) notify: &'a dyn Fn(&str),
    /// Where the steps arrive, if somebody wants to hear them.
    pub(crate) narration: Option<&'a Narration>,
}

/// What is left when the client has heard the end.
#[derive(Default)]
struct State {
    terminal: Option<OwnedFd>,
    raw: Option<RawMode>,
    interrupts: Interrupts,
    outcome: Option<Outcome>,
}

impl Client<'_> {
    /// Relays until the container has ended and all that it wrote is written.
    pub(crate) fn attach(mut self) -> Result<Outcome> {
        let mut state = State::default();
        loop {
            self.relays.retain(|relay| !relay.is_done());
            if let Some(outcome) = state.outcome.take_if(|_| !self.has_output_left()) {
                return Ok(outcome);
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
                if *is_ready {
                    relay
                        .advance()
                        .context("passing the command's streams on")?;
                }
            }
        }
    }

    /// The command's input needs no draining once the command is gone.
    fn has_output_left(&self) -> bool {
        self.relays.iter().any(|relay| !relay.is_input)
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
        let interests: Vec<_> = self.relays.iter().map(Relay::interest).collect();
        for (descriptor, flags) in interests.iter().flatten() {
            ends.push(PollFd::from_borrowed_fd(*descriptor, *flags));
        }
        match poll(&mut ends, None) {
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
        match self.monitor.receive().context("hearing from the monitor")? {
            Some((FromMonitor::Started { notices }, terminal)) => {
                for notice in &notices {
                    (self.notify)(notice);
                }
                if let Some(terminal) = terminal {
                    self.relays = terminal_relays(&terminal, self.interactive)?;
                    if self.interactive {
                        state.raw = Some(RawMode::enter().context("making the terminal raw")?);
                    }
                    state.terminal = Some(terminal);
                    // It may have changed since the command line asked.
                    resize(state);
                }
            }
            Some((FromMonitor::NotStarted(error), _)) => return Err(error.into()),
            Some((FromMonitor::Failed(error), _)) => bail!(error),
            Some((
                FromMonitor::Ended {
                    status,
                    out_of_memory,
                },
                _,
            )) => {
                // The last of the command's words are printed as it wrote them.
                state.outcome = Some(Outcome {
                    status,
                    out_of_memory,
                });
            }
            None => bail!("the container's monitor died, and the container with it"),
        }
        Ok(())
    }

    fn pass_signals_on(&self, state: &mut State) -> Result<()> {
        while let Some(number) = self.signals.next()? {
            let number = match Signal::try_from(number) {
                Ok(Signal::SIGWINCH) if state.terminal.is_some() => {
                    resize(state);
                    continue;
                }
                Ok(Signal::SIGCONT) if state.raw.is_some() => {
                    // Whoever had the terminal meanwhile may have changed it.
                    state.raw = Some(RawMode::enter().context("making the terminal raw")?);
                    resize(state);
                    continue;
                }
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
