//! Names given to images, and taken away.

use crate::engine::place;
use crate::fault::{Fault, Kind};
use crate::image;
use crate::reference::Reference;
use crate::store::NotFound;
use anyhow::Result;
use std::path::Path;

/// Lets `target` stand for the image that `source` names.
pub(crate) fn tag(root: &Path, source: &str, target: &str) -> Result<()> {
    let target: Reference = target.parse()?;
    if target.digest().is_some() {
        let message = "refusing to create a tag with a digest reference";
        return Err(Fault::new(Kind::Invalid, message).into());
    }
    let Some(store) = place::enter_existing(root)? else {
        return Err(NotFound::image(source).into());
    };
    image::tag(&store, &image::find(&store, source)?, &target)
}

/// Takes `names`, or all its names if there are none, away from the image that `text` names; it stays.
pub(crate) fn untag(root: &Path, text: &str, names: &[String]) -> Result<()> {
    let Some(store) = place::enter_existing(root)? else {
        return Err(NotFound::image(text).into());
    };
    let image = image::find(&store, text)?;
    let tags = image.tags(&store)?;
    let mut chosen = Vec::new();
    for name in names {
        let name: Reference = name.parse()?;
        if !tags.contains(&name) {
            let message = format!("{}: tag not known", name.familiar());
            return Err(Fault::new(Kind::NotFound, message).into());
        }
        chosen.push(name);
    }
    let chosen = if names.is_empty() { tags } else { chosen };
    chosen.iter().try_for_each(|tag| image::untag(&store, tag))
}
