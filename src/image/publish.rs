//! From what a pull brought to an image in the store.

use crate::digest::Digest;
use crate::image::assembly::{self, Make, Part};
use crate::image::{ImageConfig, Layer, Record};
use crate::reference::Reference;
use crate::store::{LayerMeta, Publication, Stage, Store, Went};
use anyhow::{Context, Result};

/// What a pull found out and fetched; all of it verified.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// Where it came from, `docker.io/library/ubuntu@sha256:…`: the digest of the index or manifest as served. What came by
    /// another way than from a registry has none.
    pub(crate) origin: Option<String>,
    /// The tag to set.
    pub(crate) tag: Option<Reference>,
    /// The digest of the platform's manifest.
    pub(crate) manifest: Digest,
    /// The indexes that led to it, the outermost first.
    pub(crate) indexes: Vec<Digest>,
    /// The image's ID: the digest of its config.
    pub(crate) image: Digest,
    pub(crate) config: ImageConfig,
    /// All layers, base first. They are in the store, under a lease.
    pub(crate) layers: Vec<Layer>,
    /// Index, manifest and config.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
}

/// Makes a pulled image visible, whole or not at all. Adds its origin to those of an image that is there already.
///
/// It ends early with the error of `wanted`, if that gives one. [`Went`] says that what was found here is gone.
pub(crate) fn publish(
    store: &Store,
    stage: Stage,
    fetched: Fetched,
    wanted: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let diff_ids: Vec<Digest> = fetched
        .layers
        .iter()
        .map(|layer| layer.diff_id.clone())
        .collect();
    let metas = metas(store, &fetched)?;
    // First the lease, then the look at what is there: so no fix-ups that were seen go meanwhile.
    let _lease = store.lease(&assembly::chain_ids(&diff_ids))?;
    let parts = parts(store, &fetched, &metas);
    let (assembly, chains) = assembly::settle(store, &stage, &parts, Make::Missing, wanted)?;
    wanted()?;
    let tag = fetched.tag.as_ref().map(Reference::to_string);
    let mut record = Record::new(
        &fetched.config,
        fetched.manifest,
        fetched.origin,
        tag.into_iter().collect(),
        fetched.layers,
        &metas,
        assembly,
    );
    if fetched.indexes.len() > 1 {
        // The repo digest names the only one otherwise.
        record.indexes = fetched.indexes;
    }
    let record = |earlier: Option<&[u8]>| {
        let mut record = record.clone();
        if let Some(bytes) = earlier {
            // One that cannot be read is replaced.
            let earlier: Option<Record> = serde_json::from_slice(bytes).ok();
            if let Some(earlier) = &earlier {
                record.add_origins(earlier);
            }
            let tags = earlier.and_then(|earlier| earlier.tags);
            record.add_tags(match tags {
                Some(tags) => tags,
                None => all_tags(store, &fetched.image)?,
            });
        }
        serde_json::to_vec_pretty(&record).context("writing down the image")
    };
    let publication = Publication {
        chains,
        diff_ids,
        blobs: fetched.blobs,
        image: fetched.image.clone(),
        tag: fetched.tag,
    };
    store.publish(stage, &publication, &record)
}

/// Returns the tags that stand for an image, of all that there are.
fn all_tags(store: &Store, image: &Digest) -> Result<Vec<String>> {
    let tags = store.tags()?.into_iter();
    let own = tags.filter(|(_, id)| id == image);
    Ok(own.map(|(tag, _)| tag.to_string()).collect())
}

/// Returns what is known of each layer.
fn metas(store: &Store, fetched: &Fetched) -> Result<Vec<LayerMeta>> {
    let layers = fetched.layers.iter();
    let meta = |Layer { diff_id, .. }: &Layer| {
        let meta = store.layer(diff_id)?;
        meta.ok_or_else(|| Went(diff_id.clone()).into())
    };
    layers.map(meta).collect()
}

/// Returns the layers as they are to be put together, base first.
fn parts<'a>(store: &Store, fetched: &'a Fetched, metas: &'a [LayerMeta]) -> Vec<Part<'a>> {
    let layers = fetched.layers.iter().zip(metas);
    let part = |(layer, meta): (&'a Layer, &'a LayerMeta)| Part {
        diff_id: &layer.diff_id,
        digest: &layer.digest,
        directory: store.layer_fs(&layer.diff_id),
        meta,
    };
    layers.map(part).collect()
}
