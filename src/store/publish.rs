//! Publishing: a pull's layers, blobs, image and tag become visible, in an order that survives a power cut.

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::chains::StagedChain;
use crate::store::layout::{self, Layout};
use crate::store::owners::remove_damaged;
use crate::store::stage::{Stage, create_directories, parent, sync_directory, write_synced};
use crate::store::{LayerMeta, Store};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A layer that was unpacked into a stage and whose digests were right.
#[derive(Debug, Clone)]
pub(crate) struct StagedLayer {
    /// What it was called in `Stage::layer_directory`.
    pub(crate) name: String,
    /// As computed from the tar, never as claimed.
    pub(crate) diff_id: Digest,
    pub(crate) meta: LayerMeta,
}

/// What one pull brings beside its layers, which are published as they come.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// The fix-ups that were not there.
    pub(crate) chains: Vec<StagedChain>,
    /// The diff IDs of all the image's layers, found in the store under a lease.
    pub(crate) diff_ids: Vec<Digest>,
    /// Manifests, indexes and the config, verified.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
    /// The image's ID: the digest of its config.
    pub(crate) image: Digest,
    /// The tag to set, if the pull was of one.
    pub(crate) tag: Option<Reference>,
}

/// Makes an image's record, which names every blob and layer that the image needs, of the one that is there already, if
/// any is.
pub(crate) type MakeRecord<'a> = dyn Fn(Option<&[u8]>) -> Result<Vec<u8>> + 'a;

/// What an operation found of the store went before it was done: another found that it was damaged, say. Beginning anew
/// puts it right.
#[derive(Debug, Error)]
#[error("layer `{}` went while its image was pulled", .0.short())]
pub(crate) struct Went(pub(crate) Digest);

/// A file or directory, complete in the stage, and where it goes.
struct Move {
    from: PathBuf,
    to: PathBuf,
}

impl Store {
    /// Makes a layer visible, on disk before anything names it. The caller holds a lease on it.
    ///
    /// What another pull published meanwhile is kept and ours dropped, except that a damaged layer is replaced.
    pub(crate) fn publish_layer(&self, stage: &Stage, layer: &StagedLayer) -> Result<()> {
        let meta = serde_json::to_vec(&layer.meta).context("writing down a layer's facts")?;
        fs::write(layout::layer_meta(&stage.path(&layer.name)), meta)?;
        stage.sync_part(&layer.name)?;
        let (from, to) = (stage.path(&layer.name), self.layout.layer(&layer.diff_id));
        let shared = self.shared()?;
        match fs::rename(&from, &to) {
            Err(error) if is_occupied(&error) => {
                if self.layer(&layer.diff_id)?.is_none() {
                    exchange(&from, &to)?;
                }
            }
            other => other?,
        }
        drop(shared);
        Ok(sync_directory(&self.layout.layers())?)
    }

    /// Makes an image visible. Whatever dies at whatever point: no record is there whose layers and blobs are not on
    /// disk, and no tag whose record is not.
    ///
    /// The caller holds a lease on its layers, chains and blobs: so the store's lock is held for renames alone, and
    /// nobody waits for the disk.
    pub(crate) fn publish(
        &self,
        stage: Stage,
        publication: &Publication,
        record: &MakeRecord<'_>,
    ) -> Result<()> {
        let blobs = fill(&self.layout, &stage, publication)?;
        let shared = self.shared()?;
        for chain in &publication.chains {
            self.publish_chain(&stage, chain)?;
        }
        for Move { from, to } in &blobs {
            fs::rename(from, to)?;
        }
        drop(shared);
        self.sync_published(publication)?;
        self.publish_record(&stage, publication, record)?;
        if let Some(tag) = &publication.tag {
            let id = &publication.image;
            write_synced(&stage.path("tag"), format!("{id}\n").as_bytes())?;
            let set = || self.publish_tag(&stage, tag, id);
            while !set().with_context(|| format!("setting the tag `{tag}`"))? {
                // Somebody removed the image meanwhile, and had not heard of this name.
                self.publish_record(&stage, publication, record)?;
            }
        }
        stage.remove()
    }

