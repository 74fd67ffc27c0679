//! An image's record: what of it must be known to list, run and remove it.

use crate::digest::Digest;
use crate::image::ImageConfig;
use crate::image::assembly::Assembly;
use crate::platform::Platform;
use crate::store::LayerMeta;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What the store keeps of an image beside its blobs. Every layer and blob that the image needs is named here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) platform: Platform,
    /// The digest of the platform's manifest.
    pub(crate) manifest: Digest,
    /// The indexes that led to it, where one was inside another, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) indexes: Vec<Digest>,
    /// Where it came from, `docker.io/library/ubuntu@sha256:…`: the digest of the index or manifest as served.
    pub(crate) repo_digests: Vec<String>,
    /// Every tag that was ever set for the image, so that nobody needs to read those of all images to find its own; some
    /// may stand for others by now. A record of an older ddock has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    /// Base first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) assembly: Assembly,
    /// When the image was made, as its maker says.
    pub(crate) created: Option<DateTime<Utc>>,
    pub(crate) pulled: DateTime<Utc>,
    /// Bytes of the unpacked files of all layers.
    pub(crate) size: u64,
}

/// A layer of an image, as its manifest and its config name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Of the uncompressed tar, as computed.
    pub(crate) diff_id: Digest,
    /// Of the compressed bytes.
    pub(crate) digest: Digest,
    /// Compressed bytes.
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

impl Record {
    /// Returns the record of an image that was just fetched; `metas` are those of `layers`, in their order.
    pub(super) fn new(
        config: &ImageConfig,
        manifest: Digest,
        repo_digest: Option<String>,
        tags: Vec<String>,
        layers: Vec<Layer>,
        metas: &[LayerMeta],
        assembly: Assembly,
    ) -> Self {
        Self {
            platform: config.platform(),
            manifest,
            indexes: Vec::new(),
            repo_digests: repo_digest.into_iter().collect(),
            tags: Some(tags),
            assembly,
            created: config.created,
            pulled: Utc::now(),
            size: metas.iter().map(|meta| meta.size).sum(),
            layers,
        }
    }

    /// Adds the places where an earlier pull found the same image. What came from no registry leaves in place what one
    /// served: its digests lead through these documents.
    pub(super) fn add_origins(&mut self, earlier: &Self) {
        if self.repo_digests.is_empty() {
            self.manifest = earlier.manifest.clone();
            self.layers.clone_from(&earlier.layers);
        }
        for origin in &earlier.repo_digests {
            if !self.repo_digests.contains(origin) {
                self.repo_digests.push(origin.clone());
            }
        }
        for index in &earlier.indexes {
            if !self.indexes.contains(index) {
                self.indexes.push(index.clone());
            }
        }
    }

    /// Adds tags that may stand for the image.
    pub(super) fn add_tags(&mut self, more: Vec<String>) {
        let tags = self.tags.get_or_insert_default();
        tags.extend(more);
        tags.sort();
        tags.dedup();
    }
}
