//! The program that runs: out of reach of the containers in which a process of it is seen.

use crate::sys::caller;
use crate::sys::kernel::{MountAttributes, mount_setattr};
use anyhow::{Context, Result, ensure};
use nix::fcntl::AtFlags;
use nix::libc;
use nix::unistd::execveat;
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
    fcntl_add_seals, fcntl_get_seals, fstat, fstatvfs, memfd_create, open, stat, statx,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

/// This program, as the kernel knows it.
const OWN: &str = "/proc/self/exe";

/// What can never be done again to a copy in memory (`fcntl(2)`, "File Sealing").
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// Starts this program again with the same words and environment, from where nobody can write it; returns when it
/// runs from there.
///
/// A process that stays in a container, or joins one, shows it what it was started from: `/proc/PID/exe`. Through
/// that whoever is root in there could write the host's file, which the host's root runs next (CVE-2019-5736). A
/// command that has such a process calls this first, and that process calls [`hide`]. What only becomes the
/// container's command needs no more than that. Takes as long as a program takes to start. Other threads end.
pub(crate) fn protect() -> Result<()> {
    let context = "keeping ddock's own program out of the container's reach";
    if is_protected().context(context)? {
        // The kernel names a process after what it was started from, here the number of a descriptor.
        return Ok(rustix::thread::set_name(c"ddock")?);
    }
    let program = read_only().or_else(|_| sealed()).context(context)?;
    Err(start_again(program)).context(context)
}

/// Returns only the reason why not.
fn start_again(program: OwnedFd) -> anyhow::Error {
    let text = |text: OsString| CString::new(text.into_vec()).expect("it came as a C string");
    let arguments: Vec<_> = std::env::args_os().map(text).collect();
    let environment: Vec<_> = std::env::vars_os()
        .map(|(name, value)| text([name, value].join("=".as_ref())))
        .collect();
    let path = AtFlags::AT_EMPTY_PATH;
    // Or the new one would take ours for the caller's.
    caller::go_back();
    match execveat(program, c"", &arguments, &environment, path) {
        Err(error) => anyhow::Error::new(error).context("starting it again"),
        Ok(never) => match never {},
    }
}

/// Keeps the memory, the descriptors and the program of this process from others who have no rights over it but
/// the same IDs and capabilities (`PR_SET_DUMPABLE`). The next exec takes that back.
pub(crate) fn hide() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Tells whether this program's file is a copy of one of the two kinds that are made here.
fn is_protected() -> Result<bool> {
    let program = open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if fcntl_get_seals(&program).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(true);
    }
    // A mount of this one file. A file system that is just mounted read-only may be made writable again.
    let found = statx(
        &program,
        "",
        rustix::fs::AtFlags::EMPTY_PATH,
        StatxFlags::empty(),
    )?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        && fstatvfs(&program)?
            .f_flag
            .contains(StatVfsMountFlags::RDONLY))
}

/// Opens this program on a read-only mount of its own, which is attached nowhere: nobody can make that writable, and
/// it goes with its last process (`open_tree(2)`).
///
/// By its name: the kernel's own link leads to a mount that a mount namespace made since then has its own copy of.
fn read_only() -> Result<OwnedFd> {
    let name = fs_err::read_link(OWN)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, &name, flags).context("open_tree")?;
    let (running, found) = (stat(OWN)?, fstat(&mount)?);
    ensure!(
        (found.st_dev, found.st_ino) == (running.st_dev, running.st_ino),
        "`{}` was replaced",
        name.display()
    );
    let change = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    mount_setattr(mount.as_fd(), false, change).context("mount_setattr")?;
    Ok(mount)
}

/// Copies this program into memory, where nobody can change it: ten times slower, and works where mounts may not be
/// made, before Linux 5.12, and for a file that is not there any more.
fn sealed() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 it has to be said that this is to be executed (memfd_create(2)).
    let copy = match memfd_create(c"ddock", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(c"ddock", flags),
        other => other,
    };
    let copy = fs_err::File::from_parts(copy.context("memfd_create")?.into(), "memfd:ddock");
    io::copy(&mut fs_err::File::open(OWN)?, &mut &copy)?;
    fcntl_add_seals(&copy, SEALS).context("sealing the copy")?;
    Ok(copy.into_parts().0.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};
    use std::env;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::process::{Command, Stdio};

    const KIND: &str = "DDOCK_TEST_PROGRAM";

    /// This very test, as a process that stays: protected in the way that is asked for, until it is killed.
    fn stay(kind: &str) {
        if !is_protected().unwrap() {
            let program = match kind {
                "read-only" => read_only().unwrap(),
                "sealed" => sealed().unwrap(),
                _ => return protect().unwrap(),
            };
            panic!("{:#}", start_again(program));
        }
        protect().unwrap();
        hide().unwrap();
        writeln!(io::stderr(), "stays").unwrap();
        io::stdin().lock().read_line(&mut String::new()).unwrap();
    }

    /// As root with every capability, which is more than a privileged container's root has, because it is in the
    /// mount namespace that the program's file came from.
    #[test]
    fn a_process_that_stays_shows_a_program_that_nobody_can_write() {
        if let Ok(kind) = env::var(KIND) {
            return stay(&kind);
        }
        let own = env::current_exe().unwrap();
        let before = fs_err::read(&own).unwrap();
        for kind in ["read-only", "sealed", "whichever works"] {
            let mut process = Command::new(&own)
                .args([
                    "sys::program::tests::a_process_that_stays_shows_a_program_that_nobody_can_write",
                    "--exact",
                    "--nocapture",
                ])
                .env(KIND, kind)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = String::new();
            BufReader::new(process.stderr.take().unwrap())
                .read_line(&mut said)
                .unwrap();
            assert_eq!(said, "stays\n", "{kind}");
            // Held until the process is gone: what runs cannot be written anyway (ETXTBSY).
            let shown = format!("/proc/{}/exe", process.id());
            let shown = open(&*shown, OFlags::RDONLY, Mode::empty()).unwrap();
            assert_out_of_reach(&shown, kind);
            kill_process(Pid::from_child(&process), Signal::KILL).unwrap();
            process.wait().unwrap();
            assert_out_of_reach(&shown, kind);
            assert!(fs_err::read(&own).unwrap() == before, "{kind}");
        }
    }

    fn assert_out_of_reach(shown: &OwnedFd, kind: &str) {
        let path = format!("/proc/self/fd/{}", shown.as_raw_fd());
        let again = |flags| open(&*path, flags, Mode::empty());
        let written = again(OFlags::RDWR).and_then(|file| rustix::io::write(&file, b"x"));
        let emptied = again(OFlags::WRONLY | OFlags::TRUNC);
        assert!(written.is_err() && emptied.is_err(), "{kind}");
        if kind == "sealed" {
            return;
        }
        let mode = rustix::fs::fchmod(shown, Mode::from_raw_mode(0o4777));
        let writable = mount_setattr(
            shown.as_fd(),
            false,
            MountAttributes {
                clear: libc::MOUNT_ATTR_RDONLY,
                ..MountAttributes::default()
            },
        );
        let place = tempfile::NamedTempFile::new().unwrap();
        let bound = rustix::mount::mount_bind(&*path, place.path());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
        let cloned = open_tree(shown, "", flags);
        assert!(mode.is_err() && writable.is_err() && bound.is_err() && cloned.is_err());
    }
}
