//! The layer's directories while it is unpacked: where a path leads, what is implied, and what of lower layers they hide.

mod lower;

use crate::sys;
use crate::unpack::name;
use crate::unpack::pax::Time;
use crate::unpack::recipe::Recording;
use anyhow::{Context, Result, ensure};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

/// Directories kept open. Archives are written depth first, so that the next entry is nearly always in one of these.
const MAX_OPEN: usize = 16;

/// Symbolic links followed in one path: the kernel's own limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// What a directory or whiteout costs in memory besides its path, in bytes; measured, rounded up.
const BOOKKEEPING: usize = 128;

/// The mode of a directory that the layer does not list, as every engine makes it.
pub(crate) const IMPLIED_MODE: u32 = 0o755;

/// What a layer says of a directory, applied when all else is written: owner and times would not last,
/// and its own children may not be written to a directory that has its final mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metadata {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) mtime: Time,
}

/// What is seen of a lower layer's directory of the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lower {
    /// Its content, and its metadata if this layer does not list the directory.
    Merged,
    /// Only its metadata: an opaque whiteout hides the content.
    Emptied,
    /// Nothing: the directory was removed, and this is a new one.
    Replaced,
}

#[derive(Debug)]
pub(crate) struct Directory {
    /// Absent while the layer only implies the directory.
    pub(crate) listed: Option<Metadata>,
    pub(crate) lower: Lower,
    /// The mode it was made with.
    pub(crate) mode: u32,
    /// Something other than whiteouts is, or was, in it.
    pub(crate) occupied: bool,
}

/// An open directory of the layer, and its path without symbolic links.
pub(crate) struct Handle {
    pub(crate) fd: OwnedFd,
    pub(crate) path: Vec<u8>,
}

/// What to do about directories that a path needs and the layer does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    /// Only where a lower layer may have it.
    MakeOverLower,
    Leave,
}

pub(crate) struct Tree {
    root: OwnedFd,
    /// Every directory of the layer by its path without symbolic links; "" is the root.
    directories: BTreeMap<Vec<u8>, Directory>,
    whiteouts: BTreeSet<Vec<u8>>,
    /// Hard links to files that the layer does not have, each with its target.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// By path as named, most recently used first.
    open: Vec<(Vec<u8>, Rc<Handle>)>,
    /// Bytes that directories and whiteouts may still take.
    room: usize,
    recording: Recording,
}

impl Tree {
    /// Begins with an empty `root`; at most `memory` bytes are used for directories and whiteouts. What is replaced is kept
    /// for the `recording`, if there is one.
    pub(crate) fn new(root: OwnedFd, memory: usize, recording: Recording) -> Self {
        let directory = Directory {
            listed: None,
            lower: Lower::Merged,
            mode: 0o700,
            occupied: true,
        };
        Self {
            root,
            directories: BTreeMap::from([(Vec::new(), directory)]),
            whiteouts: BTreeSet::new(),
            links: BTreeMap::new(),
            open: Vec::with_capacity(MAX_OPEN),
            room: memory,
            recording,
        }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the directory that `path` leads to, made if it is not there. Symbolic links of this layer are
    /// followed as a process whose root is the layer would follow them, as on the merged tree; none leads out of it.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<Rc<Handle>> {
        if let Some(at) = self.open.iter().position(|(name, _)| name == path) {
            self.open[..=at].rotate_right(1);
            return Ok(Rc::clone(&self.open[0].1));
        }
        let real = self.resolve(path, Missing::Make)?;
        let real = real.expect("what is missing was made");
        self.occupy(&real);
        self.keep_open(path, &real)
    }

    /// Opens a directory by its path without symbolic links.
    pub(crate) fn known(&mut self, path: &[u8]) -> Result<Rc<Handle>> {
        match self.open.first().filter(|(name, _)| name == path) {
            Some((_, handle)) => Ok(Rc::clone(handle)),
            None => self.keep_open(path, path),
        }
    }

    /// As [`directory`](Self::directory), but makes none: `None` if it is not in the layer.
    pub(crate) fn existing(&mut self, path: &[u8]) -> Result<Option<Rc<Handle>>> {
        if let Some((_, handle)) = self.open.iter().find(|(name, _)| name == path) {
            return Ok(Some(Rc::clone(handle)));
        }
        let real = self.resolve(path, Missing::Leave)?;
        real.map(|real| self.open_known(&real).map(Rc::new))
            .transpose()
    }

    /// Makes a directory, unless there is one. What else stands there is removed, and with it what lower layers have.
    pub(crate) fn add(
        &mut self,
        parent: &Handle,
        name: &[u8],
        mode: u32,
    ) -> Result<&mut Directory> {
        let path = name::join(&parent.path, name);
        if !self.directories.contains_key(&path) {
            // Writable while it is filled; no set-group-ID bit, which children would inherit.
            let mode = mode & 0o777 | 0o700;
            let make = || rustix::fs::mkdirat(&parent.fd, name, Mode::from_raw_mode(mode));
            let mut lower = Lower::Merged;
            if let Err(error) = make() {
                ensure!(error == Errno::EXIST, error);
                self.clear(parent, name)?;
                make()?;
                lower = Lower::Replaced;
            }
            self.take_room(&path)?;
            let directory = Directory {
                listed: None,
                lower,
                mode,
                occupied: false,
            };
            self.links.remove(&path);
            self.directories.insert(path.clone(), directory);
        }
        Ok(self.directories.get_mut(&path).expect("just inserted"))
    }

