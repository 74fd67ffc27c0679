//! Starting a container: the parent's side, from the cgroup to a command that runs.

use crate::narration::{Step, tell};
use crate::runtime::cgroup::{self, Cgroup, Entrance, Unenforceable, View};
use crate::runtime::failure::StartError;
use crate::runtime::gate::Gate;
use crate::runtime::plan::Plan;
use crate::runtime::stat::executed;
use crate::runtime::{descendants, init, seen, told};
use crate::sys::clone::{Child, Clone, clone, end_child};
use crate::sys::message::Channel;
use crate::sys::processes;
use crate::sys::program::Protected;
use crate::sys::signal;
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the caller of the runtime is, and is allowed to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Privilege {
    /// A process of its is about to be the container's first.
    pub(crate) program: Protected,
    /// Root of a user namespace only: no device nodes, no raised limits.
    pub(crate) in_user_namespace: bool,
    /// Denied under a single mapping (`user_namespaces(7)`, `setgroups`).
    pub(crate) can_set_groups: bool,
}

/// The command's standard streams when it has no terminal, and what else is open for it.
#[derive(Debug)]
pub(crate) struct Streams {
    /// `None`: nothing to read.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) output: Option<(OwnedFd, OwnedFd)>,
    /// With the numbers that they have there, 3 and so on.
    pub(crate) handed: Vec<OwnedFd>,
}

/// What the container's first process tells while it prepares; the end of the channel is the exec.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Its new network namespace comes with it, as nobody else may look at it.
    Network,
    /// The terminal's master comes with it.
    Terminal,
    /// It is among another container's processes now, as a process of this PID, which comes with it.
    Joined {
        pid: u32,
    },
    Failed(StartError),
}

/// Connects the new network namespace of the first process, whose PID it gets too, while that prepares the rest.
pub(crate) type Connect<'a> = &'a mut dyn FnMut(u32, OwnedFd) -> Result<()>;

/// What the first process needs to confine itself.
#[derive(Debug)]
pub(crate) struct Confinement {
    entrance: Entrance,
    pub(crate) view: View,
    pub(crate) can_set_groups: bool,
    pub(crate) program: Protected,
}

/// A container whose command runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// Host PID of the container's PID 1.
    pub(crate) pid: u32,
    /// In clock ticks since boot: with the PID it names the process for good (proc(5), `starttime`).
    pub(crate) start_time: u64,
    /// The terminal's master, if the command has a terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// What the user should know of the limits.
    pub(crate) notices: Vec<String>,
    /// Where its cgroup is, as the spec says it.
    cgroups_path: PathBuf,
    pidfd: OwnedFd,
    cgroup: Cgroup,
    keeper: Keeper,
}

/// What ends the processes that the command leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// The kernel, with PID 1 of their PID namespace.
    Namespace,
    /// Whoever cleans up, by their cgroup.
    Cgroup,
    /// The process that started the container, as their ancestor: there is no cgroup.
    Ancestor,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExitStatus {
    Exited(u8),
    Signaled(i32),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exited with code {code}"),
            Self::Signaled(signal) => match Signal::from_named_raw(*signal) {
                Some(name) => write!(formatter, "was killed by signal {signal} ({name:?})"),
                None => write!(formatter, "was killed by signal {signal}"),
            },
        }
    }
}

