//! A fix-up: what must lie directly above a layer so that it fits what is below it.
//!
//! A layer is unpacked alone. On the layers below, a directory that it implies may be a symbolic link, its hard links may
//! name their files, and the directories' owners, modes and times are theirs. The kernel merges all but that; the rest
//! is done in the merged tree, where what changes comes to lie in the fix-up, as a container's changes do.

use crate::image::effort::Effort;
use crate::image::merged::{Misfit, Stale, is_opaque, open_directory};
use crate::image::rooted::{Rooted, names, open_beneath};
use crate::store::LayerMeta;
use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// What is needed to make a fix-up.
pub(super) struct Fixup<'a> {
    /// The layer's files.
    pub(super) layer: &'a Path,
    pub(super) meta: &'a LayerMeta,
    pub(super) misfits: &'a [Misfit],
    pub(super) stale: &'a [Stale],
    pub(super) effort: &'a Effort<'a>,
    /// The layer on those below, the fix-up as the upper directory.
    pub(super) merged: OwnedFd,
    /// Those below alone.
    pub(super) below: Option<OwnedFd>,
}

impl Fixup<'_> {
    pub(super) fn make(self) -> Result<()> {
        let implied = self.meta.implied.iter().map(PathBuf::as_path).collect();
        let mut work = Work {
            layer: open_directory(self.layer)?,
            directory: self.layer,
            implied,
            tree: Rooted::new(self.merged, self.effort),
            copied: HashMap::new(),
        };
        let below = self.below.map(|below| Rooted::new(below, self.effort));
        for Stale { path, holds } in self.stale {
            work.tree.set_directory(path, open_directory(holds)?)?;
        }
        for misfit in self.misfits {
            work.tree.remove(misfit.path())?;
        }
        // All links are there before the first one is followed: they may lead through each other.
        for misfit in self.misfits {
            match misfit {
                Misfit::Moved { path, link } => work.restore(path, link)?,
                Misfit::Bare { path, hides } => {
                    if let Some(file) = hides {
                        work.restore(path, file)?;
                    }
                }
            }
        }
        // Two names may lead to one directory: what one of them hides, the other must not have put there yet.
        for pass in [Pass::Hide, Pass::Put] {
            for misfit in self.misfits {
                if let Misfit::Moved { path, .. } = misfit {
                    let why = || format!("following the symbolic link `{}`", path.display());
                    work.moved(path, pass).with_context(why)?;
                }
            }
        }
        for (path, target) in &self.meta.links {
            work.link(path, target, below.as_ref())
                .with_context(|| format!("layer entry `{}`", path.display()))?;
        }
        work.tree.finish()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Hide,
    Put,
}

struct Work<'a> {
    /// The layer's own directory, and where it lies.
    layer: OwnedFd,
    directory: &'a Path,
    implied: HashSet<&'a Path>,
    tree: Rooted<'a>,
    /// By inode in the layer, where a file with several names was put first.
    copied: HashMap<u64, PathBuf>,
}

