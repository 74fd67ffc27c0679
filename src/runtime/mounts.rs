//! The mounts of a container, made by its first process inside its root.

use crate::narration::Step;
use crate::runtime::join::Namespace;
use crate::runtime::options::{Bind, Options};
use crate::runtime::plan::Mount;
use crate::runtime::target::{Kind, Root};
use crate::runtime::told;
use crate::sys::kernel::{MountAttributes, mount_setattr};
use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use rustix::fs::{
    CWD, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree, unmount,
};
use rustix::process::fchdir;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A mount, with what it shows already held if that had to be taken hold of outside.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    mount: &'a Mount,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// A bind: a clone of the host's mount.
    Tree(OwnedFd),
    /// A new file system of the kernel's, attached nowhere yet.
    New(OwnedFd),
    /// The container's cgroups, however many mounts those need.
    Cgroup,
}

/// Takes hold of what has to be taken hold of while the host's root is still there.
///
/// That is what binds show, because the host's paths mean something else afterwards; and `proc` and `sysfs`,
/// of which the kernel makes new ones in a user namespace only where a whole one can be seen (`mount_namespaces(7)`).
///
/// The processes to be seen are those of the PID namespace that is `joined`, if one is.
pub(crate) fn prepare<'a>(
    mounts: &'a [Mount],
    joined: Option<&Namespace>,
) -> Result<Vec<Prepared<'a>>> {
    let prepared = mounts.iter().map(|mount| {
        let held = match (mount.options.bind, mount.kind.as_str()) {
            (Some(bind), _) => Held::Tree(take(mount, bind)?),
            (None, "cgroup" | "cgroup2") => Held::Cgroup,
            (None, kind) => {
                let new = match joined.filter(|_| kind == "proc") {
                    Some(namespace) => processes_of(namespace, mount),
                    None => new_of(mount),
                };
                Held::New(new.with_context(|| format!("mounting `{}`", mount.target.display()))?)
            }
        };
        Ok(Prepared { mount, held })
    });
    prepared.collect()
}

fn take(mount: &Mount, bind: Bind) -> Result<OwnedFd> {
    let tree = match &mount.elsewhere {
        Some(elsewhere) => elsewhere.take()?,
        None => take_tree(&mount.source, mount.options.subpath.as_deref(), bind)?,
    };
    if let Some(idmap) = &mount.idmap {
        idmap.apply(tree.as_fd()).with_context(|| {
            let (source, target) = (mount.source.display(), mount.target.display());
            format!("mounting `{source}` at `{target}` with `idmap`")
        })?;
    }
    Ok(tree)
}

fn processes_of(namespace: &Namespace, mount: &Mount) -> Result<OwnedFd> {
    let processes = namespace.processes()?;
    let change = MountAttributes {
        set: attributes(mount.options.flags),
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    mount_setattr(processes.as_fd(), false, change)?;
    Ok(processes)
}

fn new_of(mount: &Mount) -> Result<OwnedFd> {
    let Options { flags, data, .. } = &mount.options;
    let words = data.split(',').filter(|word| !word.is_empty());
    let mut options: Vec<_> = words
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        })
        .collect();
    // These are the file system's, not the mount's.
    let own = [
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
    ];
    let own = own.iter().filter(|(flag, _)| flags.contains(*flag));
    options.extend(own.map(|(_, name)| (*name, None)));
    new_mount(&mount.kind, &mount.source, options, *flags)
}

/// Makes a new mount of a file system of the kernel's, attached nowhere (fsopen(2), fsmount(2)).
///
/// Nothing here or where it is attached goes through a path in `/proc`, which an image could try to put elsewhere.
pub(crate) fn new_mount<'a>(
    kind: &str,
    source: &Path,
    options: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    flags: MountFlags,
) -> Result<OwnedFd> {
    let new = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .with_context(|| format!("opening the file system `{kind}`"))?;
    fsconfig_set_string(&new, "source", source).context("naming the source")?;
    for (name, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&new, name, value),
            None => fsconfig_set_flag(&new, name),
        }
        .with_context(|| format!("setting the {kind} option `{name}`"))
        .map_err(|error| explained(error, new.as_fd()))?;
    }
    fsconfig_create(&new)
        .with_context(|| format!("making a {kind}"))
        .map_err(|error| explained(error, new.as_fd()))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes(flags))?);
    match fsmount(&new, FsMountFlags::FSMOUNT_CLOEXEC, attributes) {
        Err(Errno::PERM) if matches!(kind, "proc" | "sysfs") => {
            bail!("the host's own is partly masked, so the kernel refuses a new one here")
        }
        other => other.with_context(|| format!("mounting a {kind}")),
    }
}

