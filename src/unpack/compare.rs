//! Comparing two trees: names, types, modes, owners, times, sizes, links, devices, attributes; what files hold if that is wanted.

use crate::human;
use crate::unpack::check::Fault;
use crate::unpack::walk::Directory;
use crate::unpack::{name, walk};
use anyhow::{Context, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Bytes of the longest list of names of attributes, and of the longest value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LONGEST_ATTRIBUTE: usize = 65_536;

/// Bytes of two files that are compared at a time.
const CONTENT_SIZE: usize = 64 << 10;

/// What of two trees is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All but what files hold.
    Facts,
    /// What files hold too; but not the root itself, only what is in it.
    Below,
}

struct Tree {
    root: OwnedFd,
    /// The first path of each file that has several, in the order of this walk.
    links: HashMap<u64, Vec<u8>>,
}

/// Calls `tell` for each difference: what is wrong, the path from the root, and how it is instead of how it should be.
/// Of what is missing or was added as a whole, only the topmost directory is told.
pub(crate) fn compare(
    expected: &OwnedFd,
    found: &OwnedFd,
    scope: Scope,
    mut tell: impl FnMut(Fault, &[u8], String),
) -> Result<()> {
    let mut walk = Walk {
        expected: Tree::new(expected)?,
        found: Tree::new(found)?,
        scope,
        tell: &mut tell,
    };
    let mut rest = Vec::new();
    if scope == Scope::Below || walk.entry(expected.as_fd(), found.as_fd(), b"", b"")? {
        rest.push(Vec::new());
    }
    while let Some(path) = rest.pop() {
        let mut below = walk.directory(&path)?;
        below.reverse();
        rest.append(&mut below);
    }
    Ok(())
}

/// Both trees, walked side by side.
struct Walk<'a> {
    expected: Tree,
    found: Tree,
    scope: Scope,
    tell: &'a mut dyn FnMut(Fault, &[u8], String),
}

impl Walk<'_> {
    /// Compares what both trees have in the directory at `path`; returns the directories in it that both have.
    fn directory(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let here = walk::open(&self.expected.root, path).context("reading what is expected")?;
        let there = match walk::open(&self.found.root, path) {
            Ok(directory) => directory,
            Err(error) => {
                (self.tell)(Fault::Damaged, path, format!("unreadable: {error}"));
                return Ok(Vec::new());
            }
        };
        let mut below = Vec::new();
        for name in here.names.union(&there.names) {
            let path = name::join(path, name);
            if !there.names.contains(name) {
                (self.tell)(Fault::Missing, &path, kind(&here, name));
            } else if !here.names.contains(name) {
                (self.tell)(Fault::Added, &path, kind(&there, name));
            } else if self.entry(here.fd.as_fd(), there.fd.as_fd(), name, &path)? {
                below.push(path);
            }
        }
        Ok(below)
    }

    /// Compares what both have at `path`; tells whether it is a directory in both.
    fn entry(
        &mut self,
        here: BorrowedFd<'_>,
        there: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<bool> {
        let expected = self.expected.describe(here, name, path);
        let expected = expected.context("reading what is expected")?;
        let found = match self.found.describe(there, name, path) {
            Ok(found) => found,
            Err(error) => {
                (self.tell)(Fault::Damaged, path, format!("unreadable: {error}"));
                return Ok(false);
            }
        };
        if let Some(what) = differences(&expected, &found) {
            (self.tell)(Fault::Damaged, path, what);
        } else if self.scope == Scope::Below && expected.is_read_here() {
            let is_same = is_same_content(here, there, name);
            let is_same = is_same.with_context(|| format!("reading `{}`", name::shown(path)))?;
            if !is_same {
                (self.tell)(Fault::Damaged, path, "content".to_owned());
            }
        }
        Ok(expected.kind == FileType::Directory && found.kind == FileType::Directory)
    }
}

impl Tree {
    fn new(root: &OwnedFd) -> Result<Self> {
        Ok(Self {
            root: root.try_clone().context("duplicating a descriptor")?,
            links: HashMap::new(),
        })
    }

