//! An image's record: what of it must be known to list, run and remove it.

use crate::digest::Digest;
use crate::image::ImageConfig;
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
    /// Where it came from, `docker.io/library/ubuntu@sha256:…`: the digest of the index or manifest as served.
    pub(crate) repo_digests: Vec<String>,
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

/// How the layers are put together; settled once, so that a run need not ask each layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assembly {
    /// The diff IDs of the layers to mount, base first.
    pub(crate) lower: Vec<Digest>,
    /// The layer whose root directory's owner, mode and attributes are the image's; `None` if no layer lists its root.
    pub(crate) root: Option<Digest>,
}

impl Assembly {
    /// Decides how these layers are put together, base first.
    pub(crate) fn plan(layers: &[(&Digest, &LayerMeta)]) -> Self {
        let mut lower: Vec<Digest> = Vec::with_capacity(layers.len());
        let mut root = None;
        for (diff_id, meta) in layers.iter().rev() {
            // overlayfs answers ELOOP to a layer that is there twice, and what is on top hides the other.
            if !lower.contains(diff_id) {
                lower.push((*diff_id).clone());
            }
            if root.is_none() && meta.lists_root() {
                root = Some((*diff_id).clone());
            }
            // overlayfs overlooks the mark on a layer's root directory: what is below is left out instead.
            if meta.opaque_root {
                break;
            }
        }
        lower.reverse();
        Self { lower, root }
    }
}

impl Record {
    /// Returns the record of an image just pulled; `metas` are those of `layers`, in their order.
    pub(super) fn new(
        config: &ImageConfig,
        manifest: Digest,
        repo_digest: String,
        layers: Vec<Layer>,
        metas: &[LayerMeta],
    ) -> Self {
        let named: Vec<_> = layers
            .iter()
            .map(|layer| &layer.diff_id)
            .zip(metas)
            .collect();
        Self {
            platform: config.platform(),
            manifest,
            repo_digests: vec![repo_digest],
            assembly: Assembly::plan(&named),
            created: config.created,
            pulled: Utc::now(),
            size: metas.iter().map(|meta| meta.size).sum(),
            layers,
        }
    }

    /// Adds the places where an earlier pull found the same image.
    pub(super) fn add_origins(&mut self, earlier: &Self) {
        for origin in &earlier.repo_digests {
            if !self.repo_digests.contains(origin) {
                self.repo_digests.push(origin.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn layers_are_put_together_as_overlayfs_can_take_them() {
        // Each letter is a layer; `!` marks an opaque root, `-` one that does not list its root.
        for (layers, lower, root) in [
            ("", "", None),
            ("a b c", "a b c", Some("c")),
            ("a b- c-", "a b c", Some("a")),
            ("a- b-", "a b", None),
            ("a b a", "b a", Some("a")),
            ("a b! c", "b c", Some("c")),
            ("a b!- c-", "b c", None),
            ("a b! a-", "b a", Some("b")),
        ] {
            let parsed: Vec<(Digest, LayerMeta)> =
                layers.split_terminator(' ').map(layer).collect();
            let named: Vec<_> = parsed
                .iter()
                .map(|(diff_id, meta)| (diff_id, meta))
                .collect();
            let digests = |text: &str| -> Vec<Digest> {
                text.split_terminator(' ')
                    .map(|name| layer(name).0)
                    .collect()
            };
            let expected = Assembly {
                lower: digests(lower),
                root: root.map(|name| layer(name).0),
            };
            assert_eq!(Assembly::plan(&named), expected, "{layers}");
        }
    }

    fn layer(text: &str) -> (Digest, LayerMeta) {
        let diff_id = Digest::of(&text.as_bytes()[..1]);
        let implied = if text.contains('-') {
            vec![PathBuf::new()]
        } else {
            vec!["x".into()]
        };
        let meta = LayerMeta {
            digest: diff_id.clone(),
            tar_size: 0,
            size: 0,
            entries: 0,
            implied,
            opaque_root: text.contains('!'),
            skipped: Vec::new(),
        };
        (diff_id, meta)
    }
}
