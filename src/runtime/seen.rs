//! A first process that others see: while it is still ddock it hides from the processes whose PID namespace it shares.

use crate::runtime::join::Namespace;
use crate::runtime::plan::Plan;
use crate::runtime::start::Report;
use crate::sys::message::Channel;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use nix::sched::CloneFlags;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::os::fd::{AsFd, OwnedFd};

/// The network namespace of the process that looks.
const OWN_NETWORK: &str = "/proc/self/ns/net";

/// Tells whether other processes than the container's see the first one, while it is still ddock.
pub(super) fn is_seen(plan: &Plan) -> bool {
    !plan.namespaces.contains(CloneFlags::CLONE_NEWPID)
}

/// Enters the PID namespace that the plan joins, if it does, and sees to it that the processes there find no way through
/// `/proc` into the first process while it is still ddock, nor to the host's file of its program (CVE-2019-5736).
pub(super) fn hide(plan: &Plan) -> Result<()> {
    // Inherited by the clone, and undone by the exec.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("hiding from other processes")?;
    let mut joined = plan.joined.iter();
    let pid = joined.find(|namespace| namespace.kind == CloneFlags::CLONE_NEWPID);
    pid.map_or(Ok(()), Namespace::enter)
}

/// Hands the network namespace of this process to its parent.
pub(super) fn hand_over_network(parent: &Channel) {
    if let Ok(network) = fs::File::open(OWN_NETWORK) {
        let file = network.into_file();
        // A parent that is gone needs none; one that got none says so.
        parent.send(&Report::Network, Some(file.as_fd())).ok();
    }
}

/// Returns the network namespace of the first process. One that hides from others has to hand it over: an ordinary user's
/// monitor is one of these, too.
pub(super) fn network_of(pid: u32, plan: &Plan, channel: &Channel) -> Result<OwnedFd> {
    if !is_seen(plan) {
        let network = fs::File::open(format!("/proc/{pid}/ns/net"))?;
        return Ok(network.into_file().into());
    }
    match channel.receive().context("hearing from the container")? {
        Some((Report::Network, Some(network))) => Ok(network),
        Some((Report::Failed(error), _)) => Err(error.into()),
        _ => bail!("the container's first process has no network"),
    }
}
