//! Entering a container that runs: a process beside its first becomes a command there.
//!
//! What is opened by the number of the container's first process is opened here, in the host's `/proc`, and belongs to it if
//! it runs afterwards still. Of the container's own files nothing is believed: they give a directory and a terminal.
//! Its processes do not see this one before it has no more rights than they have (`seen::appear`).

use crate::runtime::becoming::{Candidate, Profile};
use crate::runtime::cgroup::{Cgroup, Entrance};
use crate::runtime::config::Config;
use crate::runtime::failure::StartError;
use crate::runtime::handshake::{Pending, Streams};
use crate::runtime::join::{Donor, Namespace};
use crate::runtime::plan::{self, Command};
use crate::runtime::running::Running;
use crate::runtime::seccomp::Filter;
use crate::runtime::start::Privilege;
use crate::runtime::target::Root;
use crate::runtime::terminal::Terminal;
use crate::runtime::{configure, seen};
use crate::sys::clone::{Clone, clone};
use crate::sys::message::Channel;
use crate::sys::processes;
use anyhow::{Context, Result, ensure};
use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags, open, stat};
use rustix::process::setsid;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a container may have of its own, as files of `/proc/PID/ns`. The mounts are last: all else is the host's until then.
const NAMESPACES: [(CloneFlags, &str); 6] = [
    (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
    (CloneFlags::CLONE_NEWIPC, "ipc"),
    (CloneFlags::CLONE_NEWUTS, "uts"),
    (CloneFlags::CLONE_NEWNET, "net"),
    (CloneFlags::CLONE_NEWPID, "pid"),
    (CloneFlags::CLONE_NEWNS, "mnt"),
];

/// A command for a container that runs: at first the container's own, for the caller to change.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) command: Command,
    filter: Option<Filter>,
    cgroups_path: PathBuf,
}

impl Visit {
    /// Reads the text of the container's `config.json`.
    pub(crate) fn parse(config: &str) -> Result<Self> {
        let config: Config<'_> = serde_json::from_str(config).context("reading the OCI spec")?;
        let filter = config.linux.seccomp.map(|text| Filter::compile(text.get()));
        Ok(Self {
            command: plan::command(config.process)?,
            filter: filter.transpose()?,
            cgroups_path: config.linux.cgroups_path,
        })
    }
}

/// Starts the command of `visit` in the container of `host`, its first process, and returns when it was exec'ed.
///
/// Needs a process with one thread, in the container's user namespace.
pub(crate) fn enter(
    visit: &Visit,
    host: &Donor,
    privilege: Privilege,
    streams: Streams,
) -> Result<Running> {
    processes::are_shown()?;
    let namespaces = namespaces(host.pid());
    let cgroup = Cgroup::open(&visit.cgroups_path)?;
    // Now that all is open by its number; or not, as it has ended.
    ensure!(host.runs()?, "the container has ended");
    let namespaces = namespaces?;
    let joins_processes = namespaces
        .iter()
        .any(|it| it.kind == CloneFlags::CLONE_NEWPID);
    if !joins_processes {
        seen::hide()?;
    }
    let entrance = cgroup.entrance()?;
    let (ours, childs) = Channel::pair().context("making a channel to the container")?;
    let cgroup = match &entrance {
        Entrance::Directory(directory) => Some(directory.as_fd()),
        Entrance::Tasks(_) => None,
    };
    match clone(CloneFlags::empty(), cgroup)? {
        Clone::Child => {
            drop(ours);
            let candidate = Candidate {
                command: &visit.command,
                filter: visit.filter.as_ref(),
                can_set_groups: privilege.can_set_groups,
                joins_processes,
                parent: &childs,
            };
            let prepared = prepare(candidate, &namespaces, &entrance, &streams);
            candidate.execute(prepared, streams, privilege.program)
        }
        Clone::Parent(child) => {
            drop((childs, streams));
            let first = Pending {
                child,
                channel: ours,
            };
            Ok(first.executed()?.run(Vec::new(), None))
        }
    }
}

/// Opens the namespaces of the process that are not this one's as well, in the order in which they are entered.
fn namespaces(pid: u32) -> Result<Vec<Namespace>> {
    let mut namespaces = Vec::new();
    for (kind, name) in NAMESPACES {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{name}"));
        let of = |path: &Path| stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        let own = of(&Path::new("/proc/self/ns").join(name));
        let is_shared = own.is_ok_and(|own| of(&path) == Ok(own));
        if !is_shared {
            namespaces.push(Namespace::open(kind, &path)?);
        }
    }
    Ok(namespaces)
}

fn prepare(
    candidate: Candidate<'_>,
    namespaces: &[Namespace],
    entrance: &Entrance,
    streams: &Streams,
) -> Result<()> {
    let command = candidate.command;
    if let Entrance::Tasks(_) = entrance {
        entrance.enter().context("entering the cgroup")?;
    }
    // Without a session of its own the command could reach the caller's terminal as /dev/tty.
    setsid().context("starting a session")?;
    let profile = Profile::of(command)?;
    configure::set_oom_score(command)?;
    for namespace in namespaces {
        namespace.enter()?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/", flags, Mode::empty()).context("opening the container's root")?;
    let terminal = command
        .terminal
        .map(|(rows, columns)| Terminal::open(rows, columns));
    let terminal = terminal.transpose()?;
    let directory = directory(&command.directory, Root(root.as_fd()))?;
    drop(root);
    candidate.take_over(terminal, streams, directory, profile)
}

/// Opens the working directory, which is not made.
fn directory(path: &Path, root: Root<'_>) -> Result<OwnedFd, StartError> {
    let refuse = |error: &dyn std::fmt::Display| {
        StartError::CommandNotExecutable(format!(
            "the working directory `{}` cannot be entered: {error}",
            path.display()
        ))
    };
    root.directory(path).map_err(|error| refuse(&error))
}

/// Opens the root of the process, for looking at what is there.
pub(crate) fn root_of(host: &Donor) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", host.pid());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(&path, flags, Mode::empty()).with_context(|| format!("opening `{path}`"))?;
    ensure!(host.runs()?, "the container has ended");
    Ok(root)
}
