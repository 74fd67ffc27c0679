//! Removal: what no image record, container or living lease names leaves the store.

use crate::digest::Digest;
use crate::store::lock::{Exclusive, each_digest_in, missing_is_fine};
use crate::store::objects::read_if_there;
use crate::store::trash::Trash;
use crate::store::{Store, layout};
use anyhow::Result;
use fs_err as fs;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

impl Store {
    /// Removes an image's record: from now on it is no image. Its layers and blobs go with the next sweep. It is durable
    /// once [`sync_images`](Self::sync_images) was called.
    pub(crate) fn remove_image_record(&self, _: &Exclusive, id: &Digest) -> Result<()> {
        Ok(fs::remove_file(self.layout.image(id)).or_else(missing_is_fine)?)
    }

    /// Removes every layer, chain and blob that nothing names, and what dead operations left. Returns the diff IDs of the
    /// layers that went.
    ///
    /// What is needed is found out anew each time, from the records, containers and living leases: there is
    /// no count that could be wrong. All that may be many is read before the lock is taken; under it, only what changed
    /// since. Things are renamed away under the lock and removed after it is given up.
    pub(crate) fn sweep(&self) -> Result<Vec<Digest>> {
        // A power cut must not bring a record back whose layers are gone.
        self.sync_images()?;
        let mut unneeded = Unneeded::list(self)?;
        let mut read = Read::default();
        unneeded.strike_all(self, &mut read)?;
        let lock = self.exclusive()?;
        if !unneeded.is_empty() {
            unneeded.strike_all(self, &mut read)?;
        }
        self.read_leases(&lock, &mut |text| unneeded.strike(text))?;
        let mut trash = Trash::default();
        let layers = unneeded.move_to(&mut trash, self, &lock)?;
        drop(lock);
        trash.remove()?;
        self.sweep_temporaries()?;
        Ok(layers)
    }
}

/// What tells a file from one that took its place: inode, and the time of its last change.
type Stamp = (u64, i64, i64);

/// The records of images and what containers hold that were read, by path.
type Read = HashMap<PathBuf, Stamp>;

/// What is in the store and was not found to be needed yet, by the hex digits of its digest.
struct Unneeded {
    /// A layer and a chain may have the same name.
    objects: HashMap<String, Vec<PathBuf>>,
    /// What replaced layers and chains were, of which containers may still run.
    replaced: HashMap<String, Vec<PathBuf>>,
}

impl Unneeded {
    /// Returns all that is there.
    fn list(store: &Store) -> Result<Self> {
        use crate::digest::Algorithm::{Sha256, Sha512};
        let layout = &store.layout;
        let (mut objects, mut replaced) = (HashMap::new(), HashMap::new());
        for directory in [layout.layers(), layout.chains()] {
            for (hex, path) in named_in(&directory)? {
                let damaged = layout::layer_replaced(&path);
                if damaged.exists() {
                    add(&mut replaced, hex.clone(), damaged);
                }
                add(&mut objects, hex, path);
            }
        }
        for directory in [layout.blobs(Sha256), layout.blobs(Sha512)] {
            for (hex, path) in named_in(&directory)? {
                add(&mut objects, hex, path);
            }
        }
        Ok(Self { objects, replaced })
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.replaced.is_empty()
    }

    /// Takes out what is named in records and containers that were not `read` before, or changed since.
    fn strike_all(&mut self, store: &Store, read: &mut Read) -> Result<()> {
        for id in store.image_ids()? {
            let text = unread(store.layout.image(&id), read)?;
            if let Some(text) = text {
                self.strike(&text);
                self.objects.remove(id.hex());
            }
        }
        for container in store.containers()? {
            let list = layout::container_holds(&store.layout.container(&container));
            if !is_as_read(&list, read) {
                self.strike_held(store, &container);
            }
        }
        Ok(())
    }

    /// Takes out what a container needs: everything if nobody can tell.
    fn strike_held(&mut self, store: &Store, container: &str) {
        let Some(held) = store.holds(container) else {
            self.objects.clear();
            self.replaced.clear();
            return;
        };
        for digest in held {
            self.objects.remove(digest.hex());
            self.replaced.remove(digest.hex());
        }
    }

    /// Takes out what is named in `text`.
    fn strike(&mut self, text: &[u8]) {
        each_digest_in(text, &mut |_, hex| drop(self.objects.remove(hex)));
    }

    /// Moves what is left into the trash; returns the digests of what was in `layers`.
    fn move_to(self, trash: &mut Trash, store: &Store, lock: &Exclusive) -> Result<Vec<Digest>> {
        let (mut moved, layers) = (Vec::new(), store.layout.layers());
        // First what lies in a layer that may go itself.
        let all = self.replaced.into_iter().chain(self.objects);
        for path in all.flat_map(|(_, paths)| paths) {
            // Another sweep may have been faster.
            if trash.take(store, lock, &path)? && path.parent() == Some(&layers) {
                moved.extend(path.file_name().and_then(layout::digest_named));
            }
        }
        Ok(moved)
    }
}

/// Tells whether a file was read as it is now; from here on it counts as read.
fn is_as_read(path: &Path, read: &mut Read) -> bool {
    // One that is gone, or cannot be looked at, is asked after each time.
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let stamp = stamp(&metadata);
    read.insert(path.to_owned(), stamp) == Some(stamp)
}

/// A record is replaced by another file, or used; what a container holds is added to.
fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

/// Reads a file, unless it was read as it is now, or is gone.
fn unread(path: PathBuf, read: &mut Read) -> Result<Option<Vec<u8>>> {
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stamp = stamp(&metadata);
    if read.get(&path) == Some(&stamp) {
        return Ok(None);
    }
    let text = read_if_there(&path)?;
    read.insert(path, stamp);
    Ok(text)
}

fn add(all: &mut HashMap<String, Vec<PathBuf>>, hex: String, path: PathBuf) {
    all.entry(hex).or_default().push(path);
}

/// Returns what is in `directory` under the hex digits of a digest.
fn named_in(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut named = Vec::new();
    if !directory.try_exists()? {
        // No chains in a store that was made before there were any.
        return Ok(named);
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let digest = layout::digest_named(&entry.file_name());
        named.extend(digest.map(|digest| (digest.hex().to_owned(), entry.path())));
    }
    Ok(named)
}
