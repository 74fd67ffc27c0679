//! The container's first process, from the clone to the exec.
//!
//! The order matters and is the whole story: cgroup, root, mounts, devices, what is hidden, name,
//! network, terminal, then rights away one after the other, then the command.

use crate::narration::{self, Step, tell};
use crate::runtime::apparmor::NextProgram;
use crate::runtime::exec::become_command;
use crate::runtime::failure::StartError;
use crate::runtime::gate::Gate;
use crate::runtime::mounts::{self, Prepared};
use crate::runtime::plan::{Node, Plan};
use crate::runtime::seccomp::Filter;
use crate::runtime::start::{Confinement, Report, Streams};
use crate::runtime::target::{Kind, Root};
use crate::runtime::terminal::{self, Terminal};
use crate::runtime::{
    cgroup_view, configure, hiding, identity, reaper, rlimits, rootfs, seen, told,
};
use crate::sys::kernel::{MountAttributes, mount_setattr};
use crate::sys::message::Channel;
use crate::sys::{kernel, program};
use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mount::{
    MountFlags, MountPropagationFlags as Propagation, UnmountFlags, mount_change, unmount,
};
use rustix::process::{
    Signal, chdir, fchdir, getppid, pivot_root, set_parent_process_death_signal,
};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The symlinks of every container's `/dev` (config-linux.md, "Default Devices").
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Makes this process the container's first and becomes the command; returns only the reason why not.
pub(crate) fn run(
    plan: &Plan,
    root: OwnedFd,
    place: &Path,
    confinement: &Confinement,
    streams: Streams,
    parent: &Channel,
    gate: Option<Gate>,
) -> StartError {
    match prepare(plan, root, place, confinement, &streams, parent, gate) {
        Ok(()) => {
            tell(|| told::exec(&plan.process));
            if let Err(error) = seen::appear(plan, parent) {
                return StartError::Setup(format!("{error:#}"));
            }
            if plan.process.has_init {
                return reaper::become_init(&plan.process, streams.handed, confinement.program);
            }
            become_command(
                &plan.process.arguments,
                &plan.process.environment,
                confinement.program,
            )
        }
        Err(error) => match error.downcast::<StartError>() {
            Ok(error) => error,
            Err(error) => StartError::Setup(format!("{error:#}")),
        },
    }
}

fn prepare(
    plan: &Plan,
    root: OwnedFd,
    place: &Path,
    confinement: &Confinement,
    streams: &Streams,
    parent: &Channel,
    gate: Option<Gate>,
) -> Result<()> {
    tell(|| told::clone(plan));
    confinement.enter(plan.namespaces)?;
    for namespace in &plan.joined {
        namespace.enter()?;
    }
    tell(|| Step::EnterCgroup);
    // Without a session of its own the command could reach the caller's terminal as /dev/tty.
    rustix::process::setsid().context("starting a session")?;
    tell(|| Step::Session);
    rustix::process::umask(Mode::empty());
    let profile = plan.process.profile.as_deref();
    let profile = profile.map(|name| NextProgram::open().map(|place| (place, name)));
    let profile = profile.transpose()?;
    // `/proc` may show the processes of another container later, which this one is not among.
    configure::set_oom_score(&plan.process)?;
    let prepared = mounts::prepare(&plan.mounts, plan.joined_processes())?;
    let root = enter_root(root, plan.root_directory.as_deref(), place)?;
    tell(|| Step::Pivot);
    let inside = Root(root.as_fd());
    mount_all(plan, &prepared, confinement, inside)?;
    let terminal = match plan.process.terminal {
        Some((rows, columns)) => {
            let terminal = Terminal::open(rows, columns, inside)?;
            tell(|| Step::Terminal { rows, columns });
            Some(terminal)
        }
        None => None,
    };
    configure::apply(plan)?;
    if let Some(gate) = gate {
        gate.wait()?;
    }
    configure::set_parameters(plan)?;
    hide(plan, inside)?;
    let directory = inside
        .create(&plan.process.directory, Kind::Directory)
        .context("entering the working directory")?;
    tell(|| told::directory(&plan.process));
    if plan.read_only_root {
        let read_only = MountAttributes {
            set: mounts::attributes(MountFlags::RDONLY),
            ..MountAttributes::default()
        };
        // What else the directory's mount may not do, it still may not.
        mount_setattr(root.as_fd(), false, read_only).context("making the root read-only")?;
        tell(|| Step::ReadOnlyRoot);
    }
    // What is left holds descriptors of the container's alone.
    drop((prepared, root));
    attach_streams(plan, terminal, streams, parent)?;
    rustix::process::umask(Mode::from_raw_mode(plan.process.umask));
    drop_rights(plan, directory, confinement, parent)?;
    keep(&streams.handed)?;
    if let Some((place, name)) = profile {
        place.confine(name)?;
        tell(|| Step::Profile { name: name.into() });
    }
    if plan.joined_processes().is_some() {
        let_go(&streams.handed, parent).context("closing descriptors")?;
    }
    confine(plan)
}

