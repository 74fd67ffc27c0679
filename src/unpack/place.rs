//! One name in one open directory, and what is done to it without following it.

use crate::unpack::tree::{Handle, Metadata};
use anyhow::{Context, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use std::rc::Rc;

/// Where an entry goes: an open directory, and a name in it.
pub(crate) struct Place<'a> {
    pub(crate) parent: Rc<Handle>,
    pub(crate) name: &'a [u8],
}

impl Place<'_> {
    /// Opens the directory here; an empty name is the root itself.
    pub(crate) fn open_directory(&self) -> Result<OwnedFd> {
        let name = if self.name.is_empty() {
            b"."
        } else {
            self.name
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.parent.fd, name, flags, Mode::empty()).context("opening it")
    }

    pub(crate) fn set_times(&self, metadata: Metadata) -> Result<()> {
        let (parent, name) = (&self.parent.fd, self.name);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(parent, name, &timestamps(metadata), flags)
            .context("setting its times")
    }

    /// Sets the mode of what is no directory and cannot be opened. Before Linux 6.6 and fchmodat2(2), only
    /// its name in /proc does that without following a symbolic link.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.parent.fd, self.name, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::chmod(path, Mode::from_raw_mode(mode)).context("setting its mode")
    }

    /// Whether anything stands here.
    pub(crate) fn is_there(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statat(&self.parent.fd, self.name, flags).is_ok()
    }

    /// Whether both are names of one file. What cannot be seen is not the same.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        let identity = |place: &Self| {
            let (parent, name) = (&place.parent.fd, place.name);
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.map(|stat| (stat.st_dev, stat.st_ino))
        };
        matches!((identity(self), identity(other)), (Ok(one), Ok(two)) if one == two)
    }
}

/// Access time is set as well, so that a layer is the same whenever it is unpacked.
pub(crate) fn timestamps(metadata: Metadata) -> Timestamps {
    let time = Timespec {
        tv_sec: metadata.mtime.seconds,
        tv_nsec: metadata.mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
