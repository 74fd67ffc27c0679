//! Names of containers: each belongs to one, claimed by making a link.

use crate::store::Store;
use crate::store::lock::{Shared, missing_is_fine};
use anyhow::Result;
use fs_err as fs;
use rustix::fs::symlink;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A name that another container has. The words are Docker's.
#[derive(Debug, Error)]
#[error(
    "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". \
     You have to remove (or rename) that container to be able to reuse that name."
)]
pub(crate) struct NameInUse {
    name: String,
    id: String,
}

impl Store {
    /// Gives `name` to the container `id`, whose directory is there: [`NameInUse`] if another has it.
    pub(crate) fn claim_name(&self, name: &str, id: &str) -> Result<()> {
        let path = self.layout.container_name(name);
        match symlink(id, &path) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        // The name may be left from a container that died while it was removed: looked at again alone.
        let _exclusive = self.exclusive()?;
        if let Some(owner) = self.named_container(name)? {
            let name = name.to_owned();
            return Err(NameInUse { name, id: owner }.into());
        }
        fs::remove_file(&path).or_else(missing_is_fine)?;
        Ok(symlink(id, &path)?)
    }

    /// Returns the ID of the container that has `name`.
    pub(crate) fn named_container(&self, name: &str) -> Result<Option<String>> {
        let owner = match fs::read_link(self.layout.container_name(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let owner = owner.to_string_lossy().into_owned();
        let is_there = self.container_directory(&owner).is_dir();
        Ok(is_there.then_some(owner))
    }

    /// Takes `name` from the container `id`, if that has it.
    pub(crate) fn release_name(&self, _: &Shared, name: &str, id: &str) -> Result<()> {
        let path = self.layout.container_name(name);
        match fs::read_link(&path) {
            Ok(owner) if owner == PathBuf::from(id) => {
                Ok(fs::remove_file(path).or_else(missing_is_fine)?)
            }
            _ => Ok(()),
        }
    }
}
