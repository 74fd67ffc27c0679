//! `ddock unpack-layer`, which the help does not name: one layer into a directory, so that unpacking can be measured by itself.

use crate::cli::pull;
use crate::sys::userns::Mapping;
use crate::unpack::{self, Recipe};
use anyhow::{Context, Result};
use clap::Args;
use fs_err as fs;
use std::path::PathBuf;

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Write no recipe
    #[arg(long)]
    no_recipe: bool,
    /// The layer: a tar, compressed or not
    #[arg(value_name = "FILE")]
    layer: PathBuf,
    /// A directory that does not exist yet
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Unpacks a layer as a pull does, without a store and a registry.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mapping = Mapping::of_caller();
    mapping.enter()?;
    let mut layer = fs::File::open(&arguments.layer)?;
    let root = arguments.directory.join("fs");
    fs::create_dir_all(&root)?;
    let (file, kept) = (
        arguments.directory.join("recipe"),
        arguments.directory.join("kept"),
    );
    let recipe = Recipe {
        file: &file,
        kept: &kept,
    };
    let recipe = (!arguments.no_recipe).then_some(recipe);
    unpack::layer(&mut layer, &root, recipe, &pull::unpacking(&mapping)?)
        .map(drop)
        .with_context(|| format!("cannot unpack `{}`", arguments.layer.display()))
}
