//! `ddock rmi`.

use crate::cli::{failure, output};
use crate::engine::{self, image};
use crate::fault::Kind;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Remove all tags of an image, and the image although a stopped container was made from it
    #[arg(short, long)]
    force: bool,
    /// As Docker has it; untagged images that it was made from are never kept for it here
    #[arg(long, hide = true)]
    no_prune: bool,
    /// Which images: names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Removes images one after the other, saying what went.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let removed = image::remove(root, &arguments.images, arguments.force, &failure::note);
    let (removed, failed) = removed.context("cannot remove images")?;
    let lines = removed.iter().map(|line| format!("{line}\n"));
    output::print(&lines.collect::<String>())?;
    failure::each(failed, |error| {
        if arguments.force && engine::blame(&error) == Kind::NotFound {
            // What is to be gone is gone; Docker says so and is content.
            failure::tell(&error);
            return Ok(());
        }
        Err(error)
    })
}