/// Puts the container's root in place of the host's, which nothing here can reach afterwards.
///
/// `root` is a mount that is attached nowhere, or the host's `directory`, which is to be seen from this mount namespace.
/// `place` is a directory of the host to attach it on; only this mount namespace sees it there.
fn enter_root(root: OwnedFd, directory: Option<&Path>, place: &Path) -> Result<OwnedFd> {
    // Nothing that is mounted from here on may reach the host (mount_namespaces(7)).
    mount_change("/", Propagation::REC | Propagation::PRIVATE).context("making mounts private")?;
    let root = match directory {
        // Not before: what the clone of a shared mount gets, the host would get.
        Some(directory) => rootfs::take_directory(directory, root.as_fd())?,
        None => root,
    };
    let place = rootfs::open_directory(place)?;
    mounts::move_here(root.as_fd(), place.as_fd()).context("attaching the root")?;
    fchdir(&root).context("entering the root")?;
    // `pivot_root(2)`, "pivot_root(".", ".")": the old root comes to lie on the new one, and goes.
    pivot_root(".", ".").context("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).context("leaving the host's root")?;
    chdir("/").context("entering the root")?;
    Ok(root)
}

/// Mounts everything in the order of the spec, and makes what belongs into a new `/dev`.
fn mount_all(
    plan: &Plan,
    prepared: &[Prepared<'_>],
    confinement: &Confinement,
    root: Root<'_>,
) -> Result<()> {
    let mut has_own_dev = false;
    for mount in prepared {
        if let Some(flags) = mount.shows_cgroup() {
            cgroup_view::mount(&confinement.view, flags, root)?;
            tell(|| mount.told());
            continue;
        }
        mount.attach(root)?;
        tell(|| mount.told());
        has_own_dev |= mount.is_new_dev();
    }
    // Last, so that nothing is mounted over them.
    for node in &plan.nodes {
        if has_own_dev || !node.path.starts_with("/dev") {
            make_node(node, root).with_context(|| format!("making `{}`", node.path.display()))?;
        }
    }
    if has_own_dev {
        for (target, link) in DEVICE_LINKS {
            rustix::fs::symlink(target, link).with_context(|| format!("making `{link}`"))?;
        }
        tell(|| told::devices(&plan.nodes));
    }
    Ok(())
}

fn make_node(node: &Node, root: Root<'_>) -> Result<()> {
    let parent = node.path.parent().unwrap_or(&node.path);
    if parent != Path::new("/dev") {
        root.create(parent, Kind::Directory)?;
    }
    let mode = Mode::from_raw_mode(node.mode);
    match rustix::fs::mknodat(CWD, &node.path, node.kind, mode, node.device) {
        // In the image, or of an earlier start.
        Err(Errno::EXIST) if is_there(node)? => return Ok(()),
        result => result?,
    }
    if (node.uid, node.gid) != (0, 0) {
        std::os::unix::fs::lchown(&node.path, Some(node.uid), Some(node.gid))?;
    }
    Ok(())
}

fn is_there(node: &Node) -> Result<bool> {
    let found = rustix::fs::lstat(&node.path)?;
    Ok(FileType::from_raw_mode(found.st_mode) == node.kind && found.st_rdev == node.device)
}

fn hide(plan: &Plan, root: Root<'_>) -> Result<()> {
    if !plan.masked.is_empty() {
        let mut covers = hiding::Covers::open(root)?;
        for path in &plan.masked {
            covers.mask(Path::new(path), root)?;
        }
    }
    for path in &plan.read_only {
        hiding::protect(Path::new(path), root)?;
    }
    tell(|| Step::Hide {
        masked: plan.masked.clone(),
        read_only: plan.read_only.clone(),
    });
    Ok(())
}

/// Gives the command its standard streams: the terminal, or what the parent handed over.
fn attach_streams(
    plan: &Plan,
    terminal: Option<Terminal>,
    streams: &Streams,
    parent: &Channel,
) -> Result<()> {
    if let Some(terminal) = terminal {
        terminal.take(plan.process.uid)?;
        if plan.joined_processes().is_none() {
            terminal::control()?;
        }
        return parent
            .send(&Report::Terminal, Some(terminal.master.as_fd()))
            .context("handing the terminal over");
    }
    if let Some(stdin) = &streams.stdin {
        rustix::stdio::dup2_stdin(stdin)?;
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        rustix::stdio::dup2_stdin(null.context("opening /dev/null")?)?;
    }
    if let Some((stdout, stderr)) = &streams.output {
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
    }
    Ok(())
}

fn drop_rights(
    plan: &Plan,
    directory: OwnedFd,
    confinement: &Confinement,
    parent: &Channel,
) -> Result<()> {
    let command = &plan.process;
    // From here on others in the container may have the same IDs and rights. Not before: what is non-dumpable in a user
    // namespace may not write to its own /proc.
    program::hide().context("hiding this process")?;
    match kernel::join_new_session_keyring() {
        // Without keyrings, or without the right to one, there is none of the caller's to leak.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) => {}
        other => other.context("leaving the caller's session keyring")?,
    }
    rlimits::set(&command.limits)?;
    identity::bound(command.capabilities.bounding)?;
    tell(|| told::capabilities(command));
    // As root if the user may not: Docker lets a command start where its user could not go itself. The other way
    // round where root may not either (a user's own FUSE, NFS).
    let as_root = fchdir(&directory);
    identity::assume(command, confinement.can_set_groups)?;
    tell(|| told::user(command));
    if as_root == Err(Errno::ACCESS) {
        fchdir(&directory).context("entering the working directory")?;
    } else {
        as_root.context("entering the working directory")?;
    }
    drop(directory);
    // Reached by descriptor and inside the root, so it cannot be unreachable; make sure all the same.
    let here = rustix::process::getcwd(Vec::new()).context("finding the working directory")?;
    ensure!(
        here.as_bytes().starts_with(b"/"),
        "the working directory is outside the container"
    );
    kernel::reset_signals().context("resetting the signals")?;
    // After the IDs: changing them clears it.
    end_with(parent)?;
    kernel::close_descriptors_on_exec().context("closing descriptors")
}

/// Sees to it that this process ends with its parent, the monitor. If that died before, nobody waits for this one.
pub(super) fn end_with(parent: &Channel) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("asking to end with the monitor")?;
    ensure!(!is_orphan(parent), "the monitor died");
    Ok(())
}

/// Lets the command have what was handed over for it, which has lain on these numbers since ddock was started.
fn keep(handed: &[OwnedFd]) -> Result<()> {
    for descriptor in handed {
        fcntl_setfd(descriptor, FdFlags::empty()).context("handing a descriptor over")?;
    }
    if !handed.is_empty() {
        tell(|| Step::Descriptors {
            count: handed.len(),
        });
    }
    Ok(())
}

/// Closes what the monitor holds of the host and its child has too: those who may trace this process could open it again.
fn let_go(handed: &[OwnedFd], parent: &Channel) -> std::io::Result<()> {
    let handed = handed.iter().map(AsFd::as_fd);
    let kept = handed.chain([parent.as_fd()]);
    let kept: Vec<_> = kept.chain(narration::way_out()).collect();
    kernel::close_descriptors_but(&kept)
}

/// Takes away system calls and capabilities, last of all: what comes after needs what the filter allows.
fn confine(plan: &Plan) -> Result<()> {
    // The filter may not let it be told afterwards.
    if let Some(filter) = &plan.seccomp {
        tell(|| told::filter(filter));
    }
    let load = || plan.seccomp.as_ref().map_or(Ok(()), Filter::load);
    if plan.process.no_new_privileges {
        identity::restrict(&plan.process)?;
        return load();
    }
    // The kernel takes a filter from whoever has CAP_SYS_ADMIN or can gain nothing by an exec (seccomp(2)).
    load()?;
    identity::restrict(&plan.process)
}

/// Outside of a new PID namespace a dead parent's children are taken by another process; inside it
/// the parent is always 0, so the channel tells.
fn is_orphan(parent: &Channel) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ends = [PollFd::new(parent, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let hung_up = poll(&mut ends, Some(&now)).is_ok_and(|ready| ready > 0)
        && ends[0].revents().contains(PollFlags::HUP);
    hung_up || getppid().is_some_and(rustix::process::Pid::is_init)
}
