//! Trees written out line by line: two are the same if their listings are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::harness::image::digest;

/// Times from here on (2025) are those of the test itself.
const NOW: i64 = 1_735_689_600;

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Type and mode, owner, device or link target, attributes, the first name of the same file, size and digest.
    pub(crate) what: String,
    /// Seconds and nanoseconds.
    pub(crate) time: (i64, i64),
    is_directory: bool,
}

impl Line {
    fn ghost() -> Line {
        Line {
            what: "a name of nothing".to_owned(),
            time: (0, 0),
            is_directory: false,
        }
    }

    /// Tells whether it is a directory that was made or changed by the test's own doing.
    pub(crate) fn is_new_directory(&self) -> bool {
        self.is_directory && self.time.0 >= NOW
    }

    /// Tells whether it is as ddock makes a directory that no layer lists.
    pub(crate) fn is_unlisted_directory(&self) -> bool {
        self.is_directory && self.what == "40755 0:0" && self.time == (0, 0)
    }
}

/// Describes all paths of a tree but its root.
pub(crate) fn listing(root: &Path) -> BTreeMap<String, Line> {
    let mut lines = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    // In the order of the names, so that the first of a file's names is the same in every listing.
    while let Some(path) = paths.pop() {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let Ok(metadata) = fs_err::symlink_metadata(&path) else {
            // overlayfs shows a whiteout so where it does not merge its directory.
            lines.insert(name.escape_ascii().to_string(), Line::ghost());
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            let entries = fs_err::read_dir(&path).unwrap();
            let mut below: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            below.sort();
            below.reverse();
            paths.append(&mut below);
        }
        if name.is_empty() {
            continue;
        }
        let mut line = describe(&path, &metadata);
        if !kind.is_dir() && metadata.nlink() > 1 {
            let name = name.escape_ascii().to_string();
            let first = inodes.entry(metadata.ino()).or_insert(name.clone());
            if *first != name {
                write!(line, " same as {first}").unwrap();
            }
        }
        if kind.is_file() {
            let content = fs_err::read(&path).unwrap();
            write!(line, " {} {}", content.len(), digest(&content)).unwrap();
        }
        let line = Line {
            what: line,
            time: (metadata.mtime(), metadata.mtime_nsec()),
            is_directory: kind.is_dir(),
        };
        lines.insert(name.escape_ascii().to_string(), line);
    }
    lines
}

fn describe(path: &Path, metadata: &std::fs::Metadata) -> String {
    let kind = metadata.file_type();
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    let mut line = format!("{mode:o} {uid}:{gid}");
    if kind.is_char_device() || kind.is_block_device() {
        write!(line, " device {:x}", metadata.rdev()).unwrap();
    }
    if kind.is_symlink() {
        let target = fs_err::read_link(path).unwrap();
        write!(line, " -> {}", target.as_os_str().as_bytes().escape_ascii()).unwrap();
    }
    for (name, value) in attributes(path) {
        write!(line, " {name}={}", value.escape_ascii()).unwrap();
    }
    line
}

/// Returns the attributes that are of the image, sorted.
fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0);
    let names = names.map(|name| String::from_utf8(name.to_vec()).unwrap());
    let names = names.filter(|name| !name.is_empty() && !name.starts_with("trusted.overlay."));
    names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}

/// Lists layers (base first) as overlayfs merges them, with the options that a container's root has.
pub(crate) fn merged_listing(layers: &[String]) -> BTreeMap<String, Line> {
    // Without an upper directory there must be two lower ones.
    let empty = tempfile::tempdir_in("/dev/shm").unwrap();
    let empty = empty.path().to_str().unwrap();
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for layer in layers.iter().rev().map(String::as_str).chain([empty]) {
        fsconfig_set_string(overlay.as_fd(), "lowerdir+", layer).unwrap();
    }
    for key in ["index", "metacopy", "xino", "nfs_export"] {
        fsconfig_set_string(overlay.as_fd(), key, "off").unwrap();
    }
    fsconfig_set_string(overlay.as_fd(), "redirect_dir", "nofollow").unwrap();
    fsconfig_create(overlay.as_fd()).unwrap();
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let root: OwnedFd = fsmount(overlay.as_fd(), flags, MountAttrFlags::empty()).unwrap();
    listing(Path::new(&format!("/proc/self/fd/{}/.", root.as_raw_fd())))
}
