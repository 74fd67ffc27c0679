//! A mounted tree that is changed as a process whose root it is would change it. Its directories get their times back in the end.

use crate::image::effort::Effort;
use crate::sys::{attributes, copy, tree};
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// Symbolic links followed in one path: the kernel's own limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A tree. Paths are relative to its root; unless said otherwise they have no symbolic links.
pub(super) struct Rooted<'a> {
    root: OwnedFd,
    effort: &'a Effort<'a>,
    /// What directories are to be like when all is done.
    directories: BTreeMap<PathBuf, Stat>,
    /// By inode, the names of files that have several, and those that were given since; some may be gone. Absent until
    /// somebody asks: the whole tree is read for it, once.
    names: Option<HashMap<u64, Vec<PathBuf>>>,
}

impl<'a> Rooted<'a> {
    pub(super) fn new(root: OwnedFd, effort: &'a Effort<'a>) -> Self {
        Self {
            root,
            effort,
            names: None,
            directories: BTreeMap::new(),
        }
    }

    /// Returns the path without symbolic links that `path` leads to; what it names need not be there.
    pub(super) fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let mut here = PathBuf::new();
        let mut links = 0;
        let mut rest: Vec<OsString> = reversed(path);
        while let Some(component) = rest.pop() {
            if component == ".." {
                // The root's parent is the root (chroot(2)).
                here.pop();
                continue;
            }
            let next = here.join(&component);
            let Some(target) = self.link(&next)? else {
                here = next;
                continue;
            };
            links += 1;
            ensure!(links <= MAX_LINKS, "its path has too many symbolic links");
            if target.is_absolute() {
                here.clear();
            }
            rest.append(&mut reversed(&target));
        }
        Ok(here)
    }

    /// Returns the target of a symbolic link; `None` if there is none.
    fn link(&self, path: &Path) -> Result<Option<PathBuf>> {
        let Some(parent) = self.parent(path)? else {
            return Ok(None);
        };
        match rustix::fs::readlinkat(&parent, name(path), Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()).into())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading `{}`", path.display())),
        }
    }

    /// Returns what is at `path`; `None` if nothing is.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let Some(parent) = self.parent(path)? else {
            return Ok(None);
        };
        match rustix::fs::statat(&parent, name(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at `{}`", path.display())),
        }
    }

    /// As [`stat`](Self::stat), and of the root too.
    pub(super) fn stat_any(&self, path: &Path) -> Result<Option<Stat>> {
        if path.as_os_str().is_empty() {
            return Ok(Some(rustix::fs::fstat(&self.root)?));
        }
        self.stat(path)
    }

    /// Opens a file for reading.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        open_beneath(self.root.as_fd(), path, flags)
            .with_context(|| format!("opening `{}`", path.display()))
    }

    /// Opens a directory that is there; from now on it keeps its metadata, whatever is done in it.
    pub(super) fn directory(&mut self, path: &Path) -> Result<OwnedFd> {
        let directory = self.open(path, OFlags::DIRECTORY)?;
        if !self.directories.contains_key(path) {
            let stat = rustix::fs::fstat(&directory)?;
            self.directories.insert(path.to_owned(), stat);
        }
        Ok(directory)
    }

    /// Makes a directory and its parents where there are none; new ones are to be like `model`.
    pub(super) fn make_directory(&mut self, path: &Path, model: &Stat) -> Result<OwnedFd> {
        match self.stat_any(path)? {
            None => {
                let parent = path.parent().context("the root is there")?;
                let parent = self.make_directory(parent, model)?;
                rustix::fs::mkdirat(&parent, name(path), Mode::RWXU)
                    .with_context(|| format!("making the directory `{}`", path.display()))?;
                self.directories.insert(path.to_owned(), *model);
            }
            Some(stat) => ensure!(
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                "`{}` is no directory",
                path.display()
            ),
        }
        self.directory(path)
    }

    /// Gives a directory the metadata of `model`.
    pub(super) fn set_directory(&mut self, path: &Path, model: impl AsFd) -> Result<()> {
        let directory = self.open(path, OFlags::DIRECTORY)?;
        attributes::copy(&model, &directory)
            .with_context(|| format!("setting the attributes of `{}`", path.display()))?;
        self.directories
            .insert(path.to_owned(), rustix::fs::fstat(model)?);
        Ok(())
    }

    /// Removes what is at `path`, if anything is.
    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        if self.stat(path)?.is_none() {
            return Ok(());
        }
        let parent = self.directory(path.parent().context("the root stays")?)?;
        tree::remove(parent.as_fd(), name(path))
            .with_context(|| format!("removing `{}`", path.display()))?;
        let from = (Bound::Included(path), Bound::Unbounded);
        let from = self.directories.range::<Path, _>(from);
        let gone = from.take_while(|(directory, _)| directory.starts_with(path));
        let gone: Vec<PathBuf> = gone.map(|(directory, _)| directory.clone()).collect();
        for directory in gone {
            self.directories.remove(&directory);
        }
        Ok(())
    }

    /// Gives the file at `from` another name. What has that name already is removed.
    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.remove(to)?;
        let old = self.directory(from.parent().context("the root is no file")?)?;
        let new = self.directory(to.parent().context("the root is no file")?)?;
        rustix::fs::linkat(&old, name(from), &new, name(to), AtFlags::empty())
            .with_context(|| format!("linking `{}` to `{}`", to.display(), from.display()))?;
        if let Some(names) = &mut self.names {
            let stat = rustix::fs::statat(&new, name(to), AtFlags::SYMLINK_NOFOLLOW)?;
            names.entry(stat.st_ino).or_default().push(to.to_owned());
        }
        Ok(())
    }

    /// Copies what is no directory to `to`, from the file `name` in `parent` that has this `stat`.
    pub(super) fn copy(
        &mut self,
        parent: BorrowedFd<'_>,
        source: &OsStr,
        stat: &Stat,
        to: &Path,
    ) -> Result<()> {
        self.remove(to)?;
        let into = self.directory(to.parent().context("the root is no file")?)?;
        let target = name(to);
        copy::entry((parent, source), (into.as_fd(), target), stat)
            .with_context(|| format!("copying to `{}`", to.display()))
    }

    /// Returns all names of the file with this inode number, which has several, as they are seen.
    pub(super) fn names_of(&mut self, inode: u64) -> Result<Vec<PathBuf>> {
        if self.names.is_none() {
            self.names = Some(self.all_names()?);
        }
        let names = self.names.as_ref().and_then(|names| names.get(&inode));
        let mut found = Vec::new();
        for name in names.into_iter().flatten() {
            if self.stat(name)?.is_some_and(|seen| seen.st_ino == inode) {
                found.push(name.clone());
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Reads the whole tree.
    fn all_names(&self) -> Result<HashMap<u64, Vec<PathBuf>>> {
        let mut found: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        let mut directories = vec![PathBuf::new()];
        while let Some(path) = directories.pop() {
            self.effort.look(&path)?;
            let directory = self.open(&path, OFlags::DIRECTORY)?;
            for name in copy::names(&directory)? {
                self.effort.take(1)?;
                let stat = match rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    // A whiteout in a directory that only one layer has.
                    Err(Errno::NOENT) => continue,
                    other => other?,
                };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    directories.push(path.join(name));
                } else if stat.st_nlink > 1 {
                    let names = found.entry(stat.st_ino).or_default();
                    names.push(path.join(name));
                }
            }
        }
        Ok(found)
    }

    /// Gives every directory that was touched the metadata it is to have.
    pub(super) fn finish(mut self) -> Result<()> {
        // Children first, because their parents may close themselves.
        while let Some((path, stat)) = self.directories.pop_last() {
            let (parent, name) = match path.parent() {
                // The container's upper directory stands for the root.
                None => continue,
                Some(parent) => (self.open(parent, OFlags::DIRECTORY)?, name(&path)),
            };
            copy::metadata(parent.as_fd(), name, &stat)
                .with_context(|| format!("finishing the directory `{}`", path.display()))?;
        }
        Ok(())
    }

    /// Opens the directory that `path` is in; `None` if there is none.
    fn parent(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let Some(parent) = path.parent() else {
            bail!("the root has no name");
        };
        match open_beneath(self.root.as_fd(), parent, OFlags::DIRECTORY | OFlags::PATH) {
            Ok(parent) => Ok(Some(parent)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("opening `{}`", parent.display())),
        }
    }
}

/// Opens what is at `path` below `root`; no symbolic link is followed.
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Returns the names in a directory, sorted.
pub(super) fn names(directory: &OwnedFd) -> Result<Vec<OsString>> {
    let mut names = copy::names(directory)?;
    names.sort();
    Ok(names)
}

/// Returns the last component of a path that has one.
fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn reversed(path: &Path) -> Vec<OsString> {
    let named = path
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        });
    named.collect()
}
