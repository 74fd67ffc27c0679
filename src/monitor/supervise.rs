//! The monitor's life: starts the container, watches it until it ends, and cleans up.

use crate::container::Container;
use crate::container::log::{Stream, Writer};
use crate::monitor::attach::{Client, End};
use crate::monitor::connection::{Connected, Connection};
use crate::monitor::servants::{self, Serving};
use crate::monitor::signals::Signals;
use crate::monitor::streams::{Wiring, copy};
use crate::monitor::watch::{Input, Watch};
use crate::monitor::{DOOR, DetachKeys, FromMonitor, independent};
use crate::narration::{Narration, Step, tell};
use crate::options::Rotation;
use crate::runtime::{self, Created, ExitStatus, Plan, Privilege, Running, StartError};
use crate::sys::clone::{Clone, end_child, fork};
use crate::sys::message::{Channel, Listener};
use crate::sys::{kernel, words};
use anyhow::{Context, Result};
use fs_err as fs;
use rustix::io::retry_on_intr;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Podman's exit code of a container whose time was over.
const OVERDUE: u8 = 255;

/// A container that is to run.
pub(crate) struct Job<'a> {
    pub(crate) container: Container,
    pub(crate) plan: &'a Plan,
    /// Its root, assembled and attached nowhere.
    pub(crate) root: OwnedFd,
    pub(crate) privilege: Privilege,
    /// How the container's own network namespace is connected, if it is.
    pub(crate) connection: Option<Connection>,
    pub(crate) session: Session,
    /// Descriptors of the caller that are the command's too, from 3 on.
    pub(crate) handed: Vec<OwnedFd>,
    /// Where its output is kept too, if anywhere.
    pub(crate) log: Option<Rotation>,
    /// After this time it is killed.
    pub(crate) timeout: Option<Duration>,
    /// Tells the user something that is not the command's.
    pub(crate) notify: &'a dyn Fn(&str),
    /// Where the steps arrive, if somebody wants to hear them.
    pub(crate) narration: Option<&'a Narration>,
}

/// What a client and its container have to do with each other.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a choice of the user's"
)]
pub(crate) struct Session {
    /// The container outlives the client, which leaves as soon as it runs.
    pub(crate) detached: bool,
    /// Whether the caller's input goes to the command.
    pub(crate) stdin: bool,
    /// Whether the command has an input at all, for whoever attaches later.
    pub(crate) keeps_stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// Whether the client passes its signals on.
    pub(crate) sig_proxy: bool,
    pub(crate) detach_keys: DetachKeys,
}

/// How a container ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    /// The kernel killed a process because the memory limit was reached.
    pub(crate) out_of_memory: bool,
    /// Its time was over.
    pub(crate) is_overdue: bool,
}

/// Runs a container, from a monitor of its own.
///
/// Needs a process with one thread.
pub(crate) fn run(mut job: Job<'_>) -> Result<End> {
    let command = &job.plan.process;
    let mut wiring = Wiring::new(&job.session, command, job.log.is_some())?;
    wiring.ends.streams.handed = std::mem::take(&mut job.handed);
    let party = Party {
        session: job.session.clone(),
        notify: job.notify,
        narration: job.narration,
    };
    launch(wiring, party, |ends, channel| supervise(job, ends, channel))
}

/// Who is with a command from its start.
pub(super) struct Party<'a> {
    pub(super) session: Session,
    /// Tells the user something that is not the command's.
    pub(super) notify: &'a dyn Fn(&str),
    /// Where the steps arrive, if somebody wants to hear them.
    pub(super) narration: Option<&'a Narration>,
}

