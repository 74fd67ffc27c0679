//! `/sys/fs/cgroup` as the container sees it: its own cgroups, read-only.

use crate::runtime::cgroup::View;
use crate::runtime::target::{Kind, Root};
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount_remount};
use std::ffi::CString;
use std::path::Path;

const PLACE: &str = "/sys/fs/cgroup";

/// Mounts what `view` lists; nothing if the container has no cgroup.
///
/// `/sys` is a new mount of the kernel's, so these paths cannot be the image's.
pub(crate) fn mount(view: &View, root: Root<'_>) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for wanted in &view.mounts {
        let place = if wanted.name.is_empty() {
            PLACE.to_owned()
        } else {
            let place = format!("{PLACE}/{}", wanted.name);
            root.create(Path::new(&place), Kind::Directory)?;
            place
        };
        let options: Vec<_> = wanted
            .options
            .iter()
            .map(|(name, value)| {
                value.map_or_else(|| name.clone(), |value| format!("{name}={value}"))
            })
            .collect();
        // A tmpfs is filled first and made read-only when all is in it.
        let read_only = if wanted.fs_type == "tmpfs" {
            MountFlags::empty()
        } else {
            MountFlags::RDONLY
        };
        let data = CString::new(options.join(","))?;
        rustix::mount::mount(
            wanted.fs_type,
            place.as_str(),
            wanted.fs_type,
            flags | read_only,
            Some(data.as_c_str()),
        )
        .with_context(|| format!("mounting `{place}`"))?;
    }
    for (name, target) in &view.symlinks {
        let link = format!("{PLACE}/{name}");
        rustix::fs::symlink(target.as_str(), link.as_str())
            .with_context(|| format!("making `{link}`"))?;
    }
    if view
        .mounts
        .first()
        .is_some_and(|first| first.fs_type == "tmpfs")
    {
        let flags = flags | MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(PLACE, flags, c"").with_context(|| format!("making `{PLACE}` read-only"))?;
    }
    Ok(())
}
