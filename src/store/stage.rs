//! `tmp/`: where everything is born before a rename makes it visible, and where what is removed goes to die.
//!
//! A directory in `tmp/` is flock'ed by the operation that owns it; one that is not has lost its owner.
//! A plain file in `tmp/` lives only while its maker holds the store's lock.

use crate::store::lock::{Exclusive, lock, missing_is_fine, random_name, try_lock};
use crate::store::{LayerPaths, Store, layout, sync};
use crate::sys::tree;
use anyhow::{Context, Result};
use fs_err as fs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A directory in `tmp/` for one operation: locked while that lives, removed with all in it when dropped.
#[must_use]
pub(crate) struct Stage {
    directory: PathBuf,
    #[expect(dead_code, reason = "held for its lock")]
    descriptor: fs::File,
}

impl Stage {
    /// Makes a directory in `tmp/`. The caller holds the store's lock, shared or not, so that no sweep
    /// can come between the directory and its lock.
    pub(super) fn create(store: &Store) -> Result<Self> {
        let directory = store.layout.temporary().join(random_name());
        fs::create_dir(&directory)?;
        let descriptor = fs::File::open(&directory)?;
        lock(&descriptor, &directory)?;
        Ok(Self {
            directory,
            descriptor,
        })
    }

    /// Moves a directory of the store's to `tmp/`, where it takes no more room than before. The caller holds the store's lock
    /// exclusively.
    pub(super) fn of(store: &Store, path: &Path) -> Result<Self> {
        let directory = store.layout.temporary().join(random_name());
        let descriptor = fs::File::open(path)?;
        // Locked before it is there, so that no sweep takes it for a dead operation's.
        if !try_lock(&descriptor)? {
            // Who fills a volume finds that it has gone.
            let stage = Self::create(store)?;
            fs::rename(path, stage.path(&random_name()))?;
            return Ok(stage);
        }
        fs::rename(path, &directory)?;
        Ok(Self {
            directory,
            descriptor,
        })
    }

    /// Makes room for a layer or chain and returns the empty directory for its files, mode 0755. `name` is the
    /// caller's own, to be repeated in `StagedLayer` or `StagedChain`.
    pub(crate) fn layer_directory(&self, name: &str) -> Result<PathBuf> {
        let fs = layout::layer_fs(&self.path(name));
        fs::create_dir_all(&fs)?;
        // Whatever the umask is: this is what the layer's root is if the layer does not list it.
        fs::set_permissions(&fs, std::fs::Permissions::from_mode(0o755))?;
        Ok(fs)
    }

    /// Returns the directory for a layer's files that `layer_directory` made.
    pub(crate) fn fs(&self, name: &str) -> PathBuf {
        layout::layer_fs(&self.path(name))
    }

    /// Makes an empty directory, mode 0700, for what is needed while the stage is filled.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.path(name);
        rustix::fs::mkdir(&directory, Mode::RWXU)
            .with_context(|| format!("creating directory `{}`", directory.display()))?;
        Ok(directory)
    }

    /// Returns where the parts of the layer `name` go.
    pub(crate) fn layer_paths(&self, name: &str) -> LayerPaths {
        LayerPaths::of(&self.path(name))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes everything to disk that was written to the stage.
    pub(super) fn sync(&self) -> Result<()> {
        sync::tree(&self.directory)
    }

    /// Writes to disk what was written to the directory `name` of the stage.
    pub(super) fn sync_part(&self, name: &str) -> Result<()> {
        sync::tree(&self.path(name))
    }

    /// Removes the directory, for callers to whom it matters that this worked.
    pub(super) fn remove(self) -> Result<()> {
        remove_tree(&self.directory)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed now has no lock any more and is met again by every sweep, and `prune` tells.
        remove_tree(&self.directory).ok();
    }
}

impl Store {
    /// Makes a directory in `tmp/` for this operation, after removing what operations that died left there.
    pub(crate) fn stage(&self) -> Result<Stage> {
        // Something that others left and that cannot be removed is no reason not to go on.
        self.sweep_temporaries().ok();
        let _shared = self.shared()?;
        Stage::create(self)
    }

    /// Removes what dead operations left in `tmp/`. Nobody is waited for: what cannot be looked at now is left to the next.
    pub(crate) fn sweep_temporaries(&self) -> Result<()> {
        for entry in fs::read_dir(self.layout.temporary())? {
            let path = entry?.path();
            if has_owner(&path)? {
                continue;
            }
            let Some(exclusive) = self.try_exclusive()? else {
                return Ok(());
            };
            // One at a time, so that a thousand of them need no thousand descriptors.
            if let Some(_owned) = claim(&path, &exclusive)? {
                drop(exclusive);
                remove_tree(&path)?;
            }
        }
        Ok(())
    }

    /// Writes `bytes` to `target` by way of `tmp/`: after a power cut there is the old file or the new one.
    /// The caller holds the store's lock, shared or not.
    pub(super) fn write_durably(&self, target: &Path, bytes: &[u8]) -> Result<()> {
        let born = self.layout.temporary().join(random_name());
        let written = write_synced(&born, bytes)
            .and_then(|()| fs::rename(&born, target))
            .and_then(|()| sync_directory(parent(target)));
        if written.is_err() {
            // The first error is the one to tell.
            fs::remove_file(&born).ok();
        }
        Ok(written?)
    }
}

/// Tells whether a directory in `tmp/` is somebody's: most are, and to see that needs no lock of the store's.
fn has_owner(path: &Path) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        // Its maker waits for us if we were first; we are gone at once.
        Ok(directory) => Ok(!try_lock(&directory)?),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(error) => Err(error).with_context(|| format!("opening `{}`", path.display())),
    }
}

/// Takes over what lies at `path` in `tmp/` if its owner is dead: removes a file, returns a directory's lock.
fn claim(path: &Path, _: &Exclusive) -> Result<Option<fs::File>> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !kind.is_dir() {
        // Its maker would hold the store's lock, and we do.
        fs::remove_file(path).or_else(missing_is_fine)?;
        return Ok(None);
    }
    let directory = match fs::File::open(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(try_lock(&directory)?.then_some(directory))
}

/// Writes a new file and its data to disk, but not its name: see [`sync_directory`].
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes the names in `directory` to disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Makes `directory`, which lies somewhere below `top`, and its parents; each is on disk before the next.
pub(super) fn create_directories(top: &Path, directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Ok(()) => sync_directory(parent(directory)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && directory != top => {
            create_directories(top, parent(directory))?;
            create_directories(top, directory)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent()
        .expect("everything in a store lies in a directory")
}

/// Removes `path` and everything below it. Missing is fine.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let name = path.file_name().expect("everything in a store has a name");
    let removed =
        fs::File::open(parent(path)).and_then(|directory| tree::remove(directory.as_fd(), name));
    removed.with_context(|| format!("removing `{}`", path.display()))
}
