//! Images that nobody needs, removed.

use crate::digest::Digest;
use crate::engine::image::{Uses, View, list};
use crate::engine::place;
use crate::image::{self, Removed};
use crate::note::Notes;
use crate::store::Store;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a prune removed.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) removed: Vec<Removed>,
    /// Bytes in the files of layers that went.
    pub(crate) reclaimed: u64,
}

/// Removes the images that no container was made from and that `fits` takes; of those with names only if `all` are asked
/// for. What dead operations left goes too.
pub(crate) fn prune(
    root: &Path,
    all: bool,
    fits: &dyn Fn(&View) -> bool,
    notes: Notes<'_>,
) -> Result<Pruned> {
    let Some((store, _)) = place::enter_swept(root, notes)? else {
        return Ok(Pruned::default());
    };
    let uses = Uses::read(&store)?;
    let (mut removals, mut sizes) = (Vec::new(), BTreeMap::new());
    for view in list(root, true, notes)?.iter().filter(|view| fits(view)) {
        if !all && !view.tags.is_empty() {
            continue;
        }
        let removal = image::remove_unused(&store, &view.id, all, &|id| uses.of(&store, id))
            .with_context(|| format!("removing the image `{}`", view.id.short()))?;
        if let Some(removal) = removal {
            sizes.extend(layer_sizes(&store, removal.layers())?);
            removals.push(removal);
        }
    }
    let removed = if removals.is_empty() {
        // What nobody heard of, as the layers of a pull that was killed.
        store.sweep()?;
        Vec::new()
    } else {
        image::sweep(&store, removals)?
    };
    let removed: Vec<Removed> = removed.into_iter().flatten().collect();
    let gone: BTreeSet<&Digest> = removed.iter().filter_map(Removed::deleted).collect();
    let reclaimed = sizes.iter().filter(|(layer, _)| gone.contains(layer));
    let reclaimed = reclaimed.map(|(_, size)| size).sum();
    Ok(Pruned { removed, reclaimed })
}

/// Returns the bytes in the files of each of the layers.
fn layer_sizes(store: &Store, layers: &[Digest]) -> Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for layer in layers {
        if let Some(meta) = store.layer(layer)? {
            sizes.insert(layer.clone(), meta.size);
        }
    }
    Ok(sizes)
}