/// Clones the mount at `source`, or at a path below it that does not lead out of it, attached nowhere (`open_tree(2)`).
pub(crate) fn take_tree(source: &Path, subpath: Option<&Path>, bind: Bind) -> Result<OwnedFd> {
    let context = || format!("opening `{}` to mount it", source.display());
    let Some(subpath) = subpath else {
        let flags = clone_flags(bind == Bind::Recursive);
        return open_tree(CWD, source, flags).with_context(context);
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(source, flags, Mode::empty()).with_context(context)?;
    clone_below(source.as_fd(), subpath, bind == Bind::Recursive)
}

/// Clones what is at `subpath` below `source`. What lies there is the container's own doing: it may be a symlink to anywhere.
fn clone_below(source: BorrowedFd<'_>, subpath: &Path, recursive: bool) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let below = loop {
        match openat2(source, subpath, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::XDEV) => bail!("the subpath `{}` leads out of it", subpath.display()),
            other => {
                break other
                    .with_context(|| format!("opening the subpath `{}`", subpath.display()))?;
            }
        }
    };
    clone_of(below.as_fd(), recursive)
        .with_context(|| format!("taking the subpath `{}`", subpath.display()))
}

impl Prepared<'_> {
    /// Returns with which flags the container's cgroups are to be mounted, however many mounts those need, if this
    /// stands for them.
    pub(crate) fn shows_cgroup(&self) -> Option<MountFlags> {
        matches!(self.held, Held::Cgroup).then_some(self.mount.options.flags)
    }

    /// Tells whether this is a new, empty `/dev`; one of the host's must not be added to.
    pub(crate) fn is_new_dev(&self) -> bool {
        matches!(self.held, Held::New(_)) && self.mount.target == Path::new("/dev")
    }

    /// Returns what there is to tell of it.
    pub(crate) fn told(&self) -> Step {
        told::mount(self.mount)
    }

    /// Mounts it. This process's root is the container's.
    pub(crate) fn attach(&self, root: Root<'_>) -> Result<()> {
        let Mount {
            target,
            options,
            source,
            ..
        } = self.mount;
        match &self.held {
            Held::Tree(tree) => attach_tree(tree.as_fd(), options, target, root)
                .with_context(|| format!("mounting {}", shown(tree.as_fd(), source))),
            Held::New(new) => match &options.subpath {
                None => attach_new(new.as_fd(), target, root),
                Some(subpath) => attach_below(new.as_fd(), subpath, target, root),
            },
            Held::Cgroup => Ok(()),
        }
        .with_context(|| format!("mounting `{}`", target.display()))
    }
}

/// Attaches a new mount at `target`; what belongs to the kernel goes exactly there, through no symlink of the image.
fn attach_new(new: BorrowedFd<'_>, target: &Path, root: Root<'_>) -> Result<()> {
    let is_kernels = ["/dev", "/proc", "/sys"]
        .iter()
        .any(|top| target.starts_with(top));
    let place = if is_kernels {
        root.plain_directory(target)?
    } else {
        let place = root.create(target, Kind::Directory)?;
        refuse_proc(place.as_fd())?;
        place
    };
    move_here(new, place.as_fd())
}

/// Attaches what is at `subpath` in a new mount. Only what is attached can be cloned (`open_tree(2)`, before Linux 6.15).
fn attach_below(new: BorrowedFd<'_>, subpath: &Path, target: &Path, root: Root<'_>) -> Result<()> {
    attach_new(new, target, root)?;
    let below = clone_below(new, subpath, false)?;
    fchdir(new).context("entering it")?;
    unmount(".", UnmountFlags::DETACH).context("taking it away again")?;
    fchdir(root.0).context("returning to the root")?;
    attach_tree(below.as_fd(), &Options::parse(["bind"]), target, root)
}

/// Says what is mounted: the kernel's word for a file on a directory is only "Not a directory".
fn shown(tree: BorrowedFd<'_>, source: &Path) -> String {
    let is_directory =
        |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let kind = if fstat(tree).is_ok_and(is_directory) {
        "the directory"
    } else {
        "the file"
    };
    format!("{kind} `{}`", source.display())
}