/// Forks a process that is to `supervise`, and attaches to it until it is gone or the client leaves.
pub(super) fn launch(
    wiring: Wiring,
    party: Party<'_>,
    supervise: impl FnOnce(Ends, Channel),
) -> Result<End> {
    let signals = Signals::take()?;
    let (client, monitor) = Channel::pair().context("making a channel to the monitor")?;
    // Before there are two of them to copy what either writes to: what the command line took is free by now, and
    // every process to come would touch it, one page after the other, as soon as it needs memory.
    kernel::give_memory_back();
    match fork()? {
        Clone::Child => {
            // Ends of pipes that this process kept would keep readers waiting.
            let Wiring { relays, ends, .. } = wiring;
            drop((client, relays, signals));
            supervise(ends, monitor);
            end_child(0)
        }
        Clone::Parent(child) => {
            // The monitor's from now on: its lock as well, so that its end is seen.
            drop((monitor, wiring.ends, supervise));
            tell(|| Step::Monitor {
                pid: child.pid.as_raw_nonzero().get().cast_unsigned(),
            });
            let client = Client {
                monitor: client,
                signals,
                relays: wiring.relays,
                direct: wiring.direct,
                is_visitor: false,
                session: party.session,
                notify: party.notify,
                narration: party.narration,
            };
            let attached = client.attach();
            if !matches!(attached, Ok(End::Detached { .. })) {
                // The monitor cleans up before it ends: who waits for it finds nothing left.
                let end = WaitId::PidFd(child.pidfd.as_fd());
                retry_on_intr(|| waitid(end.clone(), WaitIdOptions::EXITED))
                    .context("waiting for the monitor")?;
            }
            party.narration.map_or(Ok(()), Narration::pass_on)?;
            attached
        }
    }
}

/// The ends of the command's streams that are not the client's.
pub(super) struct Ends {
    pub(super) streams: runtime::Streams,
    /// Where the command's output comes out, if it goes through the monitor.
    pub(super) sources: Vec<(Stream, OwnedFd)>,
    /// Where it goes on to the client.
    pub(super) sinks: Vec<(Stream, OwnedFd)>,
    /// The other end of an input that is kept open for whoever attaches later.
    pub(super) input: Option<OwnedFd>,
}

fn supervise(job: Job<'_>, ends: Ends, channel: Channel) {
    let stop = job.container.record.stop.clone();
    let mut watch = Watch::new(channel, !job.session.detached, stop);
    let end = run_container(job, ends, &mut watch);
    watch.close_door();
    say_end(end, &mut watch);
}

/// Tells everyone how it ended, and what could not be written down of that.
pub(super) fn say_end(end: Result<(Outcome, Vec<String>)>, watch: &mut Watch) {
    let message = match end {
        Ok((outcome, notices)) => FromMonitor::Ended {
            status: outcome.status,
            out_of_memory: outcome.out_of_memory,
            is_overdue: outcome.is_overdue,
            notices,
        },
        Err(error) => match error.downcast::<StartError>() {
            Ok(error) => FromMonitor::NotStarted(error),
            Err(error) => FromMonitor::Failed(format!("{error:#}")),
        },
    };
    watch.tell(&message);
    // Nobody is left to be told that this failed.
    watch.hub.deliver().ok();
}

/// Returns how the container ended, and what could not be written down of it.
fn run_container(job: Job<'_>, ends: Ends, watch: &mut Watch) -> Result<(Outcome, Vec<String>)> {
    let (mut container, is_detached, sinks) = (job.container, job.session.detached, ends.sinks);
    leave_caller(&container)?;
    let connection = job.connection;
    // Until the container has ended.
    let mut connected = Connected::default();
    let started = open(&container, job.log, ends.sources, ends.input, watch)
        .and_then(|()| {
            let (plan, root, place) = (job.plan, job.root, &container.directory);
            let is_gated = connection.is_some();
            runtime::create(plan, root, place, job.privilege, ends.streams, is_gated)
        })
        .and_then(|created| {
            match connect_network(connection, &created, job.plan, &container) {
                Ok(made) => connected = made,
                Err(error) => {
                    // The first error is the one to tell.
                    created.abandon().ok();
                    return Err(error);
                }
            }
            created.start()
        });
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            // The first error is the one to tell.
            container.ended(None).ok();
            return Err(error);
        }
    };
    servants::protect();
    watch.deadline = job
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    container.record.networks = std::mem::take(&mut connected.networks);
    container.record.ports = std::mem::take(&mut connected.ports);
    watch.switch = connected.switch.take();
    container.record.holds_switch = watch.switch.is_some();
    let recorded = container.started(running.pid, running.start_time);
    // From here on others find it.
    connected.lock = None;
    // Nothing may run that is not recorded, nobody is told of it, and it ends at once, as one does whose client is dead.
    let told = recorded
        .as_ref()
        .is_ok_and(|()| connect(&mut running, sinks, is_detached, watch).is_ok());
    if !told {
        running.signal(libc::SIGKILL)?;
    }
    let outcome = watch_until_end(running, &mut connected, &mut container, watch)?;
    if let Err(error) = recorded {
        // The first error is the one to tell.
        container.ended(None).ok();
        return Err(error.context("recording that the container runs"));
    }
    let lost = keep_end(&mut container, watch, outcome);
    Ok((outcome, lost))
}

