//! `/sys/fs/cgroup` as the container sees it: its own cgroups.

use crate::runtime::cgroup::View;
use crate::runtime::mounts::{move_here, new_mount};
use crate::runtime::target::Root;
use crate::sys::kernel::{MountAttributes, mount_setattr};
use anyhow::{Context, Result};
use nix::libc;
use rustix::mount::MountFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const PLACE: &str = "/sys/fs/cgroup";

/// Mounts what `view` lists, with `flags`; nothing if the container has no cgroup.
pub(crate) fn mount(view: &View, flags: MountFlags, root: Root<'_>) -> Result<()> {
    let mut top: Option<OwnedFd> = None;
    for wanted in &view.mounts {
        let place = Path::new(PLACE).join(&wanted.name);
        let context = || format!("mounting `{}`", place.display());
        // A tmpfs is filled first and made read-only when all is in it.
        let flags = if wanted.fs_type == "tmpfs" {
            flags - MountFlags::RDONLY
        } else {
            flags
        };
        let options = wanted.options.iter();
        let options = options.map(|(name, value)| (name.as_str(), *value));
        let new = new_mount(wanted.fs_type, Path::new(wanted.fs_type), options, flags)
            .with_context(context)?;
        let place = root.plain_directory(&place)?;
        move_here(new.as_fd(), place.as_fd()).with_context(context)?;
        top.get_or_insert(new);
    }
    let Some(top) = top else { return Ok(()) };
    for (name, target) in &view.symlinks {
        rustix::fs::symlinkat(target.as_str(), &top, name.as_str())
            .with_context(|| format!("making `{PLACE}/{name}`"))?;
    }
    if !flags.contains(MountFlags::RDONLY) {
        return Ok(());
    }
    let change = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    mount_setattr(top.as_fd(), false, change).with_context(|| format!("making `{PLACE}` read-only"))
}