/// Refuses to cover a part of `/proc`: a symlink of the image leads there, and what is masked could come
/// to lie elsewhere (CVE-2023-28642, CVE-2025-52881).
fn refuse_proc(place: BorrowedFd<'_>) -> Result<()> {
    ensure!(
        fstatfs(place)?.f_type != PROC_SUPER_MAGIC,
        "it is a symlink of the image that leads into `/proc`"
    );
    Ok(())
}

/// Files that tell of the machine, and may tell of the container's limits instead; and on which file system they are.
const KERNELS_FILES: [(&str, FsWord); 5] = [
    ("/proc/cpuinfo", PROC_SUPER_MAGIC),
    ("/proc/meminfo", PROC_SUPER_MAGIC),
    ("/proc/stat", PROC_SUPER_MAGIC),
    ("/proc/swaps", PROC_SUPER_MAGIC),
    // SYSFS_MAGIC of linux/magic.h.
    ("/sys/devices/system/cpu/online", 0x6265_6572),
];

/// Attaches a cloned mount at `target`, which is made if it is missing, as a file or a directory.
pub(crate) fn attach_tree(
    source: BorrowedFd<'_>,
    options: &Options,
    target: &Path,
    root: Root<'_>,
) -> Result<()> {
    let is_directory = FileType::from_raw_mode(fstat(source)?.st_mode) == FileType::Directory;
    let kind = if is_directory {
        Kind::Directory
    } else {
        Kind::File
    };
    let kernels = KERNELS_FILES
        .iter()
        .find(|(path, _)| target == Path::new(path));
    let place = if let Some((_, magic)) = kernels {
        root.kernels_file(target, *magic)?
    } else {
        let place = if ["/proc", "/sys"].iter().any(|top| target == Path::new(top)) {
            // The host's, where there cannot be a new one: exactly there, through no symlink of the image.
            root.plain_directory(target)?
        } else {
            root.create(target, kind)?
        };
        refuse_proc(place.as_fd())?;
        place
    };
    change_attributes(source, options)?;
    move_here(source, place.as_fd())
}

/// Makes a cloned mount what its options say.
///
/// Flags that the source has and nobody asked for stay, locked ones too.
fn change_attributes(tree: BorrowedFd<'_>, options: &Options) -> Result<()> {
    let recursive = options.bind == Some(Bind::Recursive);
    let propagation = options
        .propagation
        .map_or(libc::MS_PRIVATE, |flags| flags.bits().into());
    let propagation = MountAttributes {
        propagation: propagation & !libc::MS_REC,
        ..MountAttributes::default()
    };
    let set = attributes(options.flags);
    // The three ways to keep access times are one field (mount_setattr(2)).
    let times = if set & libc::MOUNT_ATTR__ATIME == 0 {
        0
    } else {
        libc::MOUNT_ATTR__ATIME
    };
    let flags = MountAttributes {
        set,
        clear: attributes(options.cleared) | times,
        ..MountAttributes::default()
    };
    // What restricts may go all the way down, but `ro` does so only as `rro`.
    let is_of_one = options.flags.contains(MountFlags::RDONLY) && !options.recursive_read_only;
    if !recursive || (!is_of_one && options.cleared.is_empty()) {
        let both = MountAttributes {
            propagation: propagation.propagation,
            ..flags
        };
        return Ok(mount_setattr(tree, recursive, both)?);
    }
    mount_setattr(tree, true, propagation)?;
    Ok(mount_setattr(tree, false, flags)?)
}

/// Attaches the mount behind `source` on `place`.
pub(crate) fn move_here(source: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(source, "", place, "", flags)?;
    Ok(())
}

/// The `MOUNT_ATTR_*` bits of mount flags (`mount_setattr(2)`).
pub(crate) fn attributes(flags: MountFlags) -> u64 {
    [
        (MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (MountFlags::NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME),
        (MountFlags::STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
    ]
    .iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |bits, (_, attribute)| bits | attribute)
}

/// Adds what a file system itself says of a failure, which it leaves to be read from the descriptor.
pub(crate) fn explained(error: anyhow::Error, context: BorrowedFd<'_>) -> anyhow::Error {
    let mut text = [0; 512];
    match rustix::io::read(context, &mut text) {
        Ok(length) if length > 0 => {
            let said = String::from_utf8_lossy(&text[..length]);
            error.context(said.trim_start_matches("e ").trim().to_owned())
        }
        _ => error,
    }
}

/// Clones the mount that `place` is on, from there down, attached nowhere (`open_tree(2)`).
pub(crate) fn clone_of(place: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(
        place,
        "",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}
