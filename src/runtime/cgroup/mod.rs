//! A container's cgroup: limits in force before anything joins, one way in, one way to end everything in it.
//!
//! It is `/ddock/<id>`, on v2 one directory, on v1 and hybrid one in each hierarchy that has something to
//! enforce. The control files are written directly; where they are is not searched for but known, as it is to
//! crun and systemd: v2 or a directory a controller at `/sys/fs/cgroup` (file-hierarchy(7), cgroups(7)).
//!
//! Which v1 hierarchies are joined is a matter of time: each costs about 20 µs for mkdir, 30–45 µs for the write
//! to `tasks`, 20 µs for rmdir (`memory`: 50, 45, 37; Linux 6.18). So: `pids` always, for its limit and because it
//! is how all processes are found; `devices` unless every device is open; `memory` and `cpu` with a limit.
//! In the others the container stays where its caller is, whose limits then hold for it too. It sees none of
//! them: only joined hierarchies are mounted in it, and its cgroup namespace shows every path as `/`.

mod devices;
mod end;
mod facts;
mod limit;
mod v1;
mod v2;

#[cfg(test)]
use devices::DEFAULT as DEFAULT_DEVICES;
pub(crate) use devices::{Access, DeviceRule, Kind as DeviceKind, restrict as restricts_devices};
pub(crate) use limit::{Cpu, Limits, Pids, Unenforceable};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup above those of all containers.
const PARENT: &str = "ddock";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Or hybrid: v1 with a v2 hierarchy that has no controllers.
    V1,
    V2,
}

