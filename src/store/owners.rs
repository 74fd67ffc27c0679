//! Who looks after which container: locks that lie apart from the containers, so that to look for those whose owner died
//! costs what runs and not what exists.
//!
//! A lock file has two names: in `alive/`, by which it is found, and in the container's directory, by which an older ddock
//! finds it. It has the first before the container has a directory, and keeps it until the directory is gone: no death in
//! between leaves a container that no sweep finds.

use crate::store::lock::{Shared, lock, missing_is_fine, try_lock};
use crate::store::stage::{Stage, remove_tree};
use crate::store::{NotFound, Store, layout};
use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A lock that has not got its name yet.
const UNBORN: &str = ".new";

/// What became of whoever looked after a container.
#[derive(Debug)]
pub(crate) enum Owner {
    /// What is locked comes along, to be waited for.
    Living(OwnedFd),
    /// It died before it had cleaned up. Whoever holds the lock, which comes along, does that in its stead.
    Dead(OwnedFd),
    /// There is none: the container has ended.
    Nobody,
}

impl Store {
    /// Takes the lock of a container that is about to be made; a fork shares it.
    pub(super) fn own(&self, _: &Shared, id: &str) -> Result<fs::File> {
        self.lock_new(id)
    }

    fn lock_new(&self, id: &str) -> Result<fs::File> {
        let path = self.layout.owner(id);
        let unborn = self.layout.owner(&format!("{id}{UNBORN}"));
        // Locked before it has its name, so that no sweep finds it without an owner.
        let alive = fs::File::create_new(&unborn)?;
        lock(&alive, &unborn)?;
        fs::rename(unborn, path)?;
        Ok(alive)
    }

    /// Takes the lock of a container that nobody looks after, to start it again; none if somebody does, or is about to.
    pub(crate) fn own_again(&self, id: &str) -> Result<Option<fs::File>> {
        // So that no other takes it meanwhile, and the container is not removed.
        let _exclusive = self.exclusive()?;
        match self.owner(id)? {
            Owner::Living(_) => return Ok(None),
            Owner::Dead(_) => bail!("what is left of container {id} is not cleaned up yet"),
            Owner::Nobody => {}
        }
        let directory = self.layout.container(id);
        ensure!(directory.exists(), NotFound::container(id));
        let alive = self.lock_new(id)?;
        fs::hard_link(self.layout.owner(id), layout::container_alive(&directory))?;
        Ok(Some(alive))
    }

    /// Tells whether somebody looks after the container, and lets the caller do so if its owner died.
    pub(crate) fn owner(&self, id: &str) -> Result<Owner> {
        // An older ddock's has the second name only.
        let own = layout::container_alive(&self.layout.container(id));
        for path in [self.layout.owner(id), own] {
            if let Some(file) = open_lock(&path)? {
                return Ok(if try_lock(&file)? {
                    Owner::Dead(file)
                } else {
                    Owner::Living(file)
                });
            }
        }
        Ok(Owner::Nobody)
    }

    /// Waits until nobody looks after the container any more.
    pub(crate) fn wait_for_owner(&self, id: &str) -> Result<()> {
        let own = layout::container_alive(&self.layout.container(id));
        for path in [self.layout.owner(id), own] {
            if let Some(file) = open_lock(&path)? {
                // As long as the container lives: there is no end to this patience.
                return retry_on_intr(|| flock(&file, FlockOperation::LockShared))
                    .context("waiting for the container");
            }
        }
        Ok(())
    }

    /// Returns the IDs of the containers that somebody looks after, or looked after when he died.
    pub(crate) fn owned(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.layout.owners()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.gather_owners()?;
                fs::read_dir(self.layout.owners())?
            }
            other => other?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if name.ends_with(UNBORN) {
                // Its maker would hold the store's lock, and we do.
                let _exclusive = self.exclusive()?;
                fs::remove_file(self.layout.owner(&name)).or_else(missing_is_fine)?;
            } else {
                ids.push(name);
            }
        }
        Ok(ids)
    }

    /// Makes `alive/` in a store that was made before there was one.
    fn gather_owners(&self) -> Result<()> {
        let _exclusive = self.exclusive()?;
        if self.layout.owners().exists() {
            return Ok(());
        }
        let stage = Stage::create(self)?;
        let owners = stage.directory("alive")?;
        for id in self.containers()? {
            let alive = layout::container_alive(&self.layout.container(&id));
            fs::hard_link(alive, owners.join(&id)).or_else(missing_is_fine)?;
        }
        Ok(fs::rename(owners, self.layout.owners())?)
    }

    /// Tells everyone that nobody needs to look after the container any more.
    pub(crate) fn disown(&self, id: &str) -> Result<()> {
        remove_damaged(&layout::container_alive(&self.layout.container(id)))?;
        self.forget_owner(id)
    }

    pub(super) fn forget_owner(&self, id: &str) -> Result<()> {
        remove_damaged(&self.layout.owner(id))
    }
}

/// Opens a lock, whatever somebody put in its place; `None` if there is none.
fn open_lock(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::LOOP) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("opening `{}`", path.display())),
    }
}

/// Removes a file, and what somebody put in its place; missing is fine.
pub(super) fn remove_damaged(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => remove_tree(path),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        other => Ok(other.or_else(missing_is_fine)?),
    }
}
