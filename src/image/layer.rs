//! A layer's way into the store: unpacked into a stage, and made visible if it is what its image says.

use crate::digest::Digest;
use crate::store::{LayerMeta, Stage, StagedLayer, Store};
use crate::unpack::{self, Recipe, Skipped, Unpacked};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// Unpacks the layer that `stream` holds into the stage's directory `name`.
pub(crate) fn unpack(
    stage: &Stage,
    name: &str,
    stream: &mut dyn Read,
    options: &unpack::Options,
) -> Result<Unpacked> {
    let directory = stage.layer_directory(name)?;
    let paths = stage.layer_paths(name);
    let recipe = Recipe {
        file: &paths.recipe,
        kept: &paths.kept,
    };
    unpack::layer(stream, &directory, Some(recipe), options)
}

/// Makes a layer visible that was unpacked under `name`, from bytes with this `digest`, if it is what its image calls
/// `diff_id`. Returns what was left out of it. The caller holds a lease on it.
pub(crate) fn publish(
    store: &Store,
    stage: &Stage,
    name: String,
    diff_id: Digest,
    unpacked: Unpacked,
    digest: &Digest,
) -> Result<BTreeSet<Skipped>> {
    ensure!(
        unpacked.diff_id == diff_id,
        "its content is {}, the image's config says {diff_id}",
        unpacked.diff_id
    );
    let skipped = unpacked.skipped.clone();
    let layer = StagedLayer {
        name,
        diff_id,
        meta: meta(unpacked, digest),
    };
    store.publish_layer(stage, &layer)?;
    Ok(skipped)
}

fn meta(unpacked: Unpacked, digest: &Digest) -> LayerMeta {
    let path = |path| PathBuf::from(OsString::from_vec(path));
    let links = unpacked.links.into_iter();
    LayerMeta {
        digest: digest.clone(),
        tar_size: unpacked.tar_size,
        size: unpacked.size,
        entries: unpacked.entries,
        implied: unpacked.implied.into_iter().map(path).collect(),
        bare: unpacked.bare.into_iter().map(path).collect(),
        with_whiteouts: unpacked.with_whiteouts.into_iter().map(path).collect(),
        links: links.map(|(at, to)| (path(at), path(to))).collect(),
        opaque_root: unpacked.opaque_root,
        skipped: unpacked.skipped.iter().map(ToString::to_string).collect(),
    }
}
