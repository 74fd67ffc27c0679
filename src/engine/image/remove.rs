//! Images removed by name.

use crate::container::{self, Record, Status};
use crate::digest::Digest;
use crate::engine::place;
use crate::image::{self, Removed, Use};
use crate::note::Notes;
use crate::store::Store;
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// Removes images one after the other; returns what went, and what came of each that did not.
pub(crate) fn remove(
    root: &Path,
    names: &[String],
    force: bool,
    notes: Notes<'_>,
) -> Result<(Vec<Removed>, Vec<anyhow::Error>)> {
    let (store, _) = place::enter(root)?;
    place::sweep(&store, notes);
    let uses = Uses::read(&store)?;
    let (mut removals, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        let removal = image::remove(&store, name, force, &|id| uses.of(&store, id));
        match removal.with_context(|| format!("cannot remove image `{name}`")) {
            Ok(removal) => removals.push(removal),
            Err(error) => failed.push(error),
        }
    }
    // Once for all: it asks every image what it needs.
    let removed = image::sweep(&store, removals).context("removing what images needed")?;
    Ok((removed.into_iter().flatten().collect(), failed))
}

/// The containers and the images that they were made from.
pub(crate) struct Uses {
    known: RefCell<BTreeMap<String, (Option<Digest>, bool)>>,
}

impl Uses {
    /// Reads all that there are, before the store is locked.
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let records = container::records(store)?.into_iter();
        let known = RefCell::new(records.map(known).collect());
        Ok(Self { known })
    }

    /// Returns the containers that were made from the image `id`. The store is locked, so this must not sweep it, and
    /// reads only those that were made meanwhile.
    pub(crate) fn of(&self, store: &Store, id: &Digest) -> Result<Vec<Use>> {
        let mut all = self.known.borrow_mut();
        let mut made_from = Vec::new();
        for container in store.containers()? {
            if !all.contains_key(&container) {
                // It may be gone again, or not be written down yet: then what it holds stays nevertheless.
                all.extend(container::find(store, &container).ok().map(known));
            }
            if let Some((image, running)) = all.get(&container)
                && image.as_ref() == Some(id)
            {
                let running = *running;
                made_from.push(Use { container, running });
            }
        }
        Ok(made_from)
    }
}

fn known(container: Record) -> (String, (Option<Digest>, bool)) {
    let running = matches!(container.status, Status::Running { .. });
    let image = container.origin.image().cloned();
    (container.id, (image, running))
}
