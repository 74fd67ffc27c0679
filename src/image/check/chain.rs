//! Checking fix-ups: they are made once more from their layers, beside those that are here.

use crate::digest::Digest;
use crate::image::assembly::{self, Make, Part as Layer};
use crate::image::check::{Chain, Part, finding};
use crate::store::{LayerMeta, Store};
use crate::unpack::{self, Fault, Finding};
use anyhow::Result;
use std::collections::BTreeMap;

/// Finds what is wrong with a chain; `found` tells what is wrong with its layers.
pub(super) fn check(
    store: &Store,
    chain: &Chain,
    found: &BTreeMap<Part, Vec<Finding>>,
) -> Result<Vec<Finding>> {
    let directory = store.chain_fs(&chain.id);
    if !directory.is_dir() {
        return Ok(vec![finding(Fault::Missing, "chain", "all of it")]);
    }
    let is_right = |diff_id: &Digest| !found.contains_key(&Part::Layer(diff_id.clone()));
    if !chain.layers.iter().all(is_right) {
        return Ok(Vec::new());
    }
    let _lease = store.lease(&chain.layers)?;
    let metas = chain.layers.iter().map(|diff_id| store.layer(diff_id));
    let metas: Option<Vec<LayerMeta>> = metas.collect::<Result<_>>()?;
    let Some(metas) = metas else {
        return Ok(Vec::new());
    };
    let layers = chain.layers.iter().zip(&metas);
    let layers: Vec<_> = layers
        .map(|(diff_id, meta)| Layer {
            diff_id,
            digest: &meta.digest,
            directory: store.layer_fs(diff_id),
            meta,
        })
        .collect();
    let stage = store.stage()?;
    let (_, made) = assembly::settle(store, &stage, &layers, Make::All, &|| Ok(()))?;
    let Some(made) = made.iter().find(|made| made.chain_id == chain.id) else {
        return Ok(vec![finding(
            Fault::Added,
            "chain",
            "its layers fit without it",
        )]);
    };
    unpack::compare_trees(&stage.fs(&made.name), &directory)
}