/// Returns how the container ended, once all in it has.
fn watch_until_end(
    running: Running,
    connected: &mut Connected,
    container: &mut Container,
    watch: &mut Watch,
) -> Result<Outcome> {
    let mut serving = Serving {
        connected,
        container: Some(container),
    };
    let is_overdue = watch.until_end(&running, &mut serving)?;
    // Or its links would stay until this process ends.
    connected.namespace = None;
    let (mut status, out_of_memory) = running.finish()?;
    if is_overdue {
        status = ExitStatus::Exited(OVERDUE);
    }
    Ok(Outcome {
        status,
        out_of_memory,
        is_overdue,
    })
}

/// Connects the new network namespace of a container that is to be connected, while its first process prepares the rest.
fn connect_network(
    connection: Option<Connection>,
    created: &Created,
    plan: &Plan,
    container: &Container,
) -> Result<Connected> {
    let Some(connection) = connection else {
        return Ok(Connected::default());
    };
    let (pid, namespace) = created.network()?;
    let place = runtime::servants_entrance(&plan.cgroups_path)?;
    connection.make(pid, namespace.into(), container, place.into())
}

/// Keeps how a container ended, and returns what of that could not be written down: neither an incomplete log nor a full disk
/// changes the end, which somebody waits to hear.
fn keep_end(container: &mut Container, watch: &mut Watch, outcome: Outcome) -> Vec<String> {
    let logged = watch.hub.end();
    let removed = container.record.auto_remove;
    let end = (outcome.status.code(), outcome.out_of_memory);
    let kept = container.ended(Some(end));
    tell(|| Step::CleanUp { removed });
    let kept = kept.context("keeping how the container ended");
    let lost = [logged, kept].into_iter().filter_map(Result::err);
    lost.map(|error| format!("{error:#}")).collect()
}

/// Begins a life of its own, before others are forked from this process, which stay as long.
fn leave_caller(container: &Container) -> Result<()> {
    // Away from the caller's terminal: a ^C there is the client's to pass on.
    rustix::process::setsid().context("starting a session")?;
    let (id, name) = (&container.record.id, &container.record.name);
    words::replace(&format!("ddock: monitor of {} ({name})", &id[..12]))
        .context("taking the caller's words away")
}

/// Opens the log and the door before anything runs, so that nothing it says is missed and everybody can reach it.
fn open(
    container: &Container,
    log: Option<Rotation>,
    sources: Vec<(Stream, OwnedFd)>,
    input: Option<OwnedFd>,
    watch: &mut Watch,
) -> Result<()> {
    let directory = &container.directory;
    if let Some(rotation) = log {
        watch.hub.keep(Writer::create(directory, rotation)?);
    }
    if container.record.has_started() {
        // The door of the monitor before.
        fs::remove_file(directory.join(DOOR)).ok();
    }
    watch.door = Some(Listener::bind(directory, DOOR).context("making the container's socket")?);
    for (stream, from) in sources {
        watch.hub.add_source(stream, from)?;
    }
    watch.input = input.map(|to| Input {
        to,
        is_terminal: false,
    });
    Ok(())
}

/// Connects the first client, and tells it that the command runs.
pub(super) fn connect(
    running: &mut Running,
    sinks: Vec<(Stream, OwnedFd)>,
    is_detached: bool,
    watch: &mut Watch,
) -> Result<()> {
    if let Some(to) = running.terminal.take() {
        watch.hub.add_source(Stream::Stdout, copy(to.as_fd())?)?;
        watch.input = Some(Input {
            to,
            is_terminal: true,
        });
    }
    watch.connect(sinks, !is_detached)?;
    let terminal = watch.input.as_ref().filter(|input| input.is_terminal);
    let message = FromMonitor::Started {
        notices: running.notices.clone(),
        is_terminal: terminal.is_some(),
    };
    if is_detached {
        // First: who hears that it runs may unmount at once what he was in.
        independent::become_independent()?;
    }
    let client = watch.clients.first().context("there is no client")?;
    Ok(client
        .channel
        .send(&message, terminal.map(|terminal| terminal.to.as_fd()))?)
}
