//! What a file system must be able to do to hold a store, tried out once, when the store is created.

use crate::store::layout::Layout;
use crate::store::stage::remove_tree;
use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use fs_err as fs;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

/// What was found of the file system when the store was created, for `info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// `ext4`, `xfs`, `tmpfs` …
    pub(crate) file_system: String,
    pub(crate) attributes: Attributes,
    pub(crate) kernel: String,
    pub(crate) probed: DateTime<Utc>,
}

/// The extended attributes by which overlayfs marks opaque directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attributes {
    /// `trusted.overlay.*`, which need root of the machine.
    Trusted,
    /// `user.overlay.*`, with the mount option `userxattr`: all that a user namespace may set.
    User,
}

impl Attributes {
    /// Returns the kind that containers under this ID mapping have.
    fn under(mapping: &str) -> Self {
        if mapping == "root" {
            Self::Trusted
        } else {
            Self::User
        }
    }

    /// Returns the name of the attribute of opaque directories.
    fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

impl Facts {
    /// Returns what can be told without trying anything out.
    pub(super) fn of(layout: &Layout, mapping: &str) -> Result<Self> {
        Ok(Self {
            file_system: file_system(layout.version())?,
            attributes: Attributes::under(mapping),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            probed: Utc::now(),
        })
    }
}

/// Tries everything that a store needs in a directory of its own below `layout`, and leaves nothing there.
pub(super) fn probe(layout: &Layout, mapping: &str) -> Result<Facts> {
    let attributes = Attributes::under(mapping);
    let file_system = file_system(layout.version())?;
    let directory = layout.temporary().join("probe");
    let tried = try_out(&directory, attributes)
        .with_context(|| format!("this file system ({file_system}) cannot hold a store"));
    let removed = remove_tree(&directory);
    tried.and(removed)?;
    Facts::of(layout, mapping)
}

/// Makes two layers and mounts them as a container would.
fn try_out(directory: &Path, attributes: Attributes) -> Result<()> {
    let [below, above, upper, work] =
        ["below", "above", "upper", "work"].map(|name| directory.join(name));
    for layer in [directory, &below, &above, &upper, &work] {
        fs::create_dir(layer)?;
    }
    for layer in [&below, &above] {
        fs::create_dir(layer.join("opaque"))?;
    }
    for file in ["kept", "gone", "opaque/hidden"] {
        fs::write(below.join(file), "")?;
    }
    fs::hard_link(below.join("kept"), below.join("link")).context("it has no hard links")?;
    let whiteout = above.join("gone");
    rustix::fs::mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0)
        .context("it holds no whiteouts: making a device node 0:0")?;
    let value = (b"y", XattrFlags::empty());
    rustix::fs::setxattr(above.join("opaque"), attributes.opaque(), value.0, value.1)
        .with_context(|| format!("it keeps no extended attribute `{}`", attributes.opaque()))?;
    for entry in rustix::fs::Dir::read_from(fs::File::open(&below)?)? {
        // overlayfs(5): readdir must tell types, or whiteouts show.
        ensure!(
            entry?.file_type() != FileType::Unknown,
            "its directories do not tell the types of files (d_type)"
        );
    }
    let root = mount(&[&above, &below], &upper, &work, attributes)?;
    check_overlay(&root).context("overlayfs does not work as it should there")
}

/// Mounts an overlay that is in no mount table and goes with its descriptor; layers top first.
fn mount(layers: &[&Path], upper: &Path, work: &Path, attributes: Attributes) -> Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .context("mounting an overlay, which needs root or a user namespace")?;
    // Through descriptors: then no character of a path can have a meaning of its own in the options.
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let handles = layers
        .iter()
        .copied()
        .map(open)
        .collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower = handles.iter().map(name).collect::<Vec<_>>().join(":");
    let configure = || {
        fsconfig_set_string(&context, "lowerdir", lower.as_str())?;
        fsconfig_set_string(&context, "upperdir", name(&upper))?;
        fsconfig_set_string(&context, "workdir", name(&work))?;
        if attributes == Attributes::User {
            fsconfig_set_flag(&context, "userxattr")?;
        }
        fsconfig_create(&context)?;
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
    };
    configure().with_context(|| {
        let said = kernel_messages(&context);
        format!("overlayfs takes no upper directory there{said}")
    })
}

/// Returns what the kernel has to say about a mount that failed, each message after a semicolon (fsopen(2)).
fn kernel_messages(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        text.push_str("; ");
        text.push_str(crate::human::printable(&String::from_utf8_lossy(&buffer[..length])).trim());
    }
    text
}

/// Checks that whiteouts and opaque directories hide, that lower files show, and that all can be changed.
fn check_overlay(root: &OwnedFd) -> Result<()> {
    let is_there = |path: &str| match rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("looking for `{path}`")),
    };
    for (path, expected) in [("kept", true), ("gone", false), ("opaque/hidden", false)] {
        ensure!(
            is_there(path)? == expected,
            "`{path}` is there: {}",
            !expected
        );
    }
    rustix::fs::renameat(root, "kept", root.as_fd(), "renamed").context("renaming a file")?;
    rustix::fs::unlinkat(root, "link", AtFlags::empty()).context("removing a lower file")?;
    if is_there("kept")? || is_there("link")? || !is_there("renamed")? {
        bail!("what was removed is there, or what was renamed is not");
    }
    Ok(())
}

/// Returns the type of the file system that holds `path`, as the mount table has it.
fn file_system(path: &Path) -> Result<String> {
    let status = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .with_context(|| format!("finding the file system of `{}`", path.display()))?;
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(
        type_of_mount(&String::from_utf8_lossy(&table), status.stx_mnt_id)
            .unwrap_or("unknown")
            .to_owned(),
    )
}

/// Returns the file system type of the mount with this ID: the word after the lone dash, `proc_pid_mountinfo(5)`.
fn type_of_mount(table: &str, id: u64) -> Option<&str> {
    let line = table
        .lines()
        .find(|line| line.split(' ').next() == Some(&id.to_string()))?;
    line.split_once(" - ")?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_tells_the_file_system() {
        let table =
            "21 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n210 21 0:5 / /t rw - fuse.x y z\n";
        assert_eq!(type_of_mount(table, 21), Some("ext4"));
        assert_eq!(type_of_mount(table, 210), Some("fuse.x"));
        assert_eq!(type_of_mount(table, 2), None);
    }
}
