//! A first process that others see: it hides from the processes whose PID namespace it shares while it is still ddock, and
//! is not among those of another container before it has nothing left but what the command has.

use crate::runtime::plan::Plan;
use crate::runtime::start::Report;
use crate::runtime::{init, terminal};
use crate::sys::clone::{Child, Clone, end_child, succeed};
use crate::sys::message::Channel;
use crate::sys::program;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use nix::sched::CloneFlags;
use rustix::process::{Pid, setsid};
use std::os::fd::{AsFd, OwnedFd};

/// The network namespace of the process that looks.
const OWN_NETWORK: &str = "/proc/self/ns/net";

/// Tells whether other processes than the container's see the first one, while it is still ddock.
pub(super) fn is_seen(plan: &Plan) -> bool {
    !plan.namespaces.contains(CloneFlags::CLONE_NEWPID)
}

/// Sees to it that processes with no more rights than the container's find no way through `/proc` into this one and the
/// first process while that is still ddock.
pub(super) fn hide() -> Result<()> {
    // Inherited by the clone, and undone by the exec.
    program::hide().context("hiding from other processes")
}

/// Takes a place among the processes of another container, if `plan` joins it: returns in a process that is there and takes
/// the place of this one, which ends.
///
/// Last of all, because hiding is no help against those who may trace others (`CAP_SYS_PTRACE`): they would find the host's
/// root in `/proc/PID/root`, and all of root's rights in what they trace.
pub(super) fn appear(plan: &Plan, parent: &Channel) -> Result<()> {
    if plan.joined_processes().is_none() {
        return Ok(());
    }
    match succeed()? {
        Clone::Parent(child) => {
            let pid = child.pid.as_raw_nonzero().get().cast_unsigned();
            let told = parent.send(&Report::Joined { pid }, Some(child.pidfd.as_fd()));
            end_child(u8::from(told.is_err()))
        }
        Clone::Child => {
            setsid().context("starting a session")?;
            if plan.process.terminal.is_some() {
                terminal::control()?;
            }
            init::end_with(parent)
        }
    }
}

/// Returns what took the place of the first process, as that told it.
pub(super) fn successor(pid: u32, pidfd: Option<OwnedFd>) -> Result<Child> {
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