    /// Returns what is known of the root.
    pub(crate) fn root_directory(&mut self) -> &mut Directory {
        let root = self.directories.get_mut(&b""[..]);
        root.expect("it is there from the start")
    }

    /// Removes what stands at `name`, a directory with all it holds.
    pub(crate) fn clear(&mut self, parent: &Handle, name: &[u8]) -> Result<()> {
        let path = name::join(&parent.path, name);
        if self.directories.remove(&path).is_some() {
            let parent = parent.fd.as_fd();
            if !self.recording.set_aside(parent, name, &path)? {
                sys::tree::remove(parent, OsStr::from_bytes(name))?;
            }
            self.directories
                .extract_if(below(&path), |_, _| true)
                .for_each(drop);
            self.whiteouts
                .extract_if(below(&path), |_| true)
                .for_each(drop);
            self.links
                .extract_if(below(&path), |_, _| true)
                .for_each(drop);
        } else if self.whiteouts.remove(&path)
            || !self.recording.set_aside(parent.fd.as_fd(), name, &path)?
        {
            rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty())?;
        }
        // Any of them may have led through what is gone.
        self.open.clear();
        Ok(())
    }

    /// Takes the directories out one by one, children before their parents.
    pub(crate) fn pop(&mut self) -> Option<(Vec<u8>, Directory)> {
        self.directories.pop_last()
    }

    fn keep_open(&mut self, path: &[u8], real: &[u8]) -> Result<Rc<Handle>> {
        let handle = Rc::new(self.open_known(real)?);
        self.open.truncate(MAX_OPEN - 1);
        self.open.insert(0, (path.to_vec(), Rc::clone(&handle)));
        Ok(handle)
    }

    /// Notes that something is in the directory at `path`.
    fn occupy(&mut self, path: &[u8]) {
        let mut path = path;
        while let Some(directory) = self.directories.get_mut(path) {
            if std::mem::replace(&mut directory.occupied, true) {
                break;
            }
            path = name::split(path).0;
        }
    }

    fn open_known(&self, path: &[u8]) -> Result<Handle> {
        // The kernel makes sure of what the map promises: nothing here is a link, or outside.
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let name: &[u8] = if path.is_empty() { b"." } else { path };
        let fd = rustix::fs::openat2(&self.root, name, flags, Mode::empty(), resolve)
            .with_context(|| format!("opening the layer's directory `{}`", name::shown(path)))?;
        Ok(Handle {
            fd,
            path: path.to_vec(),
        })
    }

    /// Returns the path without symbolic links that `path` leads to; `None` if it is missing and not made.
    fn resolve(&mut self, path: &[u8], missing: Missing) -> Result<Option<Vec<u8>>> {
        if self.directories.contains_key(path) {
            return Ok(Some(path.to_vec()));
        }
        let mut here = Vec::new();
        let mut links = 0;
        // What is still to be walked, last component first.
        let mut rest: Vec<Vec<u8>> = reversed(path);
        while let Some(component) = rest.pop() {
            match &component[..] {
                b"." => continue,
                b".." => {
                    // The root's parent is the root (chroot(2)).
                    here.truncate(name::split(&here).0.len());
                    continue;
                }
                _ => {}
            }
            let next = name::join(&here, &component);
            if self.directories.contains_key(&next) {
                here = next;
                continue;
            }
            let parent = self.open_known(&here)?;
            match rustix::fs::readlinkat(&parent.fd, &component[..], Vec::new()) {
                Ok(target) => {
                    links += 1;
                    ensure!(links <= MAX_LINKS, "its path has too many symbolic links");
                    if target.as_bytes().starts_with(b"/") {
                        here.clear();
                    }
                    rest.append(&mut reversed(target.as_bytes()));
                    continue;
                }
                // In what is no directory nothing of a lower layer is seen.
                Err(Errno::INVAL)
                    if missing == Missing::MakeOverLower && !self.whiteouts.contains(&next) =>
                {
                    return Ok(None);
                }
                // Not a link.
                Err(Errno::INVAL) => ensure!(
                    self.whiteouts.contains(&next),
                    "`{}` is no directory",
                    name::shown(&next)
                ),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).context("reading a symbolic link"),
            }
            let is_left = match missing {
                Missing::Make => false,
                Missing::MakeOverLower => self.is_hidden(&next),
                Missing::Leave => true,
            };
            if is_left {
                return Ok(None);
            }
            self.add(&parent, &component, IMPLIED_MODE)?;
            here = next;
        }
        Ok(Some(here))
    }

    fn take_room(&mut self, path: &[u8]) -> Result<()> {
        let left = self.room.checked_sub(path.len() + BOOKKEEPING);
        self.room = left.context(
            "the layer has too many directories and whiteouts (`DDOCK_LAYER_DIRECTORIES` gives their names more memory)",
        )?;
        Ok(())
    }
}

/// Returns the range of all paths below `path`. `0` is the byte after the slash.
fn below(path: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    if path.is_empty() {
        return (Bound::Excluded(Vec::new()), Bound::Unbounded);
    }
    let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
    (Bound::Included(from), Bound::Excluded(to))
}

/// Returns the components of `path`, the last one first.
fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    name::components(path).rev().map(<[u8]>::to_vec).collect()
}