impl ExitStatus {
    /// Returns the code that a shell would report: 128 + n for signal n.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// Starts the container of `plan` in `root`, and returns when its command was exec'ed.
///
/// `place` is any directory of the host; the container's own mount namespace attaches its root there.
/// Needs a process with one thread. What it started and made is gone again if it fails.
pub(crate) fn start(
    plan: &Plan,
    root: OwnedFd,
    place: &Path,
    privilege: Privilege,
    streams: Streams,
    connect: Option<Connect<'_>>,
) -> Result<Running> {
    processes::are_shown()?;
    let cgroup = Cgroup::create(&plan.cgroups_path, &plan.limits).map_err(refused)?;
    check_place(plan, &cgroup)?;
    tell(|| told::cgroup(&cgroup));
    let started = confine(plan, &cgroup, privilege)
        .and_then(|confinement| start_in(plan, &confinement, root, place, streams, connect));
    match started {
        Ok(started) => Ok(Running {
            pid: pid_of(&started.child),
            start_time: started.start_time,
            terminal: started.terminal,
            notices: cgroup.notices().to_vec(),
            cgroups_path: plan.cgroups_path.clone(),
            pidfd: started.child.pidfd,
            keeper: keeper(plan, &cgroup),
            cgroup,
        }),
        Err(error) => {
            // The first error is the one to tell.
            cgroup.remove(cgroup::REMOVAL).ok();
            Err(error)
        }
    }
}

/// The first process, which has become the command.
struct Started {
    child: Child,
    start_time: u64,
    terminal: Option<OwnedFd>,
}

fn pid_of(child: &Child) -> u32 {
    child.pid.as_raw_nonzero().get().cast_unsigned()
}

fn confine(plan: &Plan, cgroup: &Cgroup, privilege: Privilege) -> Result<Confinement> {
    let device_rules_hold =
        cgroup.guards_devices() || !cgroup::restricts_devices(&plan.limits.devices);
    ensure!(
        device_rules_hold || privilege.in_user_namespace,
        "devices cannot be kept from the container: there is no devices cgroup here, and no right to load a BPF program"
    );
    if keeper(plan, cgroup) == Keeper::Ancestor {
        descendants::adopt()?;
    }
    if seen::is_seen(plan) {
        seen::hide()?;
    }
    Ok(Confinement {
        entrance: cgroup.entrance()?,
        view: cgroup.view(),
        can_set_groups: privilege.can_set_groups,
        program: privilege.program,
    })
}

fn start_in(
    plan: &Plan,
    confinement: &Confinement,
    root: OwnedFd,
    place: &Path,
    streams: Streams,
    connect: Option<Connect<'_>>,
) -> Result<Started> {
    let (ours, childs) = Channel::pair().context("making a channel to the container")?;
    let gate = connect.as_ref().map(|_| Gate::new()).transpose()?;
    let (namespaces, cgroup) = confinement.clone_into(plan.namespaces);
    match clone(namespaces, cgroup)? {
        Clone::Child => {
            drop(ours);
            if gate.is_some() {
                seen::hand_over_network(&childs);
            }
            let error = init::run(plan, root, place, confinement, streams, &childs, gate);
            // If the parent is gone, nobody is left to be told.
            childs.send(&Report::Failed(error), None).ok();
            end_child(125)
        }
        Clone::Parent(mut child) => {
            drop((childs, root, streams));
            let connected = match (connect, gate) {
                (Some(connect), Some(gate)) => seen::network_of(&ours)
                    .and_then(|network| connect(pid_of(&child), network))
                    .map(|()| gate.open()),
                _ => Ok(()),
            };
            let started = connected
                .and_then(|()| await_exec(&ours, &mut child))
                .and_then(|terminal| Ok((terminal, executed(pid_of(&child))?)));
            match started {
                Ok((terminal, start_time)) => Ok(Started {
                    child,
                    start_time,
                    terminal,
                }),
                Err(error) => {
                    // It reported and ends, or it died; make sure, so that nothing is left.
                    pidfd_send_signal(&child.pidfd, Signal::KILL).ok();
                    wait(child.pidfd.as_fd())?;
                    Err(error)
                }
            }
        }
    }
}

fn keeper(plan: &Plan, cgroup: &Cgroup) -> Keeper {
    if plan.namespaces.contains(CloneFlags::CLONE_NEWPID) {
        Keeper::Namespace
    } else if cgroup.is_empty() {
        Keeper::Ancestor
    } else {
        Keeper::Cgroup
    }
}

/// Refuses to go on without a cgroup if the container was to be in one that has limits of its own, maybe. Which one is ours is
/// no wish of anybody's.
fn check_place(plan: &Plan, cgroup: &Cgroup) -> Result<()> {
    let parent = plan.cgroups_path.parent().unwrap_or(Path::new(""));
    if !cgroup.is_empty() || parent.ends_with("ddock") && parent.components().count() <= 2 {
        return Ok(());
    }
    Err(StartError::Unenforceable {
        message: format!(
            "cannot put the container into the cgroup `{}`: nothing can be made there",
            parent.display()
        ),
        cure: Some(cgroup::NO_RIGHTS.to_owned()),
    }
    .into())
}

/// A limit that cannot be enforced is told as such, with what to do about it.
fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Unenforceable>() {
        Ok(refusal) => StartError::Unenforceable {
            message: refusal.to_string(),
            cure: refusal.cure.map(str::to_owned),
        }
        .into(),
        Err(error) => error.context("limiting the container"),
    }
}

