//! A container's cgroup: limits in force before anything joins, one way in, one way to end everything in it.
//!
//! It is `/ddock/<id>` unless another parent was asked for, on v2 one directory, on v1 and hybrid one in each hierarchy that has something to
//! enforce. The control files are written directly; where they are is not searched for but known, as it is to
//! crun and systemd: v2 or a directory a controller at `/sys/fs/cgroup` (file-hierarchy(7), cgroups(7)).
//!
//! Which v1 hierarchies are joined is a matter of time: each costs about 20 µs for mkdir, 30–45 µs for the write
//! to `tasks`, 20 µs for rmdir (`memory`: 50, 45, 37; Linux 6.18). So: `pids` always, for its limit and because it
//! is how all processes are found; `devices` unless every device is open; the others with a limit, and those of memory and
//! processors all if one of them has any (`v1::BELIEVED_TOGETHER`).
//! In the others the container stays where its caller is, whose limits then hold for it too. It sees none of
//! them: only joined hierarchies are mounted in it, and its cgroup namespace shows every path as `/`.
//!
//! Docker joins and shows all of them. Rejected: joining the other eight, 0.6 ms a start for limits that are not there; and
//! showing them without joining. What would be seen is the caller's cgroup, with the names and the use of all the cgroups
//! below it, the host's if root called; or an empty one, whose figures are nobody's.

mod devices;
mod end;
mod facts;
mod limit;
mod servants;
mod setting;
mod v1;
mod v2;

#[cfg(test)]
use devices::DEFAULT as DEFAULT_DEVICES;
pub(crate) use devices::{Access, DeviceRule, Kind as DeviceKind, restrict as restricts_devices};
pub(crate) use end::{DEATH, REMOVAL};
pub(crate) use limit::{Cpu, Disk, Io, Limits, Memory, Pids, Throttle, ThrottleKind};
pub(crate) use setting::{NO_RIGHTS, Unenforceable};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Or hybrid: v1 with a v2 hierarchy that has no controllers.
    V1,
    V2,
}

/// A container's cgroup. Its directories stay until [`Cgroup::remove`], whatever becomes of this value and its process.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// Below the root of each hierarchy, or below what this user was handed of it.
    path: PathBuf,
    version: Version,
    hierarchies: Vec<Hierarchy>,
    guards_devices: bool,
    notices: Vec<String>,
}

#[derive(Debug)]
struct Hierarchy {
    /// Where it is mounted below `/sys/fs/cgroup`; on v1 its controllers, separated by commas, on v2 empty.
    name: String,
    /// The container's directory.
    directory: PathBuf,
}

/// The way into a cgroup, opened by a process that may, to be used by the one that is to be inside.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// The `tasks` files of the v1 hierarchies; none if there is no cgroup.
    Tasks(Vec<OwnedFd>),
    /// The v2 directory (`O_PATH`), for `CLONE_INTO_CGROUP`.
    Directory(OwnedFd),
}

/// What to mount below `/sys/fs/cgroup` in the container, once it is in its cgroup namespace.
/// Everything is `ro,nosuid,nodev,noexec`; a tmpfs becomes so when all is in it. These are attributes of the
/// mount (`fsmount`, `mount_setattr`), never options of the file system, which is shared with the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The first is `/sys/fs/cgroup` itself. Empty if there is no cgroup.
    pub(crate) mounts: Vec<Mount>,
    /// Name and target, in the directory of the first mount.
    pub(crate) symlinks: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The directory to make below `/sys/fs/cgroup`; empty for that itself.
    pub(crate) name: String,
    /// `tmpfs`, `cgroup` or `cgroup2`.
    pub(crate) fs_type: &'static str,
    /// Options of the file system, with a value or as a flag.
    pub(crate) options: Vec<(String, Option<&'static str>)>,
}

