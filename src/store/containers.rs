//! Directories of containers: made, listed, found and removed. What else lies in them is `container`'s matter.

use crate::digest::Digest;
use crate::store::lock::{Shared, lines, try_lock};
use crate::store::stage::remove_tree;
use crate::store::{NotFound, Store, layout, unique};
use anyhow::Result;
use fs_err as fs;
use std::io;
use std::path::PathBuf;

impl Store {
    /// Makes the directory of container `id`, which from now on keeps what `holds` names in the store:
    /// the image and its layers, looked up under the same lock. What comes with it is the lock by which the caller looks
    /// after the container; a fork shares it.
    pub(crate) fn create_container(
        &self,
        shared: &Shared,
        id: &str,
        holds: &[Digest],
    ) -> Result<(PathBuf, fs::File)> {
        let alive = self.own(shared, id)?;
        let directory = self.layout.container(id);
        fs::create_dir(&directory)?;
        fs::write(layout::container_holds(&directory), lines(holds))?;
        fs::hard_link(self.layout.owner(id), layout::container_alive(&directory))?;
        Ok((directory, alive))
    }

    /// Lets container `id` keep what `more` names, too, looked up under the same lock.
    pub(crate) fn hold(&self, _: &Shared, id: &str, more: &[Digest]) -> Result<()> {
        let path = layout::container_holds(&self.layout.container(id));
        let mut holds = fs::OpenOptions::new().append(true).open(path)?;
        Ok(io::Write::write_all(&mut holds, lines(more).as_bytes())?)
    }

    /// Returns the directory of container `id`, there or not.
    pub(crate) fn container_directory(&self, id: &str) -> PathBuf {
        self.layout.container(id)
    }

    /// Returns the IDs of all containers, sorted.
    pub(crate) fn containers(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.layout.containers())? {
            ids.extend(entry?.file_name().into_string());
        }
        ids.sort();
        Ok(ids)
    }

    /// Returns the ID of the one container whose ID begins with `prefix`: [`NotFound`] if there is none.
    pub(crate) fn container(&self, prefix: &str) -> Result<String> {
        let begins = |id: &String| !prefix.is_empty() && id.starts_with(prefix);
        unique(self.containers()?, prefix, begins)?
            .ok_or_else(|| NotFound::container(prefix).into())
    }

    /// Removes a container's directory: first out of sight, so that none is ever seen half removed.
    /// [`NotFound`] if it is not there, or another process removes it now.
    ///
    /// The lock of the directory itself, flock(2), is for this alone: others must not take it.
    pub(crate) fn remove_container(&self, id: &str) -> Result<()> {
        let directory = self.layout.container(id);
        let owned = match fs::File::open(&directory) {
            Ok(owned) => owned,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NotFound::container(id).into());
            }
            Err(error) => return Err(error.into()),
        };
        let hidden = self.layout.temporary().join(id);
        // Locked before it is in `tmp/`, so that no sweep takes it for a dead operation's.
        if !try_lock(&owned)? {
            return Err(NotFound::container(id).into());
        }
        self.leave_words(id, None)?;
        match fs::rename(&directory, &hidden) {
            Ok(()) => {
                self.forget_owner(id)?;
                remove_tree(&hidden)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(NotFound::container(id).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
