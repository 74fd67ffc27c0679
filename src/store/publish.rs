//! Publishing: a pull's layers, blobs, image and tag become visible, in an order that survives a power cut.

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::chains::StagedChain;
use crate::store::stage::{Stage, create_directories, parent, sync_directory, write_synced};
use crate::store::{LayerMeta, Store, layout};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// A layer that was unpacked into a stage and whose digests were right.
#[derive(Debug, Clone)]
pub(crate) struct StagedLayer {
    /// What it was called in `Stage::layer_directory`.
    pub(crate) name: String,
    /// As computed from the tar, never as claimed.
    pub(crate) diff_id: Digest,
    pub(crate) meta: LayerMeta,
}

/// What one pull brings.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// The layers that were not there.
    pub(crate) staged: Vec<StagedLayer>,
    /// The fix-ups that were not there.
    pub(crate) chains: Vec<StagedChain>,
    /// The diff IDs of all the image's layers; those not staged were found in the store under a lease.
    pub(crate) diff_ids: Vec<Digest>,
    /// Manifests, indexes and the config, verified.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
    /// The image's ID: the digest of its config.
    pub(crate) image: Digest,
    /// The image's record; it names every blob and layer that the image needs.
    pub(crate) record: Vec<u8>,
    /// The tag to set, if the pull was of one.
    pub(crate) tag: Option<Reference>,
}

/// A file or directory, complete in the stage, and where it goes.
struct Move {
    from: PathBuf,
    to: PathBuf,
}

impl Store {
    /// Makes a whole pull visible. Whatever dies at whatever point: no record is there whose layers and
    /// blobs are not on disk, and no tag whose record is not.
    ///
    /// What another pull published meanwhile is kept and ours dropped, except that a damaged layer is replaced.
    pub(crate) fn publish(&self, stage: Stage, publication: &Publication) -> Result<()> {
        let blobs = self.fill(&stage, publication)?;
        let shared = self.shared()?;
        for layer in &publication.staged {
            self.publish_layer(&stage, layer)?;
        }
        for chain in &publication.chains {
            self.publish_chain(&stage, chain)?;
        }
        for Move { from, to } in &blobs {
            fs::rename(from, to)?;
        }
        self.sync_published(publication)?;
        // A layer that was found, not staged, is there if the pull held a lease on it before it looked.
        for diff_id in &publication.diff_ids {
            ensure!(
                self.layer_fs(diff_id).is_dir(),
                "layer `{}` went while its image was pulled",
                diff_id.short()
            );
        }
        self.write_durably(&self.layout.image(&publication.image), &publication.record)?;
        if let Some(tag) = &publication.tag {
            self.set_tag(&shared, tag, &publication.image)?;
        }
        drop(shared);
        stage.remove()
    }

    /// Writes what goes with the layers into the stage, and all of the stage to disk.
    fn fill(&self, stage: &Stage, publication: &Publication) -> Result<Vec<Move>> {
        for layer in &publication.staged {
            let meta = serde_json::to_vec(&layer.meta).context("writing down a layer's facts")?;
            fs::write(layout::layer_meta(&stage.path(&layer.name)), meta)?;
        }
        let mut blobs = Vec::new();
        let is_little = publication.staged.is_empty() && publication.chains.is_empty();
        for (number, (digest, bytes)) in publication.blobs.iter().enumerate() {
            let from = stage.path(&format!("blob-{number}"));
            if is_little {
                // Without layers there is little to sync, and the file system may be busy with a lot.
                write_synced(&from, bytes)?;
            } else {
                fs::write(&from, bytes)?;
            }
            let to = self.layout.blob(digest);
            blobs.push(Move { from, to });
        }
        if let Some(path) = publication
            .tag
            .as_ref()
            .and_then(|tag| self.layout.tag(tag))
        {
            // Early, for the sync below to take with it. Empty directories harm nobody.
            create_directories(&self.layout.references(), parent(&path))?;
        }
        if !is_little {
            stage.sync()?;
        }
        Ok(blobs)
    }

    /// Renames a layer to its place; the lock keeps others from removing it again.
    fn publish_layer(&self, stage: &Stage, layer: &StagedLayer) -> Result<()> {
        let (from, to) = (stage.path(&layer.name), self.layout.layer(&layer.diff_id));
        match fs::rename(&from, &to) {
            Ok(()) => Ok(()),
            Err(error) if is_occupied(&error) => {
                if self.layer(&layer.diff_id)?.is_some() {
                    return Ok(());
                }
                exchange(&from, &to)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the names of layers and blobs to disk.
    fn sync_published(&self, publication: &Publication) -> Result<()> {
        let mut directories: Vec<PathBuf> = publication
            .blobs
            .iter()
            .map(|(digest, _)| self.layout.blobs(digest.algorithm()))
            .collect();
        // Also for layers that were found: the pull that brought them may have died before it came to this.
        directories.push(self.layout.layers());
        if !publication.chains.is_empty() {
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
