//! Namespaces of another container: opened from outside, and entered.

use crate::runtime::stat::start_time;
use crate::sys::kernel::namespace_type;
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, fstat, open, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// A namespace that is there already, held open.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) kind: CloneFlags,
    pub(crate) path: PathBuf,
    file: OwnedFd,
}

impl Namespace {
    /// Opens the namespace at `path` (`/proc/PID/ns/ipc`), which must be of this kind.
    pub(crate) fn open(kind: CloneFlags, path: &Path) -> Result<Self> {
        let context = || format!("opening the namespace `{}`", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = open(path, flags, Mode::empty()).with_context(context)?;
        let found = namespace_type(file.as_fd()).with_context(context)?;
        ensure!(
            found == kind,
            "`{}` is a namespace of type {found:?}, not {kind:?}",
            path.display()
        );
        Ok(Self {
            kind,
            path: path.to_owned(),
            file,
        })
    }

    /// Clones what shows the processes of this PID namespace, attached nowhere: the `/proc` of the container that it is of.
    ///
    /// The kernel makes a new one for a process that is in there only (proc(5)), and that the others in there would see,
    /// with every right which making mounts takes.
    pub(crate) fn processes(&self) -> Result<OwnedFd> {
        let mounts = self.path.with_file_name("mnt");
        let mounts = Self::open(CloneFlags::CLONE_NEWNS, &mounts)?;
        let processes = mounts.visit(|| take_tree(Path::new("/proc"), PROC_SUPER_MAGIC))?;
        // The other container may have put any other there.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let shown = openat(&processes, "1/ns/pid", flags, Mode::empty());
        let (shown, own) = (shown.and_then(fstat), fstat(&self.file)?);
        ensure!(
            shown.is_ok_and(|shown| (shown.st_dev, shown.st_ino) == (own.st_dev, own.st_ino)),
            "`/proc` of the other container does not show its own processes"
        );
        Ok(processes)
    }

    /// Calls `act` in this mount namespace. The directories of this process are the root of its own one afterwards.
    fn visit<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let own = Self::open(CloneFlags::CLONE_NEWNS, Path::new("/proc/self/ns/mnt"))?;
        self.enter()?;
        let done = act();
        own.enter()?;
        done
    }

    /// Enters it; a PID namespace only the children of this process will be in (setns(2)).
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.file, self.kind)
            .with_context(|| format!("joining the namespace `{}`", self.path.display()))
    }
}

/// The shared memory of another container: what `/proc/PID/root/dev/shm` names.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    namespace: Namespace,
    path: PathBuf,
}

impl Elsewhere {
    /// Returns what `source` names, if that is it; the other's mounts are held.
    pub(crate) fn find(source: &Path) -> Result<Option<Self>> {
        let mut parts = source.components();
        let head = [(); 4].map(|()| parts.next());
        let [Some(Component::RootDir), Some(proc), Some(pid), Some(root)] = head else {
            return Ok(None);
        };
        let pid = pid
            .as_os_str()
            .to_str()
            .and_then(|pid| pid.parse::<u32>().ok());
        let (true, true, Some(pid)) = (proc.as_os_str() == "proc", root.as_os_str() == "root", pid)
        else {
            return Ok(None);
        };
        let path = Path::new("/").join(parts.as_path());
        if path != Path::new("/dev/shm") {
            return Ok(None);
        }
        let mounts = PathBuf::from(format!("/proc/{pid}/ns/mnt"));
        let namespace = Namespace::open(CloneFlags::CLONE_NEWNS, &mounts)?;
        Ok(Some(Self { namespace, path }))
    }

    /// Clones the mount there, attached nowhere: from inside, where alone it can be cloned (`open_tree(2)`).
    pub(crate) fn take(&self) -> Result<OwnedFd> {
        self.namespace.visit(|| take_tree(&self.path, TMPFS_MAGIC))
    }
}

/// The file system of shared memory, as linux/magic.h has it.
const TMPFS_MAGIC: FsWord = 0x0102_1994;

/// Clones the mount of this kind at `path`, which the other container made: a symlink there must not lead this process
/// anywhere.
fn take_tree(path: &Path, kind: FsWord) -> Result<OwnedFd> {
    let context = || format!("opening `{}` of the other container", path.display());
    let resolve = rustix::fs::ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place =
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).with_context(context)?;
    ensure!(
        rustix::fs::fstatfs(&place)?.f_type == kind,
        "`{}` of the other container is not what it was any more",
        path.display()
    );
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&place, "", flags).with_context(context)
}

/// A running container that another one joins. As long as it runs its PID is nobody else's.
#[derive(Debug)]
pub(crate) struct Donor {
    pid: u32,
    pidfd: OwnedFd,
}

impl Donor {
    /// Takes hold of the process that had `pid` and began at `start_time`; nothing if it is gone.
    pub(crate) fn hold(pid: u32, start_time: u64) -> Result<Option<Self>> {
        let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            bail!("{pid} is no PID");
        };
        let pidfd = match pidfd_open(process, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            other => other.context("opening the container's first process")?,
        };
        let donor = Self { pid, pidfd };
        // Asked after the descriptor is ours: from here on it cannot become another process.
        let is_it = self::start_time(pid).is_ok_and(|found| found == start_time);
        Ok((is_it && donor.runs()?).then_some(donor))
    }

    /// Tells whether it still runs. What was opened by its PID before is then its own.
    pub(crate) fn runs(&self) -> Result<bool> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ended = poll(&mut end, Some(&now)).context("looking at the other container")?;
        Ok(ended == 0)
    }

    /// Returns a descriptor that becomes readable when it has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_must_be_of_its_kind() {
        let own = |kind, file| Namespace::open(kind, &Path::new("/proc/self/ns").join(file));
        assert!(own(CloneFlags::CLONE_NEWIPC, "ipc").is_ok());
        assert!(own(CloneFlags::CLONE_NEWIPC, "net").is_err());
        assert!(Namespace::open(CloneFlags::CLONE_NEWIPC, Path::new("/dev/null")).is_err());
    }

    #[test]
    fn shared_memory_of_others_is_told_from_paths_of_the_host() {
        let pid = std::process::id();
        let find = |path: &str| Elsewhere::find(Path::new(path)).unwrap();
        let other = format!("/proc/{pid}/root/etc");
        let found = find(&format!("/proc/{pid}/root/dev/shm")).unwrap();
        assert_eq!(found.path, Path::new("/dev/shm"));
        for path in [
            "/dev/shm",
            "/proc/self/root/dev/shm",
            "/proc/1/fd/3",
            "/proc",
            "/x/1/root",
            &other,
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_process_is_held_only_if_it_is_the_same() {
        let pid = std::process::id();
        let began = start_time(pid).unwrap();
        assert!(Donor::hold(pid, began).unwrap().unwrap().runs().unwrap());
        assert!(Donor::hold(pid, began + 1).unwrap().is_none());
    }
}
