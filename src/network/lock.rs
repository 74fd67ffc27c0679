//! The lock of everything that is made for networks in a network namespace: on a file that nobody else can open.
//!
//! One on the namespace itself could be had by whoever is in it, a container of the host's network among them. Two stores
//! with one network namespace share the lock, as they share the links. It is taken before the store's, never after.

use crate::sys::lock;
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where root's are; it goes when the host starts anew, as links do.
const PLACE: &str = "/run/ddock";

pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] fs::File);

impl Lock {
    /// Waits until nobody else changes networks in this network namespace.
    pub(crate) fn take() -> Result<Self> {
        let namespace = rustix::fs::stat("/proc/thread-self/ns/net")
            .context("looking at `/proc/thread-self/ns/net`")?;
        let path = place()?.join(format!("networks-{}", namespace.st_ino));
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.mode(0o600).custom_flags(flags);
        let file = options.open(&path)?;
        lock::exclusive(&file, "the lock of the host's networks")?;
        Ok(Self(file))
    }
}

/// Returns the directory of locks: root's own, or that of the session of who is root in a user namespace only.
fn place() -> Result<PathBuf> {
    let own = private(Path::new(PLACE));
    let Err(error) = own else {
        return Ok(PLACE.into());
    };
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(|it| PathBuf::from(it).join("ddock"));
    match session {
        Some(path) if path.is_absolute() && private(&path).is_ok() => Ok(path),
        // The first error is the one to tell.
        _ => Err(error),
    }
}

/// Makes a directory if it is not there, and refuses one that somebody else may enter.
fn private(path: &Path) -> Result<()> {
    // Not fs_err's: the directory must be closed to others from the first moment on.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating directory `{}`", path.display()))?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty());
    let directory = directory.with_context(|| format!("opening `{}`", path.display()))?;
    let status = rustix::fs::fstat(&directory)?;
    let is_own = status.st_uid == rustix::process::geteuid().as_raw();
    let others = Mode::RWXG | Mode::RWXO;
    ensure!(
        is_own && !Mode::from_raw_mode(status.st_mode).intersects(others),
        "`{}` is to be yours and mode 0700: others could hold the locks there",
        path.display()
    );
    Ok(())
}
