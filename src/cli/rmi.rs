//! `ddock rmi`.

use crate::cli::{failure, output, place};
use crate::container::{self, Status};
use crate::digest::Digest;
use crate::image::{self, Use};
use crate::store::Store;
use anyhow::{Context, Result};
use clap::Args;
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
    container::sweep(&store).context("cannot remove images")?;
    failure::each(&arguments.images, |name| {
        let removed = image::remove(&store, name, arguments.force, &|id| uses(&store, id))
            .with_context(|| format!("cannot remove image `{name}`"))?;
        let lines: Vec<String> = removed.iter().map(|line| format!("{line}\n")).collect();
        output::print(&lines.concat())
    })
}

/// Returns the containers that were made from the image `id`. The store is locked, so this must not sweep it.
fn uses(store: &Store, id: &Digest) -> Result<Vec<Use>> {
    let containers = container::records(store)?.into_iter();
    let made_from = containers.filter(|container| container.origin.image() == Some(id));
    Ok(made_from
        .map(|container| Use {
            running: matches!(container.status, Status::Running { .. }),
            container: container.id,
        })
        .collect())
}
