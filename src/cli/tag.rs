//! `ddock tag`, `untag` and `image exists`.

use crate::cli::failure::Told;
use crate::engine::{self, image, place};
use crate::fault::Kind;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct TagArguments {
    /// Which image: its name, its ID or the beginning of that
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The name that it gets
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

#[derive(Debug, Args)]
pub(crate) struct UntagArguments {
    /// Which image: its name, its ID or the beginning of that
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names that it loses [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExistsArguments {
    /// Which image: its name, its ID or the beginning of that
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Gives an image one more name.
pub(crate) fn tag(arguments: &TagArguments, root: &Path) -> Result<()> {
    let (source, target) = (&arguments.source, &arguments.target);
    image::tag(root, source, target).with_context(|| format!("cannot tag `{source}`"))
}

/// Takes names away from an image, which stays.
pub(crate) fn untag(arguments: &UntagArguments, root: &Path) -> Result<()> {
    let image = &arguments.image;
    image::untag(root, image, &arguments.names).with_context(|| format!("cannot untag `{image}`"))
}

/// Tells by its exit code, and by nothing else, whether an image is here.
pub(crate) fn exists(arguments: &ExistsArguments, root: &Path) -> Result<()> {
    let Some(store) = place::existing(root)? else {
        return Err(Told(1).into());
    };
    match crate::image::find(&store, &arguments.image) {
        Err(error) if engine::blame(&error) == Kind::NotFound => Err(Told(1).into()),
        found => found.map(drop),
    }
}