    /// Writes the image's record. Another pull may have found the same image under another name: neither forgets what the
    /// other wrote.
    fn publish_record(
        &self,
        stage: &Stage,
        publication: &Publication,
        record: &MakeRecord<'_>,
    ) -> Result<()> {
        let id = &publication.image;
        let born = stage.path("record");
        loop {
            let earlier = self.image_record(id)?;
            write_synced(&born, &record(earlier.as_deref())?)?;
            let alone = self.exclusive()?;
            // A layer that was found is there if the pull held a lease on it before it looked, unless it was condemned.
            for diff_id in &publication.diff_ids {
                ensure!(self.has_layer(diff_id), Went(diff_id.clone()));
            }
            if self.image_record(id)? == earlier {
                fs::rename(&born, self.layout.image(id))?;
                drop(alone);
                return Ok(sync_directory(&self.layout.images())?);
            }
            drop(alone);
            fs::remove_file(&born)?;
        }
    }

    /// Lets a tag stand for the image, whose record is on disk; false if that is gone.
    fn publish_tag(&self, stage: &Stage, tag: &Reference, id: &Digest) -> Result<bool> {
        let path = self.layout.tag(tag).context("the name has none")?;
        loop {
            create_directories(&self.layout.references(), parent(&path))?;
            let shared = self.shared()?;
            if !self.layout.image(id).exists() {
                return Ok(false);
            }
            if path.is_dir() {
                // Somebody's, where a file belongs, which no rename replaces.
                remove_damaged(&path)?;
            }
            match fs::rename(stage.path("tag"), &path) {
                // Its directory went with another tag, just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other?;
                    drop(shared);
                    sync_directory(parent(&path))?;
                    return Ok(true);
                }
            }
        }
    }

    /// Writes the names of layers and blobs to disk.
    fn sync_published(&self, publication: &Publication) -> Result<()> {
        let mut directories: Vec<PathBuf> = publication
            .blobs
            .iter()
            .map(|(digest, _)| self.layout.blobs(digest.algorithm()))
            .collect();
        // Also for what was found: the pull that brought it may have died before it came to this.
        directories.push(self.layout.layers());
        if self.layout.chains().is_dir() {
            directories.extend([self.layout.chains(), self.layout.version().to_owned()]);
        }
        directories.sort();
        directories.dedup();
        for directory in directories {
            sync_directory(&directory)?;
        }
        Ok(())
    }
}

/// Writes what goes with the image into the stage, and all of it to disk.
fn fill(layout: &Layout, stage: &Stage, publication: &Publication) -> Result<Vec<Move>> {
    for chain in &publication.chains {
        stage.sync_part(&chain.name)?;
    }
    let mut blobs = Vec::new();
    for (number, (digest, bytes)) in publication.blobs.iter().enumerate() {
        let from = stage.path(&format!("blob-{number}"));
        write_synced(&from, bytes)?;
        let to = layout.blob(digest);
        blobs.push(Move { from, to });
    }
    Ok(blobs)
}

/// Puts a whole layer or chain in a damaged one's stead; at no time is there none. What was damaged stays in it: containers may run on
/// that, and would lose their files.
pub(super) fn exchange(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let damaged = match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => from.to_owned(),
        // Not every file system knows how (renameat2(2)).
        Err(Errno::INVAL | Errno::NOSYS) => {
            let damaged = from.with_extension("damaged");
            fs::rename(to, &damaged)?;
            fs::rename(from, to)?;
            damaged
        }
        Err(error) => {
            return Err(error).with_context(|| format!("replacing `{}`", to.display()));
        }
    };
    Ok(fs::rename(damaged, layout::layer_replaced(to))?)
}

/// Tells whether a rename failed because a directory that is not empty has the name already.
pub(super) fn is_occupied(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty)
}