/// A container's cgroup. Its directories stay until [`Cgroup::remove`], whatever becomes of this value and its process.
#[derive(Debug)]
pub(crate) struct Cgroup {
    id: String,
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
    /// Creates the cgroup and puts every limit in force. On failure nothing is left.
    ///
    /// A limit that was asked for and cannot be enforced is an [`Unenforceable`]. Where this process may
    /// not make a cgroup at all and no limit was asked for, the result is empty: entering it does nothing.
    pub(crate) fn create(id: &str, limits: &Limits) -> Result<Self> {
        limits.check()?;
        let mut cgroup = Self::empty(id)?;
        let filled = match cgroup.version {
            Version::V1 => v1::fill(&mut cgroup, limits),
            Version::V2 => v2::fill(&mut cgroup, limits),
        };
        match filled {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // The first error is the one to tell.
                cgroup.remove().ok();
                Err(error)
            }
        }
    }

    /// Opens the cgroup of a container made earlier; it is empty if nothing is left of it.
    pub(crate) fn open(id: &str) -> Result<Self> {
        let mut cgroup = Self::empty(id)?;
        for (name, base) in bases(cgroup.version)? {
            let directory = base.join(PARENT).join(id);
            if directory.is_dir() {
                cgroup.hierarchies.push(Hierarchy { name, directory });
            }
        }
        Ok(cgroup)
    }

    fn empty(id: &str) -> Result<Self> {
        let is_plain = !id.is_empty()
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        ensure!(is_plain, "`{id}` cannot be the name of a cgroup");
        Ok(Self {
            id: id.to_owned(),
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

    /// Kills every process in here, and returns when they are dead. Nothing can be started in it afterwards.
    pub(crate) fn kill(&self) -> Result<()> {
        self.hierarchies
            .first()
            .map_or(Ok(()), |joined| end::kill(&joined.directory, &self.id))
    }

    /// Removes the cgroup. An error if processes are still in it.
    pub(crate) fn remove(self) -> Result<()> {
        let removals: Vec<_> = self
            .hierarchies
            .iter()
            .map(|joined| end::remove(&joined.directory))
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

/// Makes `base/ddock/<id>`; `AlreadyExists` if it is there.
fn make(base: &Path, id: &str) -> io::Result<PathBuf> {
    let parent = base.join(PARENT);
    let directory = parent.join(id);
    match make_directory(&directory) {
        // The first container since the machine was started.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        made => return made.map(|()| directory),
    }
    match make_directory(&parent) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
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
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, Output, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A cgroup that goes when the test ends, however it ends.
    struct Guard(Cgroup);

    impl Drop for Guard {
        fn drop(&mut self) {
            let found = Cgroup::open(&self.0.id).unwrap();
            let killed = found.kill();
            let removed = found.remove();
            if !std::thread::panicking() {
                killed.and(removed).unwrap();
            }
        }
    }

    fn new_id() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!(
            "test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    fn create(limits: &Limits) -> Guard {
        Guard(Cgroup::create(&new_id(), limits).unwrap())
    }

    /// Returns a shell that enters through this process's descriptors, then runs `script`.
    fn shell(entrance: &Entrance, script: &str) -> Command {
        let files: Vec<_> = match entrance {
            Entrance::Tasks(files) => files
                .iter()
                .map(|file| file.as_raw_fd().to_string())
                .collect(),
            Entrance::Directory(directory) => {
                vec![format!("{}/cgroup.procs", directory.as_raw_fd())]
            }
        };
        assert!(
            !files.is_empty(),
            "these tests need the right to make cgroups"
        );
        let enter = files.iter().fold(String::new(), |enter, file| {
            enter
                + &format!(
                    "echo 0 > /proc/{}/fd/{file} || exit 99\n",
                    std::process::id()
                )
        });
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(enter + script)
            .stdin(Stdio::null())
            .env("LC_ALL", "C");
        command
    }

    fn run(cgroup: &Guard, script: &str) -> Output {
        let output = shell(&cgroup.0.entrance().unwrap(), script)
            .output()
            .unwrap();
        assert_ne!(output.status.code(), Some(99), "{output:?}");
        output
    }

    fn file(cgroup: &Cgroup, v1: &str, v2: &str) -> String {
        let name = if cgroup.version == Version::V1 {
            v1
        } else {
            v2
        };
        let found = cgroup
            .hierarchies
            .iter()
            .find_map(|joined| fs_err::read_to_string(joined.directory.join(name)).ok());
        found.unwrap().trim_end().to_owned()
    }

    /// Returns the IDs of all containers that have a cgroup, alive or dead.
    fn ids() -> Result<HashSet<String>> {
        let mut ids = HashSet::new();
        for (_, base) in bases(version()?)? {
            let entries = match fs_err::read_dir(base.join(PARENT)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    ids.extend(entry.file_name().into_string());
                }
            }
        }
        Ok(ids)
    }

    #[test]
    fn memory_beyond_the_limit_is_a_kill_that_is_told() {
        let limits = Limits {
            memory: Some(16 << 20),
            swap: Some(16 << 20),
            ..Limits::default()
        };
        let cgroup = create(&limits);
        assert_eq!(
            file(&cgroup.0, "memory.limit_in_bytes", "memory.max"),
            "16777216"
        );
        let modest = run(&cgroup, "true");
        assert!(
            modest.status.success() && !cgroup.0.oom_killed(),
            "{modest:?}"
        );
        let greedy = run(&cgroup, "x=0123456789abcdef; while :; do x=$x$x; done");
        assert_eq!(greedy.status.signal(), Some(9), "{greedy:?}");
        assert!(cgroup.0.oom_killed());
    }

    #[test]
    fn swap_is_limited_with_memory() {
        let limits = Limits {
            memory: Some(16 << 20),
            swap: Some(24 << 20),
            ..Limits::default()
        };
        let cgroup = create(&limits);
        assert_eq!(
            file(&cgroup.0, "memory.memsw.limit_in_bytes", "memory.swap.max"),
            ["25165824", "8388608"][usize::from(cgroup.0.version == Version::V2)]
        );
    }

    #[test]
    fn processes_beyond_the_limit_cannot_be_forked() {
        let two = create(&Limits {
            pids: Pids::AtMost(2),
            ..Limits::default()
        });
        let one = create(&Limits {
            pids: Pids::AtMost(1),
            ..Limits::default()
        });
        assert!(run(&two, "(exit 0); exit 0").status.success());
        let refused = run(&one, "(exit 0); exit 0");
        assert!(
            !refused.status.success() && !refused.stderr.is_empty(),
            "{refused:?}"
        );
    }

    #[test]
    fn processor_time_is_limited() {
        let cpu = Some(Cpu {
            quota: 20_000,
            period: 50_000,
        });
        let cgroup = create(&Limits {
            cpu,
            ..Limits::default()
        });
        let (v1, v2) = ("20000", "20000 50000");
        let expected = if cgroup.0.version == Version::V1 {
            v1
        } else {
            v2
        };
        assert_eq!(file(&cgroup.0, "cpu.cfs_quota_us", "cpu.max"), expected);
        // Looking is the work that is throttled.
        let mut at = cgroup
            .0
            .hierarchies
            .iter()
            .map(|joined| joined.directory.join("cpu.stat"));
        let stat = at.rfind(|stat| stat.exists()).unwrap();
        run(
            &cgroup,
            &format!(
                "while grep -q 'nr_throttled 0' {}; do :; done",
                stat.display()
            ),
        );
    }

    #[test]
    fn only_listed_devices_open() {
        // kmsg is 1:11; made here, because making it is allowed.
        let script = "d=$(mktemp -d) && mknod $d/null c 1 3 && mknod $d/kmsg c 1 11 && mknod $d/disk b 8 0 || exit 98
            for device in null kmsg disk; do
                if (: < $d/$device) 2> $d/error; then echo $device opens; else cat $d/error >&2; fi
            done; rm -r $d";
        let guarded = create(&Limits {
            devices: DEFAULT_DEVICES.to_vec(),
            ..Limits::default()
        });
        let read_kmsg = DeviceRule {
            access: Access::parse("r").unwrap(),
            ..DeviceRule::character(1, Some(11))
        };
        let wider = [DEFAULT_DEVICES.as_slice(), &[read_kmsg]].concat();
        let wider = create(&Limits {
            devices: wider,
            ..Limits::default()
        });
        let narrower = DeviceRule {
            allow: false,
            access: Access::READ,
            ..DeviceRule::character(1, Some(3))
        };
        let narrower = create(&Limits {
            devices: vec![narrower],
            ..Limits::default()
        });
        let open = create(&Limits::default());
        for (cgroup, guards, opens) in [
            (&guarded, true, "null opens\n"),
            (&wider, true, "null opens\nkmsg opens\n"),
            (&narrower, true, "kmsg opens\n"),
            (&open, false, "null opens\nkmsg opens\n"),
        ] {
            assert_eq!(cgroup.0.guards_devices(), guards);
            let output = run(cgroup, script);
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), opens, "{output:?}");
        }
        let refused = String::from_utf8(run(&guarded, script).stderr).unwrap();
        assert_eq!(
            refused.matches("Operation not permitted").count(),
            2,
            "{refused}"
        );
    }

    #[test]
    fn access_is_allowed_bit_by_bit() {
        let kmsg = |allow, access| DeviceRule {
            allow,
            access: Access::parse(access).unwrap(),
            ..DeviceRule::character(1, Some(11))
        };
        let deny = DeviceRule::DENY_ALL;
        let make = kmsg(true, "m");
        for (rules, opens) in [
            (
                vec![deny, make, kmsg(true, "r"), kmsg(true, "w")],
                [true, true, true],
            ),
            (
                vec![deny, make, kmsg(true, "rw"), kmsg(false, "w")],
                [true, false, false],
            ),
            (vec![deny, make, kmsg(true, "w")], [false, true, false]),
            (
                vec![make, kmsg(false, "r"), kmsg(true, "r")],
                [true, true, true],
            ),
        ] {
            let cgroup = create(&Limits {
                devices: rules.clone(),
                ..Limits::default()
            });
            for (mode, opens) in ["<", ">", "<>"].into_iter().zip(opens) {
                let script =
                    format!("d=$(mktemp -u); mknod $d c 1 11; (: {mode} $d); e=$?; rm $d; exit $e");
                assert_eq!(
                    run(&cgroup, &script).status.success(),
                    opens,
                    "{mode} {rules:?}"
                );
            }
        }
    }

    /// Returns a shell in the cgroup that has said `ready`.
    fn start(cgroup: &Cgroup, script: &str) -> Child {
        let entrance = cgroup.entrance().unwrap();
        let mut child = shell(&entrance, script)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 6];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut said)
            .unwrap();
        assert_eq!(&said, b"ready\n");
        child
    }

    #[test]
    fn everything_in_it_is_killed_and_nothing_is_left() {
        let devices = DEFAULT_DEVICES.to_vec();
        let cgroup = create(&Limits {
            pids: Pids::AtMost(100),
            devices,
            ..Limits::default()
        });
        let script =
            "sleep 1000 & sleep 1000 & (sleep 1000 & sleep 1000 & wait) & echo ready; wait";
        let mut child = start(&cgroup.0, script);
        let id = &cgroup.0.id;
        assert!(ids().unwrap().contains(id));
        let found = Cgroup::open(id).unwrap();
        assert!(!found.hierarchies.is_empty());
        assert_eq!(found.hierarchies.len(), cgroup.0.hierarchies.len());
        found.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        found.remove().unwrap();
        assert!(!ids().unwrap().contains(id));
        assert!(Cgroup::open(id).unwrap().hierarchies.is_empty());
    }

    #[test]
    fn what_the_container_made_below_is_ended_too() {
        let cgroup = create(&Limits::default());
        let below = cgroup.0.hierarchies[0].directory.join("a/b");
        fs_err::create_dir_all(&below).unwrap();
        let script = format!(
            "echo 0 > {}/cgroup.procs; echo ready; sleep 1000; true",
            below.display()
        );
        let mut child = start(&cgroup.0, &script);
        cgroup.0.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        drop(cgroup);
        assert!(!below.exists());
    }

    #[test]
    fn a_limit_that_the_kernel_refuses_is_an_error_and_leaves_nothing() {
        let id = new_id();
        let cpu = Some(Cpu {
            quota: 1,
            period: 1,
        });
        let error = Cgroup::create(
            &id,
            &Limits {
                cpu,
                ..Limits::default()
            },
        )
        .unwrap_err();
        assert_eq!(error.downcast_ref::<Unenforceable>().unwrap().what, "cpu");
        assert!(
            error
                .to_string()
                .starts_with("cannot limit cpu: writing `1"),
            "{error}"
        );
        assert!(!ids().unwrap().contains(&id));
    }

    #[test]
    fn a_second_cgroup_of_the_same_name_is_refused() {
        let first = create(&Limits::default());
        Cgroup::create(&first.0.id, &Limits::default()).unwrap_err();
        assert!(ids().unwrap().contains(&first.0.id));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a b"] {
            Cgroup::create(bad, &Limits::default()).unwrap_err();
        }
    }

    #[test]
    fn an_ordinary_user_is_told_or_gets_none() {
        let as_nobody = |limits: Limits| {
            let drop_rights = move || {
                // Of this thread alone, unlike setuid(3).
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
                Cgroup::create(&new_id(), &limits)
            };
            std::thread::spawn(drop_rights).join().unwrap()
        };
        let default = Limits {
            devices: DEFAULT_DEVICES.to_vec(),
            ..Limits::default()
        };
        let cgroup = as_nobody(default).unwrap();
        assert!(cgroup.hierarchies.is_empty() && !cgroup.guards_devices());
        assert!(matches!(cgroup.entrance().unwrap(), Entrance::Tasks(files) if files.is_empty()));
        assert_eq!(cgroup.view(), View::default());
        for (limits, what) in [
            (
                Limits {
                    pids: Pids::AtMost(5),
                    ..Limits::default()
                },
                "pids",
            ),
            (
                Limits {
                    memory: Some(1 << 24),
                    ..Limits::default()
                },
                "memory",
            ),
        ] {
            let error = as_nobody(limits).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("cannot limit {what}: ")),
                "{error}"
            );
            assert!(
                error
                    .downcast_ref::<Unenforceable>()
                    .unwrap()
                    .cure
                    .is_some()
            );
        }
    }

    /// Needs cgroup v2: where there is none, it runs itself in a virtual machine.
    #[test]
    fn an_ordinary_user_limits_below_a_delegated_cgroup() {
        const NAME: &str =
            "runtime::cgroup::tests::an_ordinary_user_limits_below_a_delegated_cgroup";
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            return limit_below_a_delegated_cgroup();
        }
        let this = std::env::current_exe().unwrap();
        let mut machine = Command::new("scripts/test-vm");
        machine.args([this.as_os_str(), "--".as_ref(), this.as_os_str()]);
        let inside = machine.args(["--exact", NAME]).output().unwrap();
        let said = String::from_utf8_lossy(&inside.stdout);
        assert!(
            inside.status.success() && said.contains("1 passed"),
            "{inside:?}"
        );
    }

    fn limit_below_a_delegated_cgroup() {
        const NOBODY: u32 = 65534;
        let write = |path: &Path, value: &str| limit::overwrite(path, value).unwrap();
        let (root, outer) = (Path::new(ROOT), Path::new(ROOT).join("outer"));
        let (delegated, own) = (outer.join("delegated"), outer.join("delegated/own"));
        fs_err::create_dir_all(&own).unwrap();
        write(&root.join("cgroup.subtree_control"), "+memory +pids");
        write(&outer.join("cgroup.subtree_control"), "+memory +pids");
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            fs_err::os::unix::fs::chown(delegated.join(file), Some(NOBODY), None).unwrap();
        }
        write(&own.join("cgroup.procs"), "0");
        let as_nobody = || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
            let limits = Limits {
                memory: Some(1 << 24),
                pids: Pids::AtMost(1),
                ..Limits::default()
            };
            let cgroup = Cgroup::create(&new_id(), &limits)?;
            let directory = cgroup.hierarchies[0].directory.clone();
            let script = format!(
                "echo 0 > {}/cgroup.procs && (exit 0); exit 0",
                directory.display()
            );
            let forked = Command::new("sh").args(["-c", &script]).output()?;
            let found = ids()?.contains(&cgroup.id);
            let cpu = Some(Cpu {
                quota: 5000,
                period: 10000,
            });
            let refused = Cgroup::create(
                &new_id(),
                &Limits {
                    cpu,
                    ..Limits::default()
                },
            )
            .unwrap_err();
            cgroup.remove()?;
            anyhow::Ok((directory, forked, found, refused))
        };
        let outcome = std::thread::scope(|scope| scope.spawn(as_nobody).join());
        write(&root.join("cgroup.procs"), "0");
        end::remove(&outer).unwrap();
        let (directory, forked, found, refused) = outcome.unwrap().unwrap();
        assert!(directory.starts_with(delegated.join(PARENT)) && found);
        assert!(
            !forked.status.success() && !forked.stderr.is_empty(),
            "{forked:?}"
        );
        let refused = refused.downcast::<Unenforceable>().unwrap();
        assert_eq!(refused.what, "cpu");
        assert!(refused.cure.unwrap().contains("cgroup.controllers"));
    }

    #[test]
    fn swap_without_memory_or_below_it_is_refused() {
        for (memory, swap) in [(None, 1 << 24), (Some(1 << 25), 1 << 24)] {
            let limits = Limits {
                memory,
                swap: Some(swap),
                ..Limits::default()
            };
            let error = Cgroup::create(&new_id(), &limits).unwrap_err().to_string();
            assert!(error.contains("memory"), "{error}");
        }
    }

    #[test]
    fn the_view_names_each_hierarchy_and_its_controllers() {
        let hierarchy = |name: &str| Hierarchy {
            name: name.to_owned(),
            directory: PathBuf::new(),
        };
        let cgroup = |version, names: &[&str]| Cgroup {
            id: "x".to_owned(),
            version,
            hierarchies: names.iter().copied().map(hierarchy).collect(),
            guards_devices: false,
            notices: Vec::new(),
        };
        let v1 = cgroup(Version::V1, &["pids", "cpu,cpuacct"]).view();
        let mounts: Vec<_> = v1
            .mounts
            .iter()
            .map(|mount| (mount.name.as_str(), mount.fs_type, mount.options.len()))
            .collect();
        assert_eq!(
            mounts,
            [
                ("", "tmpfs", 2),
                ("pids", "cgroup", 1),
                ("cpu,cpuacct", "cgroup", 2)
            ]
        );
        let link = |name: &str| (name.to_owned(), "cpu,cpuacct".to_owned());
        assert_eq!(v1.symlinks, [link("cpu"), link("cpuacct")]);
        let v2 = cgroup(Version::V2, &[""]).view();
        assert_eq!(v2.mounts, [Mount::new("", "cgroup2", [])]);
    }
}
