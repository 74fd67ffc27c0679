//! Who the command runs as: groups, IDs and capabilities.

use crate::runtime::plan::{CapabilityPlan, Command};
use anyhow::{Context, Result};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Lowers the capabilities that execve(2) may ever give to `bounding`.
///
/// Needs `CAP_SETPCAP`, so it comes before the IDs change.
pub(crate) fn bound(bounding: CapabilitySet) -> Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if bounding.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel has no capability of this number, nor of a higher one.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.context("removing a capability from the bounding set")?,
        }
    }
    Ok(())
}

/// Takes the command's user and groups; `setgroups` is denied under a single mapping.
///
/// The capabilities stay as they are until [`restrict`]: to load a seccomp filter in between needs `CAP_SYS_ADMIN`.
pub(crate) fn assume(command: &Command, can_set_groups: bool) -> Result<()> {
    if can_set_groups {
        let groups: Vec<_> = command.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups).context("setting the supplementary groups")?;
    }
    let (uid, gid) = (Uid::from_raw(command.uid), Gid::from_raw(command.gid));
    set_thread_res_gid(gid, gid, gid).with_context(|| format!("becoming group {}", command.gid))?;
    let become_user = || {
        set_thread_res_uid(uid, uid, uid).with_context(|| format!("becoming user {}", command.uid))
    };
    if command.uid == 0 {
        become_user()?;
    } else {
        // Leaving root would drop them (capabilities(7), "Effect of user ID changes"). The exec ends the exception.
        let own = capabilities(None).context("reading the capabilities")?;
        set_keep_capabilities(true).context("keeping the capabilities")?;
        become_user()?;
        set_capabilities(None, own).context("keeping the capabilities")?;
    }
    if command.no_new_privileges {
        set_no_new_privs(true).context("setting no_new_privs")?;
    }
    Ok(())
}

/// Gives away all capabilities but the command's.
pub(crate) fn restrict(command: &Command) -> Result<()> {
    set_sets(&command.capabilities).context("setting the capabilities")
}

fn set_sets(plan: &CapabilityPlan) -> rustix::io::Result<()> {
    let sets = CapabilitySets {
        effective: plan.effective,
        permitted: plan.permitted,
        inheritable: plan.inheritable,
    };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    for capability in plan.ambient.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
