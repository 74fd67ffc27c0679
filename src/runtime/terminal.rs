//! The container's terminal: a PTY in its own devpts.

use crate::runtime::mounts;
use crate::runtime::target::{Kind, Root};
use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Uid, fchown, fstatfs, openat2};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `f_type` of a devpts (linux/magic.h).
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Both ends of a PTY.
pub(crate) struct Terminal {
    /// For who holds the container.
    pub(crate) master: OwnedFd,
    /// For the command.
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    /// Opens a PTY in the container's devpts, sized before anyone looks.
    pub(crate) fn open(rows: u16, columns: u16) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let plain = ResolveFlags::NO_SYMLINKS;
        let master = openat2(CWD, "/dev/pts/ptmx", flags, Mode::empty(), plain)
            .context("opening /dev/pts/ptmx")?;
        // A volume may have come to lie on /dev/pts by way of a symlink of the image (CVE-2025-52565).
        ensure!(
            fstatfs(&master)?.f_type == DEVPTS_SUPER_MAGIC,
            "`/dev/pts` is not the container's own"
        );
        unlockpt(&master).context("unlocking the terminal")?;
        // By descriptor: a path under /dev/pts could be someone else's (TIOCGPTPEER, ioctl_tty(2)).
        let slave = ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )
        .context("opening the terminal's other end")?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).context("sizing the terminal")?;
        Ok(Self { master, slave })
    }

    /// Makes the slave `/dev/console`.
    pub(crate) fn become_console(&self, root: Root<'_>) -> Result<()> {
        let console = root.create(Path::new("/dev/console"), Kind::File)?;
        let tree = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = open_tree(&self.slave, "", tree).context("opening the terminal to mount it")?;
        mounts::move_here(copy.as_fd(), console.as_fd()).context("mounting /dev/console")
    }

    /// Makes the slave the standard streams, and `user` its owner, who may open it again. The group stays the devpts's own, whose members may write to it and no more.
    pub(crate) fn take(&self, user: u32) -> Result<()> {
        fchown(&self.slave, Some(Uid::from_raw(user)), None)
            .with_context(|| format!("giving user {user} the terminal"))?;
        rustix::stdio::dup2_stdin(&self.slave)?;
        rustix::stdio::dup2_stdout(&self.slave)?;
        rustix::stdio::dup2_stderr(&self.slave)?;
        Ok(())
    }
}

/// Makes the terminal that is the standard input the one that controls this process's session.
pub(crate) fn control() -> Result<()> {
    let terminal = rustix::stdio::stdin();
    rustix::process::ioctl_tiocsctty(terminal).context("taking the terminal")
}
