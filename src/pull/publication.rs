//! Publication: an image that was resolved and unpacked, as the store is to have it.

use crate::image::{LayerRecord, Record};
use crate::pull::resolve::{Resolved, copy};
use crate::reference::Reference;
use crate::store::{Publication, StagedLayer, Store};
use anyhow::{Context, Result};
use chrono::Utc;

/// Tells whether all but the layers is in the store already, under this name.
pub(crate) fn is_out(store: &Store, reference: &Reference, resolved: &Resolved) -> Result<bool> {
    let is_tagged =
        reference.digest().is_some() || store.tag(reference)?.as_ref() == Some(&resolved.image);
    let name = reference.with_digest(resolved.served.clone());
    let record = Record::load(store, &resolved.image)?;
    Ok(is_tagged
        && record.is_some_and(|record| record.repo_digests.contains(&name))
        && resolved
            .blobs
            .iter()
            .all(|(digest, _)| copy(store, digest).is_some()))
}

/// Returns what to publish: `staged`, the layers that were missing, and the records that name them.
pub(crate) fn assemble(
    store: &Store,
    reference: &Reference,
    resolved: Resolved,
    staged: Vec<StagedLayer>,
) -> Result<Publication> {
    let mut size = 0;
    for layer in &resolved.layers {
        let fresh = staged.iter().find(|staged| staged.diff_id == layer.diff_id);
        size += match fresh {
            Some(staged) => staged.meta.size,
            None => {
                store
                    .layer(&layer.diff_id)?
                    .context("a layer went while it was leased")?
                    .size
            }
        };
    }
    let known = Record::load(store, &resolved.image)?;
    let mut repo_digests = known.map(|record| record.repo_digests).unwrap_or_default();
    let name = reference.with_digest(resolved.served);
    if !repo_digests.contains(&name) {
        repo_digests.push(name);
    }
    let layer = |layer: &crate::pull::resolve::Layer| LayerRecord {
        diff_id: layer.diff_id.clone(),
        digest: layer.descriptor.digest.clone(),
        size: layer.descriptor.size,
        media_type: layer.descriptor.media_type.clone(),
    };
    let record = Record {
        platform: resolved.config.platform(),
        manifest: resolved.manifest,
        repo_digests,
        layers: resolved.layers.iter().map(layer).collect(),
        created: resolved.config.created,
        pulled: Utc::now(),
        size,
    };
    Ok(Publication {
        staged,
        diff_ids: resolved
            .layers
            .into_iter()
            .map(|layer| layer.diff_id)
            .collect(),
        blobs: resolved.blobs,
        image: resolved.image,
        record: record.to_bytes(),
        tag: reference.digest().is_none().then(|| reference.clone()),
    })
}