    /// Tells all about `name` in `directory`, which is `path` from the root; an empty name is the directory itself.
    fn describe(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> rustix::io::Result<Description> {
        let name = if name.is_empty() { b"." } else { name };
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let target = match kind {
            FileType::Symlink => rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let attributes = match kind {
            FileType::RegularFile | FileType::Directory => attributes(directory, name)?,
            _ => BTreeMap::new(),
        };
        let first = if kind != FileType::Directory && stat.st_nlink > 1 {
            let first = self
                .links
                .entry(stat.st_ino)
                .or_insert_with(|| path.to_vec());
            Some(first.clone())
        } else {
            None
        };
        Ok(Description {
            kind,
            stat,
            target,
            attributes,
            first: first.filter(|first| *first != path),
        })
    }
}

/// What is compared of one entry.
struct Description {
    kind: FileType,
    stat: Stat,
    target: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The path of the same file that was met before.
    first: Option<Vec<u8>>,
}

impl Description {
    /// Whether it has a content, and this is the first of its names.
    fn is_read_here(&self) -> bool {
        self.kind == FileType::RegularFile && self.first.is_none()
    }

    fn is_whiteout(&self) -> bool {
        let device = rustix::fs::makedev(0, 0);
        self.kind == FileType::CharacterDevice && self.stat.st_rdev == device
    }
}

/// Says how `found` differs from what is `expected`, if it does.
fn differences(expected: &Description, found: &Description) -> Option<String> {
    if expected.kind != found.kind {
        return Some(format!(
            "{} instead of {}",
            word(found.kind),
            word(expected.kind)
        ));
    }
    // Nobody sees the owner and times of a whiteout, and no layer says them. What is wrong with a file that has several
    // names was told with the first.
    let is_told = expected.first.is_some() && expected.first == found.first;
    if is_told || expected.is_whiteout() && found.is_whiteout() {
        return None;
    }
    let mut all = Vec::new();
    let mut differ = |what: &str, expected: String, found: String| {
        if expected != found {
            all.push(format!("{what} {found} instead of {expected}"));
        }
    };
    let pair = |tell: &dyn Fn(&Description) -> String| (tell(expected), tell(found));
    let mut compare = |what: &str, tell: &dyn Fn(&Description) -> String| {
        let (expected, found) = pair(tell);
        differ(what, expected, found);
    };
    compare("mode", &|of| format!("{:04o}", of.stat.st_mode & 0o7777));
    compare("owner", &|of| {
        format!("{}:{}", of.stat.st_uid, of.stat.st_gid)
    });
    compare("mtime", &|of| {
        format!("{}.{:09}", of.stat.st_mtime, of.stat.st_mtime_nsec)
    });
    match expected.kind {
        FileType::RegularFile => compare("size", &|of| of.stat.st_size.to_string()),
        FileType::Symlink => compare("target", &|of| quoted(&of.target)),
        FileType::CharacterDevice | FileType::BlockDevice => compare("device", &|of| {
            let device = of.stat.st_rdev;
            format!(
                "{}:{}",
                rustix::fs::major(device),
                rustix::fs::minor(device)
            )
        }),
        _ => {}
    }
    compare("link to", &|of| {
        of.first
            .as_deref()
            .map_or_else(|| "nothing".to_owned(), quoted)
    });
    let names: BTreeSet<_> = expected
        .attributes
        .keys()
        .chain(found.attributes.keys())
        .collect();
    for name in names {
        if expected.attributes.get(name) != found.attributes.get(name) {
            all.push(format!("attribute {}", quoted(name)));
        }
    }
    (!all.is_empty()).then(|| all.join(", "))
}

/// Tells whether two files hold the same bytes.
fn is_same_content(
    here: BorrowedFd<'_>,
    there: BorrowedFd<'_>,
    name: &[u8],
) -> rustix::io::Result<bool> {
    let open = |directory| {
        walk::untouched(|flags| {
            let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            rustix::fs::openat(directory, name, flags, Mode::empty())
        })
    };
    let (here, there) = (open(here)?, open(there)?);
    let (mut one, mut other) = (vec![0; CONTENT_SIZE], vec![0; CONTENT_SIZE]);
    let mut offset = 0;
    loop {
        let length = rustix::io::pread(&here, &mut one, offset)?;
        // The sizes are the same: of both files as much is read, short of a signal that none of our threads gets.
        let found = rustix::io::pread(&there, &mut other, offset)?;
        if one[..length] != other[..found] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        offset += length as u64;
    }
}

/// What overlayfs notes for itself on what it copied up: where from, and how many names that had.
const NOTES: [&[u8]; 4] = [b"origin", b"impure", b"nlink", b"uuid"];

/// Returns the attributes that unpacking sets. The others are the host's, which may label files as it likes.
fn attributes(
    directory: BorrowedFd<'_>,
    name: &[u8],
) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let file = walk::untouched(|flags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        rustix::fs::openat(directory, name, flags, Mode::empty())
    })?;
    let mut buffer = vec![0; LONGEST_ATTRIBUTE];
    let length = match rustix::fs::flistxattr(&file, &mut buffer) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let names = buffer[..length].to_vec();
    let mut attributes = BTreeMap::new();
    for name in names.split(|byte| *byte == 0) {
        let of_overlay = [&b"trusted.overlay."[..], b"user.overlay."]
            .into_iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        let is_ours = match of_overlay {
            Some(note) => !NOTES.contains(&note),
            None => name.starts_with(b"user.") || name == b"security.capability",
        };
        if is_ours {
            let length = rustix::fs::fgetxattr(&file, name, &mut buffer)?;
            attributes.insert(name.to_vec(), buffer[..length].to_vec());
        }
    }
    Ok(attributes)
}

/// Says what kind of thing `name` is.
fn kind(directory: &Directory, name: &[u8]) -> String {
    let stat = rustix::fs::statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW);
    let kind = stat.map_or(FileType::Unknown, |stat| {
        FileType::from_raw_mode(stat.st_mode)
    });
    word(kind).to_owned()
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "something",
    }
}

fn quoted(text: &[u8]) -> String {
    format!("`{}`", human::printable(&String::from_utf8_lossy(text)))
}
