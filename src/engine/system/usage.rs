//! What takes the space.

use crate::container::{self, Record, Status};
use crate::digest::Digest;
use crate::engine::image::{View, list};
use crate::engine::place;
use crate::image::Image;
use crate::note::Notes;
use crate::store::{Store, VolumeName};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the store holds, by kind, with the bytes that each takes.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) images: Vec<ImageUse>,
    /// Bytes in the files of all layers, each once: also of those that no image has any more.
    pub(crate) layers: u64,
    /// Bytes in the files of layers that no container needs.
    pub(crate) unused_layers: u64,
    /// Each with the bytes of what it changed.
    pub(crate) containers: Vec<(Record, u64)>,
    pub(crate) volumes: Vec<VolumeUse>,
    /// Bytes that arrived for pulls that have not ended.
    pub(crate) partials: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct ImageUse {
    pub(crate) view: View,
    /// Bytes of its layers that other images have too.
    pub(crate) shared: u64,
    /// Bytes of its layers that no other has.
    pub(crate) unique: u64,
    pub(crate) containers: usize,
}

#[derive(Debug)]
pub(crate) struct VolumeUse {
    pub(crate) name: VolumeName,
    pub(crate) containers: usize,
    pub(crate) size: u64,
}

/// Adds up what the store holds. Of layers that is known since they were unpacked; what containers change is counted.
pub(crate) fn usage(root: &Path, notes: Notes<'_>) -> Result<Usage> {
    let Some((store, _)) = place::enter_swept(root, notes)? else {
        return Ok(Usage::default());
    };
    let containers = container::list(&store)?;
    let sizes = sizes(&store)?;
    let total = |layers: &BTreeSet<Digest>| layers.iter().filter_map(|it| sizes.get(it)).sum();
    let (images, needed) = images(&store, list(root, false, notes)?, &containers, &sizes)?;
    let all: BTreeSet<Digest> = sizes.keys().cloned().collect();
    let unneeded: BTreeSet<Digest> = all.difference(&needed).cloned().collect();
    Ok(Usage {
        images,
        layers: total(&all),
        unused_layers: total(&unneeded),
        volumes: volumes(&store)?,
        partials: store.partial_sizes()?,
        containers: containers
            .into_iter()
            .map(|record| {
                let size = store.container_size(&record.id);
                (record, size)
            })
            .collect(),
    })
}

/// Returns the bytes in the files of each layer that is here.
fn sizes(store: &Store) -> Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for layer in store.layers()? {
        let size = store.layer(&layer)?.map_or(0, |meta| meta.size);
        sizes.insert(layer, size);
    }
    Ok(sizes)
}

/// Returns what each image takes, and the layers that containers need.
fn images(
    store: &Store,
    views: Vec<View>,
    containers: &[Record],
    sizes: &BTreeMap<Digest, u64>,
) -> Result<(Vec<ImageUse>, BTreeSet<Digest>)> {
    let mut found = Vec::new();
    let mut images_with: BTreeMap<Digest, usize> = BTreeMap::new();
    for view in views {
        let image = Image::open(store, view.id.clone())?;
        let layers = image.map(|image| image.record.layers).unwrap_or_default();
        // The same layer twice takes its space once.
        let layers: BTreeSet<Digest> = layers.into_iter().map(|layer| layer.diff_id).collect();
        for layer in &layers {
            *images_with.entry(layer.clone()).or_default() += 1;
        }
        found.push((view, layers));
    }
    let mut needed = BTreeSet::new();
    let uses = found.into_iter().map(|(view, layers)| {
        let made_from_it = |it: &&Record| it.origin.image() == Some(&view.id);
        let containers = containers.iter().filter(made_from_it).count();
        let size = |is_shared: bool| {
            let fits = |layer: &&Digest| (images_with[*layer] > 1) == is_shared;
            layers
                .iter()
                .filter(fits)
                .filter_map(|it| sizes.get(it))
                .sum()
        };
        let (shared, unique) = (size(true), size(false));
        if containers > 0 {
            needed.extend(layers);
        }
        ImageUse {
            view,
            shared,
            unique,
            containers,
        }
    });
    let uses = uses.collect();
    Ok((uses, needed))
}

fn volumes(store: &Store) -> Result<Vec<VolumeUse>> {
    let users = store.volume_users()?;
    let volume = |(name, _)| VolumeUse {
        containers: users.of(&name).len(),
        size: store.volume_size(&name),
        name,
    };
    Ok(store.volumes()?.into_iter().map(volume).collect())
}

impl Usage {
    /// Returns the containers that do not run.
    pub(crate) fn stopped(&self) -> impl Iterator<Item = &(Record, u64)> {
        let runs = |record: &Record| matches!(record.status, Status::Running { .. });
        self.containers
            .iter()
            .filter(move |(record, _)| !runs(record))
    }
}
