//! What is done with volumes.

use crate::engine::place;
use crate::note::Notes;
use crate::store::{NotFound, Store, VolumeName, VolumeRecord};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A volume in a list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: VolumeName,
    pub(crate) record: VolumeRecord,
    /// A container uses it, running or not.
    pub(crate) is_used: bool,
}

/// What a prune removed.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) names: Vec<VolumeName>,
    /// Bytes in their files.
    pub(crate) reclaimed: u64,
}

/// Makes a volume and returns its name: a random one if none is given. One of that name that is there stays as it is.
pub(crate) fn create(
    root: &Path,
    name: Option<VolumeName>,
    labels: BTreeMap<String, String>,
) -> Result<VolumeName> {
    let (store, _) = place::enter(root)?;
    let record = VolumeRecord::new(labels, name.is_none());
    let name = name.unwrap_or_else(VolumeName::random);
    store.create_volume(&name, &record)?;
    Ok(name)
}

/// Lists volumes by name.
pub(crate) fn list(root: &Path) -> Result<Vec<Listed>> {
    let Some(store) = place::existing(root)? else {
        return Ok(Vec::new());
    };
    let volumes = store.volumes()?;
    let users = store.volume_users()?;
    let unused = users.unused(volumes.iter().map(|(name, _)| name));
    let unused: BTreeSet<VolumeName> = unused.into_iter().collect();
    let listed = |(name, record): (VolumeName, VolumeRecord)| Listed {
        is_used: !unused.contains(&name),
        name,
        record,
    };
    Ok(volumes.into_iter().map(listed).collect())
}

/// Removes a volume that no container uses.
pub(crate) fn remove(store: Option<&Store>, text: &str) -> Result<()> {
    match (store, text.parse()) {
        (Some(store), Ok(name)) => store.remove_volume(&name),
        _ => Err(NotFound::volume(text).into()),
    }
}

/// Removes all volumes that no container uses and that `fits` takes.
pub(crate) fn prune(
    root: &Path,
    fits: impl Fn(&VolumeRecord) -> bool,
    notes: Notes<'_>,
) -> Result<Pruned> {
    let Some((store, _)) = place::enter_swept(root, notes)? else {
        return Ok(Pruned::default());
    };
    let mut wanted = store.volumes()?;
    wanted.retain(|(_, record)| fits(record));
    let names: Vec<VolumeName> = wanted.into_iter().map(|(name, _)| name).collect();
    // Counted before they go, and only those that will: a volume may be large.
    let unused = store.volume_users()?.unused(names.iter());
    let size = |name: &VolumeName| (name.clone(), store.volume_size(name));
    let sizes: BTreeMap<VolumeName, u64> = unused.iter().map(size).collect();
    let names = store
        .remove_unused(&unused)
        .context("removing what no container uses")?;
    let reclaimed = names.iter().filter_map(|name| sizes.get(name)).sum();
    Ok(Pruned { names, reclaimed })
}
