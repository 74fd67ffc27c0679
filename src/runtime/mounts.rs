//! The mounts of a container, made by its first process inside its root.

use crate::runtime::options::{Bind, Options};
use crate::runtime::plan::Mount;
use crate::runtime::target::{Kind, Root};
use crate::sys::kernel::{MountAttributes, mount_setattr};
use anyhow::{Context, Result, bail};
use nix::libc;
use rustix::fs::{CWD, FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, move_mount,
    open_tree,
};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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
    /// A new `proc` or `sysfs`, attached nowhere yet.
    New(OwnedFd),
    Nothing,
}

/// Takes hold of what has to be taken hold of while the host's root is still there.
///
/// That is what binds show, because the host's paths mean something else afterwards; and `proc` and `sysfs`,
/// of which the kernel makes new ones in a user namespace only where a whole one can be seen (`mount_namespaces(7)`).
pub(crate) fn prepare(mounts: &[Mount]) -> Result<Vec<Prepared<'_>>> {
    let prepared = mounts.iter().map(|mount| {
        let held = match (mount.options.bind, mount.kind.as_str()) {
            (Some(bind), _) => Held::Tree(take_tree(&mount.source, bind)?),
            (None, "proc" | "sysfs") => Held::New(new_detached(mount)?),
            _ => Held::Nothing,
        };
        Ok(Prepared { mount, held })
    });
    prepared.collect()
}

fn new_detached(mount: &Mount) -> Result<OwnedFd> {
    let context = || format!("mounting `{}`", mount.target.display());
    let new = fsopen(mount.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC).with_context(context)?;
    fsconfig_set_string(&new, "source", &mount.source).with_context(context)?;
    fsconfig_create(&new).with_context(context)?;
    let attributes = u32::try_from(attributes(mount.options.flags)).with_context(context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    match fsmount(&new, FsMountFlags::FSMOUNT_CLOEXEC, attributes) {
        Err(Errno::PERM) => bail!(
            "mounting `{}`: the host's own is partly masked, so the kernel refuses a new one here",
            mount.target.display()
        ),
        other => other.with_context(context),
    }
}

/// Clones the mount at `source`, attached nowhere (`open_tree(2)`).
pub(crate) fn take_tree(source: &Path, bind: Bind) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if bind == Bind::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, source, flags)
        .with_context(|| format!("opening `{}` to mount it", source.display()))
}

impl Prepared<'_> {
    /// Returns where it goes.
    pub(crate) fn target(&self) -> &Path {
        &self.mount.target
    }

    /// Tells whether this stands for the container's cgroups, however many mounts those need.
    pub(crate) fn shows_cgroup(&self) -> bool {
        matches!(self.held, Held::Nothing)
            && matches!(self.mount.kind.as_str(), "cgroup" | "cgroup2")
    }

    /// Mounts it. This process's root is the container's.
    pub(crate) fn attach(&self, root: Root<'_>) -> Result<()> {
        let Mount {
            target, options, ..
        } = self.mount;
        match &self.held {
            Held::Tree(tree) => attach_tree(tree.as_fd(), options, target, root),
            Held::New(new) => {
                let place = root.plain_directory(target)?;
                move_here(new.as_fd(), place.as_fd())
            }
            Held::Nothing => mount_new(self.mount, root),
        }
        .with_context(|| format!("mounting `{}`", target.display()))
    }
}

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
    let place = root.create(target, kind)?;
    let propagation = options
        .propagation
        .map_or(libc::MS_PRIVATE, |flags| flags.bits().into());
    // Flags that the source has and nobody asked for stay, locked ones too. A read-only
    // recursive bind is read-only all the way down.
    let change = MountAttributes {
        set: attributes(options.flags),
        clear: 0,
        propagation: propagation & !libc::MS_REC,
    };
    mount_setattr(source, options.bind == Some(Bind::Recursive), change)?;
    move_here(source, place.as_fd())
}

/// Attaches the mount behind `source` on `place`.
pub(crate) fn move_here(source: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(source, "", place, "", flags)?;
    Ok(())
}

/// The `MOUNT_ATTR_*` bits of mount flags (`mount_setattr(2)`).
fn attributes(flags: MountFlags) -> u64 {
    [
        (MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ]
    .iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |bits, (_, attribute)| bits | attribute)
}

/// Mounts a file system of the kernel's.
fn mount_new(wanted: &Mount, root: Root<'_>) -> Result<()> {
    // Nothing of the container runs yet, and no volume of others is mounted before these.
    let is_kernels = ["/dev", "/sys"]
        .iter()
        .any(|top| wanted.target.starts_with(top));
    let place = if is_kernels {
        root.plain_directory(&wanted.target)?
    } else {
        root.create(&wanted.target, Kind::Directory)?
    };
    let data = CString::new(wanted.options.data.as_str())?;
    let source = wanted.source.as_os_str();
    // The descriptor's own name, through the container's new /proc.
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    Ok(mount(
        source,
        place,
        wanted.kind.as_str(),
        wanted.options.flags,
        Some(data.as_c_str()),
    )?)
}

/// Hides `path` from the container: files behind `/dev/null`, directories behind an empty one.
pub(crate) fn mask(path: &Path, root: Root<'_>) -> Result<()> {
    let place = match root.open(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.with_context(|| format!("opening `{}` to mask it", path.display()))?,
    };
    let context = || format!("masking `{}`", path.display());
    if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory {
        let name = format!("/proc/self/fd/{}", place.as_raw_fd());
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        return mount("tmpfs", name, "tmpfs", flags, Some(c"size=0k")).with_context(context);
    }
    let name = format!("/proc/self/fd/{}", place.as_raw_fd());
    mount_bind("/dev/null", name).with_context(context)
}

/// Makes `path` read-only for the container.
pub(crate) fn protect(path: &Path, root: Root<'_>) -> Result<()> {
    let context = || format!("making `{}` read-only", path.display());
    let place = match root.open(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.with_context(context)?,
    };
    let copy = open_tree(
        &place,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .with_context(context)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let change = MountAttributes {
        set: attributes(flags),
        ..MountAttributes::default()
    };
    mount_setattr(copy.as_fd(), false, change).with_context(context)?;
    move_here(copy.as_fd(), place.as_fd()).with_context(context)
}
