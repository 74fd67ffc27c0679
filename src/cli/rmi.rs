//! `ddock rmi`.

use crate::cli::{failure, output};
use anyhow::{Context, Result, bail};
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
    failure::each(&arguments.images, |image| {
        let lines = remove(root, image, arguments.force)
            .with_context(|| format!("cannot remove image `{image}`"))?;
        output::print(&lines)
    })
}

/// Returns the lines that tell what was untagged and deleted.
fn remove(_root: &Path, _image: &str, _force: bool) -> Result<String> {
    bail!("removing is not joined to the command line")
}
