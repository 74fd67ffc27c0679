//! Paths of the kernel's that a container is not to see, or not to change.

use crate::runtime::mounts::{attributes, clone_of, move_here, new_mount};
use crate::runtime::target::Root;
use crate::sys::kernel::{MountAttributes, mount_setattr};
use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, fstat, makedev};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What lies over masked paths: the container's null device, and one empty directory for all.
pub(crate) struct Covers {
    null: OwnedFd,
    /// Mounted on the first directory that is masked.
    empty: Option<OwnedFd>,
}

impl Covers {
    /// Opens the null device, and makes sure that it is that (CVE-2025-31133).
    pub(crate) fn open(root: Root<'_>) -> Result<Self> {
        let null = root
            .open(Path::new("/dev/null"))
            .context("opening `/dev/null`")?;
        let stat = fstat(&null)?;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        ensure!(
            is_device && stat.st_rdev == makedev(1, 3),
            "`/dev/null` in the container is not the null device"
        );
        Ok(Self { null, empty: None })
    }

    /// Hides `path` from the container: files behind `/dev/null`, directories behind an empty one.
    pub(crate) fn mask(&mut self, path: &Path, root: Root<'_>) -> Result<()> {
        let context = || format!("masking `{}`", path.display());
        let place = match root.open(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.with_context(context)?,
        };
        let is_directory = FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory;
        let cover = match (is_directory, &self.empty) {
            (false, _) => clone_of(self.null.as_fd(), false).with_context(context)?,
            (true, Some(empty)) => clone_of(empty.as_fd(), false).with_context(context)?,
            (true, None) => {
                let options = [("size", Some("0k"))];
                new_mount("tmpfs", Path::new("tmpfs"), options, HIDDEN).with_context(context)?
            }
        };
        move_here(cover.as_fd(), place.as_fd()).with_context(context)?;
        if is_directory {
            // Only what is attached can be cloned (open_tree(2), before Linux 6.15).
            self.empty.get_or_insert(cover);
        }
        Ok(())
    }
}

/// What a place can do that only hides something, or must not be changed.
const HIDDEN: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Makes `path` read-only for the container.
pub(crate) fn protect(path: &Path, root: Root<'_>) -> Result<()> {
    let context = || format!("making `{}` read-only", path.display());
    let place = match root.open(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.with_context(context)?,
    };
    let copy = clone_of(place.as_fd(), true).with_context(context)?;
    let change = MountAttributes {
        set: attributes(HIDDEN),
        ..MountAttributes::default()
    };
    mount_setattr(copy.as_fd(), false, change).with_context(context)?;
    move_here(copy.as_fd(), place.as_fd()).with_context(context)
}
