//! What the store holds under the name of its content: blobs, layers, image records.

use crate::digest::{Digest, Hasher};
use crate::store::lock::{Exclusive, digests_in, missing_is_fine};
use crate::store::stage::{Stage, sync_directory, write_synced};
use crate::store::{Damaged, Store, layout};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Bytes of the largest file that is read as a whole: no manifest or config of this size is ever taken in, and one
/// that grew here is damaged.
const LARGEST: u64 = 16 << 20;

/// Bytes that most tags, records, manifests and configs fit in.
const USUAL: usize = 16 << 10;

/// What is known of an unpacked layer, settled when it was unpacked. The diff ID is the layer's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// The digest of the compressed bytes that this layer was unpacked from; the diff ID if they were not compressed.
    pub(crate) digest: Digest,
    /// Bytes of the uncompressed tar.
    pub(crate) tar_size: u64,
    /// Bytes in regular files, hard links counted once.
    pub(crate) size: u64,
    /// Entries of the tar.
    pub(crate) entries: u64,
    /// Directories that the layer needs and does not list, as paths from the layer's root, which is the empty path.
    #[serde(default, with = "crate::store::escape")]
    pub(crate) implied: Vec<PathBuf>,
    /// Those of `implied` that hold nothing but whiteouts: they are not there unless a lower layer has them.
    #[serde(default, with = "crate::store::escape")]
    pub(crate) bare: Vec<PathBuf>,
    /// Directories that hold whiteouts.
    #[serde(default, with = "crate::store::escape")]
    pub(crate) with_whiteouts: Vec<PathBuf>,
    /// Hard links to files of lower layers, each with its target; they are not in the layer's files.
    #[serde(default, with = "crate::store::escape::pairs")]
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// The root directory is opaque: nothing below this layer is seen.
    #[serde(default)]
    pub(crate) opaque_root: bool,
    /// What of the tar could not be kept, one sentence each.
    #[serde(default)]
    pub(crate) skipped: Vec<String>,
}

/// An image's record that is on disk already, and in nobody's sight.
pub(crate) struct PreparedRecord {
    bytes: Vec<u8>,
    stage: Stage,
}

impl PreparedRecord {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where the parts of a layer are.
#[derive(Debug, Clone)]
pub(crate) struct LayerPaths {
    /// Its files.
    pub(crate) fs: PathBuf,
    /// What makes the tar again, together with them.
    pub(crate) recipe: PathBuf,
    /// What of the tar has no place among them.
    pub(crate) kept: PathBuf,
}

impl LayerPaths {
    pub(super) fn of(layer: &Path) -> Self {
        Self {
            fs: layout::layer_fs(layer),
            recipe: layout::layer_recipe(layer),
            kept: layout::layer_kept(layer),
        }
    }
}

impl LayerMeta {
    /// Tells whether the layer lists its root directory, so that its owner and mode hold for the whole image.
    pub(crate) fn lists_root(&self) -> bool {
        !self.implied.iter().any(|path| path.as_os_str().is_empty())
    }
}

impl Store {
    /// Returns a manifest, index or config; `None` if it is not here. Its bytes are checked against the
    /// digest each time: an error with [`Damaged`] says that they are others.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.layout.blob(digest);
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        ensure!(
            hasher.finish() == *digest,
            Damaged(format!(
                "blob `{}` does not have its digest",
                path.display()
            ))
        );
        Ok(Some(bytes))
    }

    /// Returns the digests that occur in a blob: of an index those of its manifests, of a manifest those of
    /// its config and layers. There are none in a blob that is not here.
    pub(crate) fn named_in_blob(&self, digest: &Digest) -> Result<Vec<Digest>> {
        Ok(digests_in(&self.blob(digest)?.unwrap_or_default()))
    }

