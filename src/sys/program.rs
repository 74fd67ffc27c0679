//! The program that runs: kept out of reach of the containers it starts.

use crate::sys::clone::{Clone, end_child, fork};
use crate::sys::kernel::{MountAttributes, mount_setattr};
use crate::sys::message::Channel;
use crate::sys::userns::unshare_user;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::AtFlags;
use nix::libc;
use rustix::fs::{
    Access, CWD, Mode, OFlags, StatVfsMountFlags, accessat, fstat, fstatvfs, open, stat,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{WaitOptions, geteuid, waitpid};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// This program, as the kernel knows it.
const OWN: &str = "/proc/self/exe";

/// Starts this program again, from a read-only mount that nobody else sees; returns when it runs from one.
///
/// A container's first process is this program until it becomes the command, and `/proc/self/exe` leads to its
/// file. Whoever is root in there could write it, or change its mode, and with it what the host's root runs
/// next (CVE-2019-5736). The mount goes with its last process, and costs no copy. Nothing needs to be done
/// for a user who may not change the file. Needs a process with one thread.
pub(crate) fn protect() -> Result<()> {
    let context = "keeping ddock's own program out of the container's reach";
    let program = open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(context)?;
    if fstatvfs(&program)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY)
    {
        // The kernel names a process after what it was started from, here the number of a descriptor.
        return Ok(rustix::thread::set_name(c"ddock")?);
    }
    let mount = if geteuid().is_root() {
        read_only_mount(Path::new(OWN))
    } else if fstat(&program)?.st_uid == geteuid().as_raw()
        || accessat(CWD, OWN, Access::WRITE_OK, rustix::fs::AtFlags::EACCESS).is_ok()
    {
        read_only_mount_of_user()
    } else {
        return Ok(());
    }
    .context(context)?;
    let text = |text: OsString| CString::new(text.into_vec()).expect("it came as a C string");
    let arguments: Vec<_> = std::env::args_os().map(text).collect();
    let environment: Vec<_> = std::env::vars_os()
        .map(|(name, value)| text([name, value].join("=".as_ref())))
        .collect();
    match nix::unistd::execveat(mount, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH) {
        Err(error) => Err(error).context(context),
        Ok(never) => match never {},
    }
}

fn read_only_mount(program: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, program, flags).context("open_tree")?;
    let change = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    mount_setattr(mount.as_fd(), false, change).context("mount_setattr")?;
    Ok(mount)
}

/// Only root of a user namespace makes mounts: a child that is that hands one over.
fn read_only_mount_of_user() -> Result<OwnedFd> {
    let (ours, childs) = Channel::pair()?;
    match fork()? {
        Clone::Child => {
            let made = find_and_mount();
            let (error, mount) = match &made {
                Ok(mount) => (None, Some(mount.as_fd())),
                Err(error) => (Some(format!("{error:#}")), None),
            };
            // Without an answer the parent knows that it failed.
            childs.send(&error, mount).ok();
            end_child(0)
        }
        Clone::Parent(child) => {
            drop(childs);
            let answer = ours.receive::<Option<String>>()?;
            rustix::io::retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::empty()))?;
            match answer {
                Some((None, Some(mount))) => Ok(mount),
                Some((Some(error), _)) => bail!(error),
                _ => bail!("the child that makes the mount died"),
            }
        }
    }
}

/// The kernel's link leads to a mount that is not in the new mount namespace; its name leads to the same file there.
fn find_and_mount() -> Result<OwnedFd> {
    let running = stat(OWN)?;
    unshare_user()?;
    let program = fs_err::read_link(OWN)?;
    let mount = read_only_mount(&program)?;
    let found = fstat(&mount)?;
    ensure!(
        (found.st_dev, found.st_ino) == (running.st_dev, running.st_ino),
        "`{}` was replaced just now",
        program.display()
    );
    Ok(mount)
}
