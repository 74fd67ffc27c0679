//! A first process that others see: it hides from the processes whose PID namespace it shares while it is still ddock, and
//! is not among those of another container before it has nothing left but what the command has.

use crate::runtime::handshake::{Report, end_with};
use crate::runtime::plan::Plan;
use crate::runtime::terminal;
use crate::sys::clone::{Clone, end_child, succeed};
use crate::sys::message::Channel;
use crate::sys::program;
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use rustix::process::setsid;
use std::os::fd::AsFd;

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

/// Takes a place among the processes of the PID namespace that this process entered: returns in a process that is there and
/// takes the place of this one, which ends.
///
/// Last of all, because hiding is no help against those who may trace others (`CAP_SYS_PTRACE`): they would find the host's
/// root in `/proc/PID/root`, and all of root's rights in what they trace.
pub(super) fn appear(has_terminal: bool, parent: &Channel) -> Result<()> {
    match succeed()? {
        Clone::Parent(child) => {
            let pid = child.pid.as_raw_nonzero().get().cast_unsigned();
            let told = parent.send(&Report::Joined { pid }, Some(child.pidfd.as_fd()));
            end_child(u8::from(told.is_err()))
        }
        Clone::Child => {
            setsid().context("starting a session")?;
            if has_terminal {
                terminal::control()?;
            }
            end_with(parent)
        }
    }
}
