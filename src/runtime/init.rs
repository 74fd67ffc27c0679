//! The container's first process, from the clone to the exec.
//!
//! The order matters and is the whole story: cgroup, root, mounts, devices, what is hidden, name,
//! network, terminal, then rights away one after the other, then the command.

use crate::narration::{Step, tell};
use crate::runtime::becoming::{Candidate, Profile};
use crate::runtime::gate::Gate;
use crate::runtime::handshake::{Confinement, Streams};
use crate::runtime::mounts::{self, Prepared};
use crate::runtime::plan::{Node, Plan};
use crate::runtime::target::{Kind, Root};
use crate::runtime::terminal::Terminal;
use crate::runtime::{cgroup_view, configure, hiding, rootfs, told};
use crate::sys::kernel::{MountAttributes, mount_setattr};
use crate::sys::message::Channel;
use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags as Propagation, UnmountFlags, mount_change, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
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

/// Makes this process the container's first and becomes the command, or tells its parent why not.
pub(crate) fn run(
    plan: &Plan,
    root: OwnedFd,
    place: &Path,
    confinement: &Confinement,
    streams: Streams,
    parent: &Channel,
    gate: Option<Gate>,
) -> ! {
    let candidate = Candidate {
        command: &plan.process,
        filter: plan.seccomp.as_ref(),
        can_set_groups: confinement.can_set_groups,
        joins_processes: plan.joined_processes().is_some(),
        parent,
    };
    let prepared = prepare(plan, root, place, confinement, &streams, candidate, gate);
    candidate.execute(prepared, streams, confinement.program)
}

fn prepare(
    plan: &Plan,
    root: OwnedFd,
    place: &Path,
    confinement: &Confinement,
    streams: &Streams,
    candidate: Candidate<'_>,
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
    let profile = Profile::of(&plan.process)?;
    // `/proc` may show the processes of another container later, which this one is not among.
    configure::set_oom_score(&plan.process)?;
    let prepared = mounts::prepare(&plan.mounts, plan.joined_processes())?;
    let root = enter_root(root, plan.root_directory.as_deref(), place)?;
    tell(|| Step::Pivot);
    let inside = Root(root.as_fd());
    mount_all(plan, &prepared, confinement, inside)?;
    let terminal = match plan.process.terminal {
        Some((rows, columns)) => {
            let terminal = Terminal::open(rows, columns)?;
            terminal.become_console(inside)?;
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
    candidate.take_over(terminal, streams, directory, profile)
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
