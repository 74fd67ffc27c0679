//! Removal: what no image record, container or living lease names leaves the store.

use crate::digest::{Algorithm, Digest};
use crate::store::lock::{Exclusive, digests_in, missing_is_fine, random_name};
use crate::store::objects::read_if_there;
use crate::store::stage::{Stage, sync_directory};
use crate::store::{Store, layout};
use anyhow::Result;
use fs_err as fs;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

impl Store {
    /// Removes an image's record: from now on it is no image. Its layers and blobs go with the next sweep.
    pub(crate) fn remove_image_record(&self, _: &Exclusive, id: &Digest) -> Result<()> {
        Ok(fs::remove_file(self.layout.image(id)).or_else(missing_is_fine)?)
    }

    /// Removes every layer, chain and blob that nothing names, tags without an image, and what dead operations
    /// left. Returns the diff IDs of the layers that went.
    ///
    /// What is needed is found out anew each time, from the records, containers and living leases: there is
    /// no count that could be wrong. Things are renamed away under the lock and removed after it is given up.
    pub(crate) fn sweep(&self, lock: Exclusive) -> Result<Vec<Digest>> {
        let images: HashSet<Digest> = self.image_ids()?.into_iter().collect();
        for (reference, id) in self.tags()? {
            if !images.contains(&id) {
                self.remove_tag(&lock, &reference)?;
            }
        }
        let held = self.held()?;
        let needed = self.needed(&lock, images, &held)?;
        // A power cut must not bring a record back whose layers are gone.
        sync_directory(&self.layout.images())?;
        let trash = Stage::create(self)?;
        let layers = move_unneeded(&self.layout.layers(), &needed, &trash)?;
        move_unneeded(&self.layout.chains(), &needed, &trash)?;
        self.move_replaced(&held, &trash)?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            move_unneeded(&self.layout.blobs(algorithm), &needed, &trash)?;
        }
        drop(lock);
        trash.remove()?;
        self.sweep_temporaries()?;
        Ok(layers)
    }

    /// Returns the digests of all that must stay.
    fn needed(
        &self,
        lock: &Exclusive,
        images: HashSet<Digest>,
        held: &HashSet<Digest>,
    ) -> Result<HashSet<Digest>> {
        let mut needed = held.clone();
        for id in images {
            needed.extend(digests_in(&self.image_record(&id)?.unwrap_or_default()));
            needed.insert(id);
        }
        self.collect_leases(lock, &mut needed)?;
        Ok(needed)
    }

    /// Returns the digests of what containers need.
    fn held(&self) -> Result<HashSet<Digest>> {
        let mut held = HashSet::new();
        for container in self.containers()? {
            let holds = layout::container_holds(&self.layout.container(&container));
            held.extend(digests_in(&read_if_there(&holds)?.unwrap_or_default()));
        }
        Ok(held)
    }

    /// Moves damaged layers and chains that were replaced, and that no container can run on any more, into the trash.
    fn move_replaced(&self, held: &HashSet<Digest>, trash: &Stage) -> Result<()> {
        for (digest, path) in [
            named_in(&self.layout.layers())?,
            named_in(&self.layout.chains())?,
        ]
        .into_iter()
        .flatten()
        {
            if !held.contains(&digest) {
                let replaced = layout::layer_replaced(&path);
                fs::rename(replaced, trash.path(&random_name())).or_else(missing_is_fine)?;
            }
        }
        Ok(())
    }
}

/// Moves what is in `directory` under the name of a digest that is not `needed` into the trash.
fn move_unneeded(directory: &Path, needed: &HashSet<Digest>, trash: &Stage) -> Result<Vec<Digest>> {
    let mut moved = Vec::new();
    for (digest, path) in named_in(directory)? {
        if !needed.contains(&digest) {
            fs::rename(path, trash.path(&random_name()))?;
            moved.push(digest);
        }
    }
    Ok(moved)
}

/// Returns what is in `directory` under the name of a digest.
fn named_in(directory: &Path) -> Result<Vec<(Digest, PathBuf)>> {
    let mut named = Vec::new();
    if !directory.try_exists()? {
        // No chains in a store that was made before there were any.
        return Ok(named);
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let digest = layout::digest_named(&entry.file_name());
        named.extend(digest.map(|digest| (digest, entry.path())));
    }
    Ok(named)
}
