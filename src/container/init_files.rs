//! The files that programs look for in every container and that images lack: those of Docker's init layer.
//!
//! Where Docker makes places to mount on, too, those are made when something is mounted there.

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Tells programs that they are in a container.
const MARK: &str = ".dockerenv";

/// Makes them below `root` where nothing has their names. No symlink is followed: an image's may lead anywhere.
pub(crate) fn make(root: BorrowedFd<'_>) -> Result<()> {
    make_mark(root)?;
    make_mtab(root)
}

fn make_mark(root: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(root, MARK, flags, Mode::from_raw_mode(0o755)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("making `/{MARK}`")),
    }
}

fn make_mtab(root: BorrowedFd<'_>) -> Result<()> {
    let context = || "making `/etc/mtab`";
    let etc = match open_etc(root) {
        Err(Errno::NOENT) => {
            mkdirat(root, "etc", Mode::from_raw_mode(0o755)).with_context(context)?;
            open_etc(root)
        }
        other => other,
    };
    let etc = match etc {
        // A symlink, or no directory at all.
        Err(Errno::LOOP | Errno::NOTDIR) => return Ok(()),
        other => other.with_context(context)?,
    };
    match symlinkat("/proc/mounts", &etc, "mtab") {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(context),
    }
}

fn open_etc(root: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(root, "etc", flags, Mode::empty())
}
