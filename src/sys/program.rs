//! The program that runs: out of reach of the containers in which a process of it is seen.

use crate::sys::caller;
use crate::sys::clone::{Clone as Cloned, clone, end_child};
use crate::sys::kernel::{MountAttributes, mount_setattr, take_inherited};
use crate::sys::message::Channel;
use anyhow::{Context, Result, ensure};
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::execveat;
use rustix::fs::{
    CWD, MemfdFlags, SealFlags, Stat, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, fstat,
    fstatvfs, memfd_create, stat,
};
use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::param::linux_execfn;
use rustix::process::{
    DumpableBehavior, WaitOptions, geteuid, getpid, set_dumpable_behavior, waitpid,
};
use std::collections::BTreeSet;
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

/// The proof that no container can write the file that this process, and whatever it forks, runs from.
///
/// Who puts a process into a container has to have it: until that process has become the command it shows what it was
/// started from, `/proc/PID/exe`, and the command may be that very file, in more spellings than anybody can foresee
/// (`/proc/self/exe` as an interpreter, a loader, a handler of `binfmt_misc` …). Through it whoever is root in there
/// could write the host's file, which the host's root runs next (CVE-2019-5736).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protected(());

/// How this process came to be started.
pub(crate) enum Origin {
    /// As any program is.
    Caller,
    /// By [`protect`].
    Protected(Protected),
    /// As a container's first process, by words that lead to the program of who started the container.
    Container,
}

/// Looks at how this process was started, before it does anything else. One that a container started has hidden then.
///
/// The first process of a PID namespace is ddock where somebody runs it there by a name that it has there (`docker run
/// IMAGE ddock version`, `unshare -pf ddock run …`). What has no name below its own root was not put there for it.
pub(crate) fn origin() -> Origin {
    if was_started_again() {
        // The kernel names a process after what it was started from, here the number of a descriptor. Nothing
        // depends on it.
        rustix::thread::set_name(c"ddock").ok();
        return Origin::Protected(Protected(()));
    }
    if getpid().is_init() && !has_name() {
        // The file is out of reach anyway.
        hide().ok();
        return Origin::Container;
    }
    Origin::Caller
}

/// Starts this program again with the same words and environment, from where nobody can write it; returns when it
/// runs from there, or where nobody in a container of this user's can write it anyway.
///
/// Takes as long as a program takes to start: the earlier, the less was done in vain. Other threads end.
pub(crate) fn protect() -> Result<Protected> {
    let context = "keeping ddock's own program out of the container's reach";
    if is_out_of_reach().context(context)? {
        return Ok(Protected(()));
    }
    let program = read_only()
        .or_else(|_| read_only_of_user())
        .or_else(|_| sealed())
        .context(context)?;
    Err(start_again(program)).context(context)
}

/// Tells whether the file is root's and this user, who may not write it, is not root: no user namespace of his has root
/// among its IDs, and rights count for files alone whose owner it has (`user_namespaces(7)`, "Capabilities"). With an
/// access control list the group's bits are the most that anybody named there has (`acl(5)`).
fn is_out_of_reach() -> Result<bool> {
    if geteuid().is_root() {
        return Ok(false);
    }
    let program = stat(OWN)?;
    Ok(program.st_uid == 0 && program.st_mode & 0o022 == 0)
}

/// Returns only the reason why not. The program stays open for [`was_started_again`].
fn start_again(program: OwnedFd) -> anyhow::Error {
    let text = |text: OsString| CString::new(text.into_vec()).expect("it came as a C string");
    let arguments: Vec<_> = std::env::args_os().map(text).collect();
    let environment: Vec<_> = std::env::vars_os()
        .map(|(name, value)| text([name, value].join("=".as_ref())))
        .collect();
    let path = AtFlags::AT_EMPTY_PATH;
    // Or the new one would take ours for the caller's.
    caller::go_back();
    let kept = fcntl_setfd(&program, FdFlags::empty()).map_err(anyhow::Error::new);
    let started = kept.and_then(|()| Ok(execveat(program, c"", &arguments, &environment, path)?));
    match started {
        Err(error) => error.context("starting it again"),
        Ok(never) => match never {},
    }
}

/// Tells whether [`start_again`] started this process: the kernel names the descriptor that it was executed from
/// (`getauxval(3)`, `AT_EXECFN`), and that is open here and this very program. No image can have it so: of a container's first
/// process every descriptor is closed but those that the user hands over. To be called once.
fn was_started_again() -> bool {
    let name = linux_execfn().to_str().ok();
    let number = name.and_then(|name| name.strip_prefix("/dev/fd/")?.parse().ok());
    let Some(number) = number.filter(|number| *number > 2) else {
        return false;
    };
    let taken = take_inherited(&BTreeSet::from([number]));
    let mut taken = taken.into_iter().flatten();
    taken.next().is_some_and(|program| {
        let own = stat(OWN).and_then(|own| Ok(is_same(&own, &fstat(&program)?)));
        // What has a name lies on a mount that somebody may make writable again.
        own == Ok(true) && is_protected(&program) && !has_name()
    })
}

/// Tells whether the name of this program leads to it, in the root that this process has.
fn has_name() -> bool {
    let found =
        || -> io::Result<bool> { Ok(is_same(&stat(fs_err::read_link(OWN)?)?, &stat(OWN)?)) };
    found().unwrap_or(false)
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Keeps the memory, the descriptors and the program of this process from others who have no rights over it but
/// the same IDs and capabilities (`PR_SET_DUMPABLE`). The next exec takes that back.
pub(crate) fn hide() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Tells whether `program` is a copy of one of the kinds that are made here.
fn is_protected(program: &OwnedFd) -> bool {
    let is_sealed = fcntl_get_seals(program).is_ok_and(|seals| seals.contains(SEALS));
    let read_only = StatVfsMountFlags::RDONLY;
    is_sealed || fstatvfs(program).is_ok_and(|found| found.f_flag.contains(read_only))
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

/// As [`read_only`], by a child in a user namespace: an ordinary user may make mounts nowhere else. Who is root of another
/// one has no right over what that makes.
fn read_only_of_user() -> Result<OwnedFd> {
    let (ours, childs) = Channel::pair()?;
    match clone(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, None)? {
        Cloned::Child => {
            drop(ours);
            let sent = read_only().and_then(|mount| Ok(childs.send(&(), Some(mount.as_fd()))?));
            end_child(u8::from(sent.is_err()))
        }
        Cloned::Parent(child) => {
            drop(childs);
            let received = ours.receive::<()>();
            retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::empty()))?;
            let mount = received?.and_then(|((), mount)| mount);
            mount.context("a user namespace made no mount")
        }
    }
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
    use rustix::fs::{Mode, OFlags, open};
    use rustix::process::{Pid, Signal, kill_process};
    use std::env;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::process::{Command, Stdio};

    const KIND: &str = "DDOCK_TEST_PROGRAM";

    /// This very test, as a process that stays: protected in the way that is asked for, until it is killed.
    fn stay(kind: &str) {
        if !matches!(origin(), Origin::Protected(_)) {
            let program = match kind {
                "read-only" => read_only().unwrap(),
                "sealed" => sealed().unwrap(),
                _ => {
                    protect().unwrap();
                    return;
                }
            };
            panic!("{:#}", start_again(program));
        }
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