/// Returns the terminal's master, if there is one. `child` is the one that becomes the command.
fn await_exec(channel: &Channel, child: &mut Child) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        match channel.receive().context("hearing from the container")? {
            Some((Report::Terminal, master)) => terminal = master,
            Some((Report::Network, _)) => {}
            Some((Report::Joined { pid }, pidfd)) => {
                wait(child.pidfd.as_fd())?;
                *child = seen::successor(pid, pidfd)?;
            }
            Some((Report::Failed(error), _)) => return Err(error.into()),
            None => return Ok(terminal),
        }
    }
}

impl Confinement {
    /// On v2 one call makes the cgroup and its namespace right; on v1 the first process does both itself.
    fn clone_into(&self, namespaces: CloneFlags) -> (CloneFlags, Option<BorrowedFd<'_>>) {
        match &self.entrance {
            Entrance::Directory(directory) => (namespaces, Some(directory.as_fd())),
            Entrance::Tasks(_) => (namespaces - CloneFlags::CLONE_NEWCGROUP, None),
        }
    }

    /// Enters the cgroup, if the clone did not, and then a cgroup namespace that has it as its root.
    pub(crate) fn enter(&self, namespaces: CloneFlags) -> Result<()> {
        if let Entrance::Tasks(_) = &self.entrance {
            self.entrance.enter().context("entering the cgroup")?;
            if namespaces.contains(CloneFlags::CLONE_NEWCGROUP) {
                unshare(CloneFlags::CLONE_NEWCGROUP).context("making a cgroup namespace")?;
            }
        }
        Ok(())
    }
}

impl Running {
    /// Returns a descriptor that becomes readable when the command has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends the command signal `number`; that it has ended already is no error.
    pub(crate) fn signal(&self, number: i32) -> Result<()> {
        signal::send(self.pidfd.as_fd(), number).with_context(|| format!("sending signal {number}"))
    }

    /// Reaps processes of the container that this process has become the parent of, if it adopts any.
    pub(crate) fn reap_orphans(&self) -> Result<()> {
        let command = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match (self.keeper, command) {
            (Keeper::Ancestor, Some(command)) => descendants::reap(command),
            _ => Ok(()),
        }
    }

    /// Waits for the command to end, then ends whatever else ran in the container and removes its cgroup.
    ///
    /// Returns also whether the kernel killed a process because the memory limit was reached.
    pub(crate) fn finish(self) -> Result<(ExitStatus, bool)> {
        let status = wait(self.pidfd.as_fd())?;
        match self.keeper {
            Keeper::Namespace => {}
            Keeper::Cgroup => self.cgroup.kill(cgroup::DEATH)?,
            Keeper::Ancestor => descendants::kill()?,
        }
        let out_of_memory = self.cgroup.oom_killed();
        tell(|| Step::End {
            status: status.to_string(),
            out_of_memory,
            usage: self.cgroup.usage(),
        });
        // With a PID namespace of its own everything died with PID 1: then this finds nothing.
        if self.cgroup.remove(cgroup::REMOVAL).is_err() {
            remove_cgroup(&self.cgroups_path, cgroup::DEATH)?;
        }
        Ok((status, out_of_memory))
    }
}

/// Ends whatever still runs in the cgroup of a container within `patience`, and removes it; nothing there is no error.
///
/// `path` is the spec's `cgroupsPath`.
pub(crate) fn remove_cgroup(path: &Path, patience: Duration) -> Result<()> {
    let left = Cgroup::open(path)?;
    left.kill(patience)?;
    left.remove(patience)
}

/// Opens the way into where processes that serve a container are counted; `path` is the spec's `cgroupsPath`.
pub(crate) fn servants_entrance(path: &Path) -> Result<Vec<OwnedFd>> {
    Cgroup::open(path)?.servants_entrance()
}

fn wait(pidfd: BorrowedFd<'_>) -> Result<ExitStatus> {
    let status = retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))
        .context("waiting for the container")?
        .context("waiting for the container returned nothing")?;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(ExitStatus::Exited(u8::try_from(code & 0xff)?)),
        (_, Some(signal)) => Ok(ExitStatus::Signaled(signal)),
        _ => bail!("the container neither exited nor was it killed"),
    }
}