    /// Returns what is known of a layer; `None` if it is not here, or not whole: then a pull puts it right.
    pub(crate) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerMeta>> {
        let layer = self.layout.layer(diff_id);
        let Some(meta) = read_if_there(&layout::layer_meta(&layer))? else {
            return Ok(None);
        };
        let whole = layout::layer_fs(&layer).is_dir();
        Ok(serde_json::from_slice(&meta).ok().filter(|_| whole))
    }

    /// Returns the diff IDs of all layers, whole or not, needed or not.
    pub(crate) fn layers(&self) -> Result<Vec<Digest>> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(self.layout.layers())? {
            layers.extend(layout::digest_named(&entry?.file_name()));
        }
        Ok(layers)
    }

    /// Tells whether a layer is here and nobody found that it is not whole.
    pub(super) fn has_layer(&self, diff_id: &Digest) -> bool {
        let layer = self.layout.layer(diff_id);
        layout::layer_meta(&layer).exists() && layout::layer_fs(&layer).is_dir()
    }

    /// Returns the directory that holds a layer's files, there or not.
    pub(crate) fn layer_fs(&self, diff_id: &Digest) -> PathBuf {
        layout::layer_fs(&self.layout.layer(diff_id))
    }

    /// Returns where the parts of a layer are, whether it is here or not.
    pub(crate) fn layer_paths(&self, diff_id: &Digest) -> LayerPaths {
        LayerPaths::of(&self.layout.layer(diff_id))
    }

    /// Says that a layer is not whole: it stays where it is, for what runs on it, and the next pull replaces it.
    pub(crate) fn condemn_layer(&self, _: &Exclusive, diff_id: &Digest) -> Result<()> {
        let meta = layout::layer_meta(&self.layout.layer(diff_id));
        Ok(fs::remove_file(meta).or_else(missing_is_fine)?)
    }

    /// Returns the IDs of all images, tagged or not.
    pub(crate) fn image_ids(&self) -> Result<Vec<Digest>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.layout.images())? {
            let path = entry?.path();
            ids.extend(path.file_stem().and_then(layout::digest_named));
        }
        Ok(ids)
    }

    /// Returns an image's record; `None` if there is no such image.
    pub(crate) fn image_record(&self, id: &Digest) -> Result<Option<Vec<u8>>> {
        read_if_there(&self.layout.image(id))
    }

    /// Writes an image's record to disk, out of sight, for [`rewrite_image_record`](Self::rewrite_image_record).
    pub(crate) fn prepare_record(&self, bytes: Vec<u8>) -> Result<PreparedRecord> {
        let stage = self.stage()?;
        write_synced(&stage.path("record"), &bytes)?;
        Ok(PreparedRecord { bytes, stage })
    }

    /// Replaces the record of an image that stays. It is durable once [`sync_images`](Self::sync_images) was called.
    pub(crate) fn rewrite_image_record(
        &self,
        _: &Exclusive,
        id: &Digest,
        record: &PreparedRecord,
    ) -> Result<()> {
        fs::rename(record.stage.path("record"), self.layout.image(id))?;
        Ok(())
    }

    /// Writes to disk which records there are.
    pub(crate) fn sync_images(&self) -> Result<()> {
        Ok(sync_directory(&self.layout.images())?)
    }

    /// Marks an image as used now: a record's time of change is that of the image's last use.
    pub(crate) fn touch_image(&self, id: &Digest) -> Result<()> {
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = rustix::fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        let path = self.layout.image(id);
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty())
            .with_context(|| format!("setting the time of `{}`", path.display()))
    }
}

/// Returns the content of a file of at most [`LARGEST`] bytes, `None` if it is not there.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    // A pipe that somebody put in its place keeps nobody waiting.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = fs::OpenOptions::new();
    let file = match options.read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = vec![0; USUAL];
    let mut file = file.take(LARGEST);
    let mut length = 0;
    loop {
        let read = match file.read(&mut bytes[length..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        length += read;
        // A regular file gives all that it has: who got less need not ask again. A start reads four such files.
        if length < bytes.len() {
            break;
        }
        bytes.resize(2 * length, 0);
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}
