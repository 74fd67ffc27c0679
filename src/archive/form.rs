//! What an archive is made of: the names of its files, and what the JSON in them says.
//!
//! Docker's part is `manifest.json` (moby, `image/tarexport`), the other one an image layout (image-spec `image-layout.md`).

use crate::digest::Digest;
use crate::image::Layer;
use crate::platform::Platform;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const DOCKER_MANIFEST: &str = "manifest.json";
pub(super) const INDEX: &str = "index.json";
pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const LAYOUT_VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// image-spec annotations.md: the tag, and containerd's word for the whole name.
pub(super) const TAG: &str = "org.opencontainers.image.ref.name";
pub(super) const NAME: &str = "io.containerd.image.name";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Returns where an image layout has what is called `digest`.
pub(super) fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// An image in `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    /// Base first.
    pub(super) layers: Vec<String>,
}

/// `index.json`, an index in it, or a manifest: what tells them apart is which lists they have.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Descriptor>,
    /// Base first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// image-spec descriptor.md.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<PlatformWords>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// image-spec image-index.md, `platform`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PlatformWords {
    architecture: String,
    os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl PlatformWords {
    pub(super) fn of(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
        }
    }

    pub(super) fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

impl Descriptor {
    pub(super) fn of(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the descriptor of a manifest with these bytes.
    pub(super) fn of_manifest(bytes: &[u8]) -> Self {
        Self::of(OCI_MANIFEST, Digest::of(bytes), bytes.len() as u64)
    }
}

/// Returns the manifest of an image with these layers. The same image gives the same bytes, always.
pub(super) fn manifest(config: &Digest, config_size: u64, layers: &[Layer]) -> Vec<u8> {
    let layer = |layer: &Layer| Descriptor::of(&layer.media_type, layer.digest.clone(), layer.size);
    let document = Document {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        manifests: None,
        config: Some(Descriptor::of(OCI_CONFIG, config.clone(), config_size)),
        layers: Some(layers.iter().map(layer).collect()),
    };
    json(&document)
}

pub(super) fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("texts and numbers are JSON")
}
