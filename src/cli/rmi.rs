//! `ddock rmi`.

use crate::cli::{failure, output};
use crate::container::{self, Record, Status};
use crate::digest::Digest;
use crate::engine::place;
use crate::image::{self, Use};
use crate::store::Store;
use anyhow::{Context, Result};
use clap::Args;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Remove all tags of an image, and the image although a stopped container was made from it
    #[arg(short, long)]
    force: bool,
    /// Which images: names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Removes images one after the other, saying what went.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let (store, _) = place::enter(root).context("cannot remove images")?;
    place::sweep(&store, &failure::note);
    let uses = Uses::read(&store).context("cannot remove images")?;
    let mut removals = Vec::new();
    let done = failure::each(&arguments.images, |name| {
        let removal = image::remove(&store, name, arguments.force, &|id| uses.of(&store, id));
        removals.push(removal.with_context(|| format!("cannot remove image `{name}`"))?);
        Ok(())
    });
    // Once for all: it asks every image what it needs.
    let removed = image::sweep(&store, removals).context("cannot remove what images needed")?;
    let lines = removed.iter().flatten().map(|line| format!("{line}\n"));
    output::print(&lines.collect::<String>())?;
    done
}

/// The containers and the images that they were made from.
struct Uses {
    known: RefCell<BTreeMap<String, (Option<Digest>, bool)>>,
}

impl Uses {
    /// Reads all that there are, before the store is locked.
    fn read(store: &Store) -> Result<Self> {
        let records = container::records(store)?.into_iter();
        let known = RefCell::new(records.map(known).collect());
        Ok(Self { known })
    }

    /// Returns the containers that were made from the image `id`. The store is locked, so this must not sweep it, and
    /// reads only those that were made meanwhile.
    fn of(&self, store: &Store, id: &Digest) -> Result<Vec<Use>> {
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