impl Cgroup {
    /// Creates the cgroup `path` and puts every limit in force. On failure nothing is left but the cgroups above it,
    /// which are made if they are missing.
    ///
    /// A limit that was asked for and cannot be enforced is an [`Unenforceable`]. Where this process may
    /// not make a cgroup at all and no limit was asked for, the result is empty: entering it does nothing.
    pub(crate) fn create(path: &Path, limits: &Limits) -> Result<Self> {
        limits.check()?;
        let mut cgroup = Self::empty(path)?;
        let filled = match cgroup.version {
            Version::V1 => v1::fill(&mut cgroup, limits),
            Version::V2 => v2::fill(&mut cgroup, limits),
        };
        match filled {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // The first error is the one to tell.
                cgroup.remove(REMOVAL).ok();
                Err(error)
            }
        }
    }

    /// Opens the cgroup of a container made earlier; it is empty if nothing is left of it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut cgroup = Self::empty(path)?;
        for (name, base) in bases(cgroup.version)? {
            let directory = base.join(&cgroup.path);
            if directory.is_dir() {
                cgroup.hierarchies.push(Hierarchy { name, directory });
            }
        }
        Ok(cgroup)
    }

    fn empty(path: &Path) -> Result<Self> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let mut names = inside.components();
        // Nothing may be printed by /proc/PID/cgroup that looks like another line of it.
        let is_plain = inside
            .to_str()
            .is_some_and(|path| !path.is_empty() && !path.contains(char::is_control))
            && names.all(|name| matches!(name, Component::Normal(_)));
        ensure!(is_plain, "`{}` cannot be a cgroup", path.display());
        Ok(Self {
            path: inside.to_owned(),
            version: version()?,
            hierarchies: Vec::new(),
            guards_devices: false,
            notices: Vec::new(),
        })
    }

    /// Returns whether the device rules are in force. If not, nobody but an ordinary user, who can neither
    /// make a device node nor use one made in a user namespace, may go on.
    pub(crate) fn guards_devices(&self) -> bool {
        self.guards_devices
    }

    /// Tells whether there is none: this process may not make any.
    pub(crate) fn is_empty(&self) -> bool {
        self.hierarchies.is_empty()
    }

    /// Returns what the user should know of limits that hold less than they might think.
    pub(crate) fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Opens the way in. The descriptors are close-on-exec.
    pub(crate) fn entrance(&self) -> Result<Entrance> {
        let open = |path: PathBuf, flags| {
            rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
                .with_context(|| format!("opening `{}`", path.display()))
        };
        if let (Version::V2, Some(leaf)) = (self.version, self.hierarchies.first()) {
            let directory = open(leaf.directory.clone(), OFlags::PATH | OFlags::DIRECTORY)?;
            return Ok(Entrance::Directory(directory));
        }
        let tasks = self
            .hierarchies
            .iter()
            .map(|joined| open(joined.directory.join("tasks"), OFlags::WRONLY));
        Ok(Entrance::Tasks(tasks.collect::<Result<_>>()?))
    }

    /// Returns what the container is to see of its cgroup.
    pub(crate) fn view(&self) -> View {
        let mut view = View::default();
        if self.hierarchies.is_empty() {
            return view;
        }
        if self.version == Version::V2 {
            view.mounts.push(Mount::new("", "cgroup2", []));
            return view;
        }
        let options = [("mode", Some("755")), ("size", Some("64k"))]
            .map(|(name, value)| (name.to_owned(), value));
        view.mounts.push(Mount::new("", "tmpfs", options));
        for Hierarchy { name, .. } in &self.hierarchies {
            let controllers = || name.split(',').map(str::to_owned);
            view.mounts.push(Mount::new(
                name,
                "cgroup",
                controllers().map(|controller| (controller, None)),
            ));
            view.symlinks.extend(
                controllers()
                    .filter(|controller| controller != name)
                    .map(|controller| (controller, name.clone())),
            );
        }
        view
    }

    /// Returns whether the kernel killed a process in here because the memory limit was reached.
    pub(crate) fn oom_killed(&self) -> bool {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        self.hierarchies.iter().any(|joined| {
            // Only the hierarchy of memory has the file, and only with a limit can it have happened.
            let text = fs_err::read_to_string(joined.directory.join(file)).unwrap_or_default();
            let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            kills.is_some_and(|kills| kills != "0")
        })
    }

    /// Kills every process in here, and returns when they are dead, which may take `patience`. Nothing can be started in it
    /// afterwards.
    pub(crate) fn kill(&self, patience: Duration) -> Result<()> {
        self.hierarchies.first().map_or(Ok(()), |joined| {
            end::kill(&joined.directory, &self.path, patience)
        })
    }

    /// Removes the cgroup. An error if processes are still in it after `patience`, but for those that serve the container.
    pub(crate) fn remove(self, patience: Duration) -> Result<()> {
        self.remove_servants(patience)?;
        let removals: Vec<_> = self
            .hierarchies
            .iter()
            .map(|joined| end::remove(&joined.directory, patience))
            .collect();
        removals.into_iter().collect()
    }
}

impl Entrance {
    /// Moves the calling process in, which must have a single thread. On v1 that makes it cheap too: `cgroup.procs`
    /// would wait 8–13 ms for all other threads of the machine.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let write = |file: BorrowedFd<'_>| rustix::io::write(file, b"0").map(drop);
        match self {
            Self::Tasks(files) => files.iter().try_for_each(|file| write(file.as_fd()))?,
            Self::Directory(directory) => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat(directory, "cgroup.procs", flags, Mode::empty())?;
                write(file.as_fd())?;
            }
        }
        Ok(())
    }
}

impl Mount {
    fn new(
        name: &str,
        fs_type: &'static str,
        options: impl IntoIterator<Item = (String, Option<&'static str>)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            fs_type,
            options: options.into_iter().collect(),
        }
    }
}

fn version() -> io::Result<Version> {
    // CGROUP2_SUPER_MAGIC of linux/magic.h. Whatever else is there, or nothing: the v1 directories are there or not.
    match rustix::fs::statfs(ROOT) {
        Ok(found) if found.f_type == 0x6367_7270 => Ok(Version::V2),
        Ok(_) | Err(Errno::NOENT) => Ok(Version::V1),
        Err(error) => Err(error.into()),
    }
}

/// Returns the cgroups in which there may be a `ddock`, each with its hierarchy's name.
fn bases(version: Version) -> io::Result<Vec<(String, PathBuf)>> {
    if version == Version::V2 {
        return Ok(v2::bases()?
            .into_iter()
            .map(|base| (String::new(), base))
            .collect());
    }
    let mut names = Vec::new();
    for controller in v1::CONTROLLERS {
        let name = v1::hierarchy(controller)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names
        .into_iter()
        .map(|name| (name.clone(), Path::new(ROOT).join(name)))
        .collect())
}

/// Makes `base/path` and what is missing above it; `AlreadyExists` if it is there.
fn make(base: &Path, path: &Path) -> io::Result<PathBuf> {
    let directory = base.join(path);
    match make_directory(&directory) {
        // The first container below this parent since the machine was started.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        made => return made.map(|()| directory),
    }
    let above: Vec<_> = path.ancestors().skip(1).collect();
    // The last is empty: the base itself.
    for parent in above.iter().rev().skip(1) {
        match make_directory(&base.join(parent)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    make_directory(&directory)?;
    Ok(directory)
}

/// Makes one directory in which only its owner may make others, also under the umask 0 of a daemon.
fn make_directory(path: &Path) -> io::Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!("making `{}`: {error}", path.display()),
        )
    })
}

/// Passes over an error that says that there is no such hierarchy, or that we may not use it.
fn unavailable(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests;
