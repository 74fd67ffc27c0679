//! What the parent and the first process of a container have in common, and what they say to each other.

use crate::runtime::cgroup::{Entrance, View};
use crate::runtime::failure::StartError;
use crate::runtime::running::{Remains, Running};
use crate::runtime::stat::executed;
use crate::runtime::status::wait;
use crate::sys::clone::Child;
use crate::sys::message::Channel;
use crate::sys::program::Protected;
use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, Signal, getppid, pidfd_send_signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The network namespace of the process that looks.
const OWN_NETWORK: &str = "/proc/self/ns/net";

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

/// What the first process needs to confine itself.
#[derive(Debug)]
pub(crate) struct Confinement {
    pub(super) entrance: Entrance,
    pub(crate) view: View,
    pub(crate) can_set_groups: bool,
    pub(crate) program: Protected,
}

impl Confinement {
    /// On v2 one call makes the cgroup and its namespace right; on v1 the first process does both itself.
    pub(super) fn clone_into(
        &self,
        namespaces: CloneFlags,
    ) -> (CloneFlags, Option<BorrowedFd<'_>>) {
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

/// A process that is to become a command, as its parent holds it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) child: Child,
    pub(super) channel: Channel,
}

/// One that did.
pub(super) struct Executed {
    child: Child,
    start_time: u64,
    terminal: Option<OwnedFd>,
}

impl Pending {
    pub(super) fn pid(&self) -> u32 {
        pid_of(&self.child)
    }

    /// Waits until it has become the command. If it could not, it has ended when this returns.
    pub(super) fn executed(mut self) -> Result<Executed> {
        let executed = self
            .await_exec()
            .and_then(|terminal| Ok((terminal, executed(self.pid())?)));
        match executed {
            Ok((terminal, start_time)) => Ok(Executed {
                child: self.child,
                start_time,
                terminal,
            }),
            Err(error) => {
                // It reported and ends, or it died; make sure, so that nothing is left.
                self.end()?;
                Err(error)
            }
        }
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<()> {
        // One that has ended already is what is wanted.
        pidfd_send_signal(&self.child.pidfd, Signal::KILL).ok();
        wait(self.child.pidfd.as_fd()).map(drop)
    }

    /// Returns the terminal's master, if there is one.
    fn await_exec(&mut self) -> Result<Option<OwnedFd>> {
        let mut terminal = None;
        loop {
            let heard = self.channel.receive();
            match heard.context("hearing from the container")? {
                Some((Report::Terminal, master)) => terminal = master,
                Some((Report::Network, _)) => {}
                Some((Report::Joined { pid }, pidfd)) => {
                    wait(self.child.pidfd.as_fd())?;
                    self.child = successor(pid, pidfd)?;
                }
                Some((Report::Failed(error), _)) => return Err(error.into()),
                None => return Ok(terminal),
            }
        }
    }
}

impl Executed {
    /// Returns the command that runs; `remains` is what of its container goes with it.
    pub(super) fn run(self, notices: Vec<String>, remains: Option<Remains>) -> Running {
        Running {
            pid: pid_of(&self.child),
            start_time: self.start_time,
            terminal: self.terminal,
            notices,
            pidfd: self.child.pidfd,
            remains,
        }
    }
}

fn pid_of(child: &Child) -> u32 {
    child.pid.as_raw_nonzero().get().cast_unsigned()
}

/// Returns what took the place of the first process, as that told it.
fn successor(pid: u32, pidfd: Option<OwnedFd>) -> Result<Child> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let child = pid.zip(pidfd).map(|(pid, pidfd)| Child { pid, pidfd });
    child.context("the container's first process is lost")
}

/// Hands the network namespace of this process to its parent.
pub(super) fn hand_over_network(parent: &Channel) {
    if let Ok(network) = fs::File::open(OWN_NETWORK) {
        let file = network.into_file();
        // A parent that is gone needs none; one that got none says so.
        parent.send(&Report::Network, Some(file.as_fd())).ok();
    }
}

/// Returns the network namespace of the first process, as it hands it over: by its number another's could be meant, and
/// nobody may look at a process that hides from others.
pub(super) fn network_of(channel: &Channel) -> Result<OwnedFd> {
    match channel.receive().context("hearing from the container")? {
        Some((Report::Network, Some(network))) => Ok(network),
        Some((Report::Failed(error), _)) => Err(error.into()),
        _ => bail!("the container's first process has no network"),
    }
}

/// Sees to it that this process ends with its parent, the monitor. If that died before, nobody waits for this one.
pub(super) fn end_with(parent: &Channel) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("asking to end with the monitor")?;
    ensure!(!is_orphan(parent), "the monitor died");
    Ok(())
}

/// Outside of a new PID namespace a dead parent's children are taken by another process; inside it
/// the parent is always 0, so the channel tells.
fn is_orphan(parent: &Channel) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ends = [PollFd::new(parent, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let hung_up = poll(&mut ends, Some(&now)).is_ok_and(|ready| ready > 0)
        && ends[0].revents().contains(PollFlags::HUP);
    hung_up || getppid().is_some_and(Pid::is_init)
}
