//! What a layer says of the layers below it: whiteouts, opaque directories, and hard links to files that only they have.

use crate::unpack::name;
use crate::unpack::tree::{Handle, Lower, Missing, Tree, below};
use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dev, FileType, Mode};
use rustix::io::Errno;
use std::collections::BTreeSet;

impl Tree {
    /// Hides what lower layers have at `path`. What this layer has there, before or after, stays
    /// (image-spec layer.md: whiteouts "MUST only apply to resources in lower/parent layers").
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = name::split(path);
        // Where nothing of a lower layer is seen, overlayfs would show the whiteout as a file with no inode.
        let Some(parent) = self.over_lower(parent)? else {
            return Ok(());
        };
        let path = name::join(&parent.path, name);
        if let Some(directory) = self.directories.get_mut(&path) {
            if directory.occupied || directory.listed.is_some() {
                directory.lower = Lower::Replaced;
                return self.remove_whiteouts_below(&path);
            }
            // It was made for whiteouts, and this one says it all.
            self.clear(&parent, name)?;
        }
        let device: Dev = rustix::fs::makedev(0, 0);
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(&parent.fd, name, kind, Mode::empty(), device) {
            Ok(()) => {
                self.take_room(&path)?;
                self.whiteouts.insert(path);
            }
            // A file that hides as well, or the same whiteout.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("making a whiteout"),
        }
        Ok(())
    }

    /// Hides what lower layers have in the directory at `path`.
    pub(crate) fn make_opaque(&mut self, path: &[u8]) -> Result<()> {
        let Some(handle) = self.over_lower(path)? else {
            return Ok(());
        };
        let directory = self.directories.get_mut(&handle.path);
        let directory = directory.expect("every open directory is known");
        directory.lower = directory.lower.max(Lower::Emptied);
        self.remove_whiteouts_below(&handle.path)
    }

    /// Notes a hard link to `target`, which this layer does not have and a lower one may. What stands there is removed.
    pub(crate) fn borrow(&mut self, parent: &Handle, name: &[u8], target: Vec<u8>) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::statat(&parent.fd, name, flags) {
            Ok(_) => self.clear(parent, name)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).context("looking what stands there"),
        }
        let path = name::join(&parent.path, name);
        self.take_room(&[&path, &target[..]].concat())?;
        self.links.insert(path, target);
        Ok(())
    }

    pub(crate) fn is_whiteout(&self, path: &[u8]) -> bool {
        self.whiteouts.contains(path)
    }

    /// Returns the target of a hard link to a file that the layer does not have.
    pub(crate) fn borrowed(&self, path: &[u8]) -> Option<&Vec<u8>> {
        self.links.get(path)
    }

    /// Forgets a hard link: something else stands there now.
    pub(crate) fn forget_link(&mut self, parent: &Handle, name: &[u8]) {
        if !self.links.is_empty() {
            self.links.remove(&name::join(&parent.path, name));
        }
    }

    /// Returns the directories that have whiteouts in them, the root left out.
    pub(crate) fn with_whiteouts(&self) -> BTreeSet<Vec<u8>> {
        let parents = self.whiteouts.iter().map(|path| name::split(path).0);
        let parents = parents.filter(|path| !path.is_empty());
        parents.map(<[u8]>::to_vec).collect()
    }

    /// Returns the hard links to files that the layer does not have, each with its target.
    pub(crate) fn take_links(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        std::mem::take(&mut self.links).into_iter().collect()
    }

    /// Whether a lower layer's file at `path` is not seen, as far as this layer says by now.
    pub(crate) fn is_hidden(&self, path: &[u8]) -> bool {
        let mut here = path;
        while !here.is_empty() {
            if self.whiteouts.contains(here) {
                return true;
            }
            here = name::split(here).0;
        }
        self.hides(name::split(path).0)
    }

    /// Whether nothing of lower layers is seen in the directory at `path`.
    pub(crate) fn hides(&self, path: &[u8]) -> bool {
        let mut path = path;
        loop {
            let directory = self.directories.get(path);
            if directory.is_some_and(|directory| directory.lower != Lower::Merged) {
                return true;
            }
            if path.is_empty() {
                return false;
            }
            path = name::split(path).0;
        }
    }

    /// Opens the directory that `path` leads to, made if a lower layer may have it; `None` if nothing that a
    /// lower layer has in it is seen.
    fn over_lower(&mut self, path: &[u8]) -> Result<Option<Handle>> {
        let Some(real) = self.resolve(path, Missing::MakeOverLower)? else {
            return Ok(None);
        };
        if self.hides(&real) {
            return Ok(None);
        }
        self.open_known(&real).map(Some)
    }

    /// Removes whiteouts that have nothing left to hide, and the directories that were made for them.
    fn remove_whiteouts_below(&mut self, path: &[u8]) -> Result<()> {
        let hidden: Vec<_> = self.whiteouts.range(below(path)).cloned().collect();
        for path in hidden {
            let (parent, name) = name::split(&path);
            let parent = self.open_known(parent)?;
            rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty())?;
            self.whiteouts.remove(&path);
        }
        let bare = self.directories.range(below(path));
        let bare = bare.filter(|(_, directory)| !directory.occupied && directory.listed.is_none());
        let bare: Vec<_> = bare.map(|(path, _)| path.clone()).collect();
        for path in bare.into_iter().rev() {
            let (parent, name) = name::split(&path);
            let parent = self.open_known(parent)?;
            self.clear(&parent, name)?;
        }
        Ok(())
    }
}
