//! The monitor's side: starts the container, waits for its end, and cleans up.

use crate::container::Container;
use crate::monitor::attach::Client;
use crate::monitor::signals::Signals;
use crate::monitor::streams::Wiring;
use crate::monitor::{FromClient, FromMonitor};
use crate::narration::{Narration, Step, tell};
use crate::runtime::{self, ExitStatus, Plan, Privilege, Running, StartError, Streams};
use crate::sys::clone::{Clone, end_child, fork};
use crate::sys::message::Channel;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};

/// A container that is to run.
pub(crate) struct Job<'a> {
    pub(crate) container: Container,
    pub(crate) plan: &'a Plan,
    /// Its root, assembled and attached nowhere.
    pub(crate) root: OwnedFd,
    pub(crate) privilege: Privilege,
    /// Whether the caller's input goes to the command.
    pub(crate) interactive: bool,
    /// Tells the user something that is not the command's.
    pub(crate) notify: &'a dyn Fn(&str),
    /// Where the steps arrive, if somebody wants to hear them.
    pub(crate) narration: Option<&'a Narration>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    /// The kernel killed a process because the memory limit was reached.
    pub(crate) out_of_memory: bool,
}

/// Runs a container in the foreground: forks its monitor and attaches to it until both are gone.
///
/// Needs a process with one thread.
pub(crate) fn run(job: Job<'_>) -> Result<Outcome> {
    let wiring = if job.plan.process.terminal.is_some() {
        Wiring::terminal()
    } else {
        Wiring::pipes(job.interactive)?
    };
    let signals = Signals::take()?;
    let (client, monitor) = Channel::pair().context("making a channel to the monitor")?;
    match fork()? {
        Clone::Child => {
            // Ends of pipes that this process kept would keep readers waiting.
            drop((client, wiring.relays, signals));
            supervise(job, wiring.streams, &monitor);
            end_child(0)
        }
        Clone::Parent(child) => {
            // The monitor's from now on: its lock as well, so that its end is seen.
            drop((monitor, wiring.streams, job.root, job.container));
            tell(|| Step::Monitor {
                pid: child.pid.as_raw_nonzero().get().cast_unsigned(),
            });
            let client = Client {
                monitor: client,
                signals,
                relays: wiring.relays,
                interactive: job.interactive,
                notify: job.notify,
                narration: job.narration,
            };
            let attached = client.attach();
            // The monitor cleans up before it ends: who waits for it finds nothing left.
            retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED))
                .context("waiting for the monitor")?;
            if let Some(narration) = job.narration {
                narration.pass_on()?;
            }
            attached
        }
    }
}

fn supervise(job: Job<'_>, streams: Streams, client: &Channel) {
    let message = match run_container(job, streams, client) {
        Ok(outcome) => FromMonitor::Ended {
            status: outcome.status,
            out_of_memory: outcome.out_of_memory,
        },
        Err(error) => match error.downcast::<StartError>() {
            Ok(error) => FromMonitor::NotStarted(error),
            Err(error) => FromMonitor::Failed(format!("{error:#}")),
        },
    };
    // A client that is gone needs no answer.
    client.send(&message, None).ok();
}

fn run_container(mut job: Job<'_>, streams: Streams, client: &Channel) -> Result<Outcome> {
    // Away from the caller's terminal: a ^C there is the client's to pass on.
    rustix::process::setsid().context("starting a session")?;
    let container = &mut job.container;
    let directory = &container.directory;
    let started = runtime::start(job.plan, job.root, directory, job.privilege, streams);
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            // The first error is the one to tell.
            container.ended(None).ok();
            return Err(error);
        }
    };
    let recorded = container.started(running.pid, running.start_time);
    let terminal = running.terminal.take();
    let notices = running.notices.clone();
    let told = client.send(
        &FromMonitor::Started { notices },
        terminal.as_ref().map(AsFd::as_fd),
    );
    // The client is dead, or nothing may run that was not recorded: the container ends at once.
    if told.is_err() || recorded.is_err() {
        running.signal(Signal::KILL)?;
    }
    drop(terminal);
    watch(&running, client)?;
    let (status, out_of_memory) = running.finish()?;
    let removed = container.record.auto_remove;
    container.ended(Some((status.code(), out_of_memory)))?;
    tell(|| Step::CleanUp { removed });
    recorded.map(|()| Outcome {
        status,
        out_of_memory,
    })
}

/// Returns when the command has ended; passes on what the client asks, and ends the container if the client dies.
fn watch(running: &Running, client: &Channel) -> Result<()> {
    let mut is_attached = true;
    loop {
        let mut ends = vec![PollFd::from_borrowed_fd(running.end(), PollFlags::IN)];
        if is_attached {
            ends.push(PollFd::new(client, PollFlags::IN));
        }
        match poll(&mut ends, None) {
            Err(Errno::INTR) => continue,
            other => other.context("watching the container")?,
        };
        let is_ready = |at: usize| ends.get(at).is_some_and(|end| !end.revents().is_empty());
        let (has_ended, has_message) = (is_ready(0), is_ready(1));
        if has_ended {
            return Ok(());
        }
        if has_message {
            match client.receive().context("hearing from the client")? {
                Some((FromClient::Signal(number), _)) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        running.signal(signal)?;
                    }
                }
                None => {
                    is_attached = false;
                    running.signal(Signal::KILL)?;
                }
            }
        }
    }
}
