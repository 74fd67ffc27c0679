//! From what a pull brought to an image in the store.

use crate::digest::Digest;
use crate::image::assembly::{self, Make, Part};
use crate::image::find::origin;
use crate::image::{Image, ImageConfig, Layer, Record};
use crate::reference::Reference;
use crate::store::{LayerMeta, Publication, Stage, StagedLayer, Store};
use anyhow::{Context, Result};

/// What a pull found out and fetched; all of it verified.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// What was asked for. Its tag is set, unless it names a digest too, as in Docker.
    pub(crate) reference: Reference,
    /// The digest of the index or manifest as served.
    pub(crate) repo_digest: Digest,
    /// The digest of the platform's manifest.
    pub(crate) manifest: Digest,
    /// The image's ID: the digest of its config.
    pub(crate) image: Digest,
    pub(crate) config: ImageConfig,
    /// All layers, base first.
    pub(crate) layers: Vec<Layer>,
    /// The layers that were not in the store. The others were found there under a lease.
    pub(crate) staged: Vec<StagedLayer>,
    /// Index, manifest and config.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
}

/// Makes a pulled image visible, whole or not at all. Adds its origin to those of an image that is there already.
pub(crate) fn publish(store: &Store, stage: Stage, fetched: Fetched) -> Result<()> {
    let diff_ids: Vec<Digest> = fetched
        .layers
        .iter()
        .map(|layer| layer.diff_id.clone())
        .collect();
    let metas = metas(store, &fetched)?;
    // First the lease, then the look at what is there: so no fix-ups that were seen go meanwhile.
    let _lease = store.lease(&assembly::chain_ids(&diff_ids))?;
    let parts = parts(store, &stage, &fetched, &metas);
    let (assembly, chains) = assembly::settle(store, &stage, &parts, Make::Missing, &|| Ok(()))?;
    let origin = origin(&fetched.reference, &fetched.repo_digest);
    let mut record = Record::new(
        &fetched.config,
        fetched.manifest,
        origin,
        fetched.layers,
        &metas,
        assembly,
    );
    // One that cannot be read is replaced.
    if let Ok(Some(earlier)) = Image::open(store, fetched.image.clone()) {
        record.add_origins(&earlier.record);
    }
    let is_tag = fetched.reference.digest().is_none();
    let publication = Publication {
        staged: fetched.staged,
        chains,
        diff_ids,
        blobs: fetched.blobs,
        image: fetched.image,
        record: serde_json::to_vec_pretty(&record).context("writing down the image")?,
        tag: is_tag.then_some(fetched.reference),
    };
    store.publish(stage, &publication)
}

/// Returns what is known of each layer, staged or there.
fn metas(store: &Store, fetched: &Fetched) -> Result<Vec<LayerMeta>> {
    let mut metas = Vec::with_capacity(fetched.layers.len());
    for Layer { diff_id, .. } in &fetched.layers {
        let staged = fetched
            .staged
            .iter()
            .find(|staged| staged.diff_id == *diff_id);
        let meta = match staged {
            Some(staged) => Some(staged.meta.clone()),
            None => store.layer(diff_id)?,
        };
        metas.push(meta.with_context(|| {
            format!(
                "layer `{}` went while its image was pulled",
                diff_id.short()
            )
        })?);
    }
    Ok(metas)
}

/// Returns the layers as they are to be put together, base first.
fn parts<'a>(
    store: &Store,
    stage: &Stage,
    fetched: &'a Fetched,
    metas: &'a [LayerMeta],
) -> Vec<Part<'a>> {
    let directory = |diff_id: &Digest| {
        let mut staged = fetched.staged.iter();
        match staged.find(|staged| staged.diff_id == *diff_id) {
            Some(staged) => stage.fs(&staged.name),
            None => store.layer_fs(diff_id),
        }
    };
    let layers = fetched.layers.iter().zip(metas);
    let part = |(layer, meta): (&'a Layer, &'a LayerMeta)| Part {
        diff_id: &layer.diff_id,
        digest: &layer.digest,
        directory: directory(&layer.diff_id),
        meta,
    };
    layers.map(part).collect()
}
