//! Making a container, and starting it: the parent's side, from the cgroup to a command that runs.

use crate::narration::tell;
use crate::runtime::cgroup::{self, Cgroup, Unenforceable};
use crate::runtime::failure::StartError;
use crate::runtime::gate::Gate;
use crate::runtime::handshake::{Confinement, Pending, Streams, hand_over_network, network_of};
use crate::runtime::plan::Plan;
use crate::runtime::running::{Keeper, Remains, Running};
use crate::runtime::{descendants, init, seen, told};
use crate::sys::clone::{Clone, clone};
use crate::sys::message::Channel;
use crate::sys::processes;
use crate::sys::program::Protected;
use anyhow::{Context, Result, ensure};
use nix::sched::CloneFlags;
use std::os::fd::OwnedFd;
use std::path::Path;

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

/// A container that is made, or is just being made by its first process, and waits at its gate.
///
/// It is to be started or abandoned: its first process waits until then, or until this process ends.
#[derive(Debug)]
pub(crate) struct Created {
    first: Pending,
    /// Shut until the container is as it is to be from outside; none if there is nothing to wait for.
    gate: Option<Gate>,
    notices: Vec<String>,
    remains: Remains,
}

/// Makes the container of `plan` in `root`: cgroup, namespaces, and a first process that prepares the rest by itself.
///
/// `place` is any directory of the host; the container's own mount namespace attaches its root there. With `is_gated` the
/// command does not run before [`Created::start`], and its network can be had before.
/// Needs a process with one thread. What it started and made is gone again if it fails.
pub(crate) fn create(
    plan: &Plan,
    root: OwnedFd,
    place: &Path,
    privilege: Privilege,
    streams: Streams,
    is_gated: bool,
) -> Result<Created> {
    processes::are_shown()?;
    let cgroup = Cgroup::create(&plan.cgroups_path, &plan.limits).map_err(refused)?;
    check_place(plan, &cgroup)?;
    tell(|| told::cgroup(&cgroup));
    let gate = is_gated.then(Gate::new).transpose();
    let created = gate.and_then(|gate| {
        let confinement = confine(plan, &cgroup, privilege)?;
        clone_first(plan, &confinement, (root, place), streams, gate)
    });
    match created {
        Ok((first, gate)) => Ok(Created {
            first,
            gate,
            notices: cgroup.notices().to_vec(),
            remains: Remains {
                cgroups_path: plan.cgroups_path.clone(),
                keeper: keeper(plan, &cgroup),
                cgroup,
            },
        }),
        Err(error) => {
            // The first error is the one to tell.
            cgroup.remove(cgroup::REMOVAL).ok();
            Err(error)
        }
    }
}

impl Created {
    /// Returns the PID of the first process, and its new network namespace, as it hands that over.
    pub(crate) fn network(&self) -> Result<(u32, OwnedFd)> {
        Ok((self.first.pid(), network_of(&self.first.channel)?))
    }

    /// Opens the gate, and returns when the command was exec'ed. Nothing is left if it fails.
    pub(crate) fn start(self) -> Result<Running> {
        if let Some(gate) = self.gate {
            gate.open();
        }
        match self.first.executed() {
            Ok(executed) => Ok(executed.run(self.notices, Some(self.remains))),
            Err(error) => {
                // The first error is the one to tell.
                self.remains.cgroup.remove(cgroup::REMOVAL).ok();
                Err(error)
            }
        }
    }

    /// Ends the first process, which became no command, and removes what was made.
    pub(crate) fn abandon(self) -> Result<()> {
        self.first.end()?;
        self.remains.cgroup.remove(cgroup::REMOVAL)
    }
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

/// Clones the first process; the gate is its parent's again.
fn clone_first(
    plan: &Plan,
    confinement: &Confinement,
    (root, place): (OwnedFd, &Path),
    streams: Streams,
    gate: Option<Gate>,
) -> Result<(Pending, Option<Gate>)> {
    let (ours, childs) = Channel::pair().context("making a channel to the container")?;
    let (namespaces, cgroup) = confinement.clone_into(plan.namespaces);
    match clone(namespaces, cgroup)? {
        Clone::Child => {
            drop(ours);
            if gate.is_some() {
                hand_over_network(&childs);
            }
            init::run(plan, root, place, confinement, streams, &childs, gate)
        }
        Clone::Parent(child) => Ok((
            Pending {
                child,
                channel: ours,
            },
            gate,
        )),
    }
}

/// Returns what ends the processes that the command leaves behind.
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
