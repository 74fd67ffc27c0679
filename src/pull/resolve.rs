//! Resolving: from a reference to the one image that is meant, its manifest and config.

use crate::digest::{Algorithm, Digest};
use crate::image::{Fetched, Image, ImageConfig, Layer};
use crate::platform::Platform;
use crate::pull::indexes;
use crate::reference::Reference;
use crate::registry::{self, Client, Descriptor, Document, Manifest, RegistryError};
use crate::store::Store;
use anyhow::{Result, bail, ensure};

/// What a reference stands for, verified from its manifest down to its config.
pub(crate) struct Resolved {
    /// The digest of the index or manifest as served.
    pub(crate) repo_digest: Digest,
    /// The digest of the image's own manifest.
    pub(crate) manifest: Digest,
    /// The indexes that led to it, the outermost first.
    pub(crate) indexes: Vec<Digest>,
    /// The image's ID: the digest of its config.
    pub(crate) image: Digest,
    pub(crate) config: ImageConfig,
    /// Base first. That a layer's two names belong together is the config's claim.
    pub(crate) layers: Vec<Layer>,
    /// The layers that their descriptors bring along, verified.
    pub(crate) inline: Vec<(Digest, Vec<u8>)>,
    /// The indexes if there are any, the manifest and the config.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
}

impl Resolved {
    /// Tells whether all but the layers is in the store already, under this name.
    pub(crate) fn is_out(&self, store: &Store, reference: &Reference) -> bool {
        let is_tagged =
            reference.digest().is_some() || tagged(store, reference).as_ref() == Some(&self.image);
        let name = reference.with_digest(self.repo_digest.clone());
        is_tagged
            && served_as(store, &self.image, &name).is_some_and(|image| image.is_assembled(store))
            && self
                .blobs
                .iter()
                .all(|(digest, _)| copy(store, digest).is_some())
    }

    /// Returns what is to be published once all layers are here.
    pub(crate) fn fetched(self, reference: &Reference) -> Fetched {
        Fetched {
            origin: Some(reference.with_digest(self.repo_digest).to_string()),
            // As in Docker, a name with a digest sets no tag.
            tag: reference.digest().is_none().then(|| reference.clone()),
            manifest: self.manifest,
            indexes: self.indexes,
            image: self.image,
            config: self.config,
            layers: self.layers,
            blobs: self.blobs,
        }
    }

    /// Returns what of the store this image needs, there or not.
    pub(crate) fn needed(&self) -> Vec<Digest> {
        let layers = self.layers.iter().map(|layer| &layer.diff_id);
        let blobs = self.blobs.iter().map(|(digest, _)| digest);
        layers.chain(blobs).cloned().collect()
    }
}

/// Finds the image that `reference` names for `platform`, or for this machine.
///
/// If the registry's answer to "what does this tag name now" is what was pulled last, nothing else is asked.
pub(crate) async fn resolve(
    store: &Store,
    client: &Client<'_>,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Resolved> {
    let served = match unchanged(store, client, reference).await? {
        Some(document) => document,
        None => client.manifest(reference).await?,
    };
    let repo_digest = served.digest.clone();
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    let found = indexes::find(Some(store), client, reference, served, wanted).await?;
    let document = found.image;
    let Manifest::Image(image) = &document.manifest else {
        bail!("what is no index is an image");
    };
    let image = image.clone();
    let indexes = found
        .indexes
        .iter()
        .map(|(digest, _)| digest.clone())
        .collect();
    let mut blobs = found.indexes;
    let config = match copy(store, &image.config.digest) {
        Some(bytes) => bytes,
        None => client.config(&image.config).await?,
    };
    let parsed = ImageConfig::parse(&config)?;
    if let Some(platform) = platform {
        check_platform(reference, platform, &parsed)?;
    }
    let mut inline = Vec::new();
    for layer in &image.layers {
        inline.extend(layer.inline()?.map(|bytes| (layer.digest.clone(), bytes)));
    }
    let layers = layers(image.layers, &parsed)?;
    blobs.push((document.digest.clone(), document.bytes));
    blobs.push((image.config.digest.clone(), config));
    Ok(Resolved {
        repo_digest,
        manifest: document.digest,
        indexes,
        image: image.config.digest,
        config: parsed,
        layers,
        inline,
        blobs,
    })
}

/// Returns our copy of what a tag names, if we have one and the registry says that it is still the same.
async fn unchanged(
    store: &Store,
    client: &Client<'_>,
    reference: &Reference,
) -> Result<Option<Document>> {
    if reference.digest().is_some() {
        return Ok(None);
    }
    let Some(id) = tagged(store, reference) else {
        return Ok(None);
    };
    let served = match client.head(reference).await {
        Ok(digest) => digest,
        // Some registries know no HEAD, and none can explain itself in its answer: GET asks again.
        Err(RegistryError::NotFound { .. } | RegistryError::Status { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(name) = served.map(|digest| reference.with_digest(digest)) else {
        return Ok(None);
    };
    if served_as(store, &id, &name).is_none() {
        return Ok(None);
    }
    let bytes = name.digest().and_then(|digest| copy(store, digest));
    bytes
        .map(|bytes| Document::read(bytes, "", &name))
        .transpose()
}

/// Returns the image that the tag stands for. A tag that cannot be read counts as missing: the pull sets it anew.
fn tagged(store: &Store, reference: &Reference) -> Option<Digest> {
    store.tag(reference).ok().flatten()
}

/// Returns the image `id` if it is here and was served under `name`, which has a digest.
fn served_as(store: &Store, id: &Digest, name: &Reference) -> Option<Image> {
    // A record that cannot be read counts as missing: pulling again puts it right.
    let image = Image::open(store, id.clone()).ok().flatten();
    image.filter(|image| image.record.repo_digests.contains(&name.to_string()))
}

/// Returns a blob that the store has. One that is damaged counts as missing: it is fetched again.
pub(super) fn copy(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    store.blob(digest).ok().flatten()
}

/// An image that comes without an index is for whatever platform it is for; only one who asked is told.
fn check_platform(reference: &Reference, wanted: &Platform, config: &ImageConfig) -> Result<()> {
    let found = config.platform();
    ensure!(
        wanted.rank(&found).is_some(),
        "image with reference {reference} was found but its platform ({found}) \
         does not match the specified platform ({wanted})"
    );
    Ok(())
}

/// Returns what errors call a layer. One that registries may not hand on is most likely missing for that reason.
pub(super) fn name(layer: &Layer) -> String {
    let id = layer.digest.short();
    if registry::is_foreign(&layer.media_type) {
        return format!(
            "layer `{id}` is a foreign (nondistributable) layer, which is asked of the image's registry only"
        );
    }
    format!("layer `{id}`")
}

fn layers(descriptors: Vec<Descriptor>, config: &ImageConfig) -> Result<Vec<Layer>> {
    let diff_ids = &config.rootfs.diff_ids;
    ensure!(
        descriptors.len() == diff_ids.len(),
        "the manifest has {} layers, the config {}",
        descriptors.len(),
        diff_ids.len()
    );
    let pairs = descriptors.into_iter().zip(diff_ids);
    let pair = |(descriptor, diff_id): (Descriptor, &Digest)| {
        let algorithm = diff_id.algorithm();
        ensure!(
            algorithm == Algorithm::Sha256,
            "the config names a layer by {}, and layers are known by sha256",
            algorithm.name()
        );
        Ok(Layer {
            diff_id: diff_id.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type,
        })
    };
    pairs.map(pair).collect()
}