impl Work<'_> {
    /// Brings back the symbolic link or file that the layer's directory hides.
    fn restore(&mut self, path: &Path, link: &Path) -> Result<()> {
        let (parent, name) = link
            .parent()
            .zip(link.file_name())
            .context("a link has a name")?;
        let parent = open_directory(parent)?;
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.put(&parent, name, &stat, path)
    }

    /// Does with what the layer has in its directory `top` what is to be done where that path leads to now.
    fn moved(&mut self, top: &Path, pass: Pass) -> Result<()> {
        // Each directory of the layer with the one that its content goes to.
        let mut directories = vec![(top.to_owned(), top.to_owned())];
        while let Some((from, to)) = directories.pop() {
            let directory = open_beneath(self.layer.as_fd(), &from, OFlags::DIRECTORY)
                .with_context(|| format!("opening `{}` of the layer", from.display()))?;
            let to = self.tree.resolve(&to)?;
            match pass {
                Pass::Hide => self.hide_in(&from, &directory, &to)?,
                Pass::Put => self.put_in(&from, &directory, &to)?,
            }
            for name in names(&directory)? {
                let stat = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    directories.push((from.join(&name), to.join(&name)));
                }
            }
        }
        Ok(())
    }

    /// Hides in `to` what the layer hides in its directory `from`.
    fn hide_in(&mut self, from: &Path, directory: &OwnedFd, to: &Path) -> Result<()> {
        let is_directory =
            |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let there = self.tree.stat_any(to)?.map(is_directory);
        if there == Some(false) && !self.implied.contains(from) {
            self.tree.remove(to)?;
        }
        if there != Some(true) {
            return Ok(());
        }
        if is_opaque(&self.directory.join(from))? {
            for name in names(&self.tree.directory(to)?)? {
                self.hide(to.join(name))?;
            }
        }
        for name in names(directory)? {
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
                self.hide(to.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes what is at `path`, except what this layer has there itself.
    fn hide(&mut self, path: PathBuf) -> Result<()> {
        let mut paths = vec![path];
        while let Some(path) = paths.pop() {
            match self.own(&path) {
                None => self.tree.remove(&path)?,
                Some(FileType::Directory) => {
                    let names = names(&self.tree.directory(&path)?)?;
                    paths.extend(names.into_iter().map(|name| path.join(name)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Puts the files of the layer's directory `from` into `to`.
    fn put_in(&mut self, from: &Path, directory: &OwnedFd, to: &Path) -> Result<()> {
        let model = rustix::fs::fstat(directory)?;
        if !self.implied.contains(from) {
            // Parents that are new are as those that the layer implies.
            let parent = from.parent().context("the root is not moved")?;
            let parent = open_beneath(self.layer.as_fd(), parent, OFlags::DIRECTORY)?;
            let above = to.parent().context("the root is there")?;
            self.tree
                .make_directory(above, &rustix::fs::fstat(parent)?)?;
            self.tree.make_directory(to, &model)?;
            self.tree.set_directory(to, directory)?;
        }
        for name in names(directory)? {
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::CharacterDevice if stat.st_rdev == 0 => {}
                _ => {
                    self.tree.make_directory(to, &model)?;
                    self.put(directory, &name, &stat, &to.join(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Puts a file of the layer at `place`; all its names stay names of one file.
    fn put(
        &mut self,
        parent: &OwnedFd,
        name: &std::ffi::OsStr,
        stat: &Stat,
        place: &Path,
    ) -> Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.copied.get(&stat.st_ino).cloned() {
                return self.tree.hard_link(&first, place);
            }
            let names = self.tree.names_of(stat.st_ino)?;
            if self.share(names, place)? {
                self.copied.insert(stat.st_ino, place.to_owned());
                return Ok(());
            }
        }
        self.copied.insert(stat.st_ino, place.to_owned());
        self.tree.copy(parent.as_fd(), name, stat, place)
    }

    /// Makes `place` a name of the file that has these names, and they all stay its names; false if there is none.
    fn share(&mut self, mut names: Vec<PathBuf>, place: &Path) -> Result<bool> {
        let was_there = names.iter().any(|name| name == place);
        names.retain(|name| name != place);
        let Some((first, others)) = names.split_first() else {
            return Ok(was_there);
        };
        self.tree.hard_link(first, place)?;
        // The kernel took the first name up alone: the others would go on naming the file below.
        for other in others {
            self.tree.hard_link(place, other)?;
        }
        Ok(true)
    }

    /// Makes a hard link to a file that the layer does not have.
    fn link(&mut self, path: &Path, target: &Path, below: Option<&Rooted<'_>>) -> Result<()> {
        let missing = || {
            let target = target.display();
            format!("it is a hard link to `{target}`, which neither its layer nor those below have")
        };
        let below = below.with_context(missing)?;
        let place = resolve_parent(&self.tree, path)?;
        // What was moved has no directory yet if all that is in it are links.
        let (from, to) = path
            .parent()
            .zip(place.parent())
            .context("it is the root")?;
        let from = open_beneath(self.layer.as_fd(), from, OFlags::DIRECTORY)?;
        self.tree.make_directory(to, &rustix::fs::fstat(from)?)?;
        // Links of this layer were followed when it was unpacked: those of its end may be others.
        let found = resolve_parent(below, target)?;
        // Where a symbolic link below led to, it may be a file of this layer after all.
        let own = self.own(&found);
        if found != target && own.is_some_and(|kind| kind != FileType::Directory) {
            return self.tree.hard_link(&found, &place);
        }
        let stat = below.stat(&found)?.with_context(missing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            bail!("it is a hard link to the directory `{}`", target.display());
        }
        if let Some(first) = self.copied.get(&stat.st_ino).cloned() {
            return self.tree.hard_link(&first, &place);
        }
        self.copied.insert(stat.st_ino, place.clone());
        // As far as they are seen still, and not this layer's own: one layer may be there twice.
        let names = match stat.st_nlink {
            1 => vec![found.clone()],
            _ => self.tree.names_of(stat.st_ino)?,
        };
        let mut seen = Vec::new();
        for name in names {
            let is_seen = self
                .tree
                .stat(&name)?
                .is_some_and(|seen| seen.st_ino == stat.st_ino);
            if is_seen && self.own(&name).is_none() {
                seen.push(name);
            }
        }
        if self.share(seen, &place)? {
            return Ok(());
        }
        let (parent, name) = found
            .parent()
            .zip(found.file_name())
            .with_context(missing)?;
        let parent = below.open(parent, OFlags::DIRECTORY)?;
        self.tree.copy(parent.as_fd(), name, &stat, &place)
    }

    /// Returns what the layer itself has at `path`; `None` if nothing, or a whiteout.
    fn own(&self, path: &Path) -> Option<FileType> {
        let file = open_beneath(self.layer.as_fd(), path, OFlags::PATH).ok()?;
        let stat = rustix::fs::fstat(file).ok()?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        (!is_whiteout).then_some(kind)
    }
}

/// Returns where a name stands, symbolic links on the way followed, the last component not.
fn resolve_parent(tree: &Rooted<'_>, path: &Path) -> Result<PathBuf> {
    let (parent, name) = path
        .parent()
        .zip(path.file_name())
        .context("it is the root")?;
    Ok(tree.resolve(parent)?.join(name))
}
