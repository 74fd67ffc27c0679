//! Images written to one file.

use crate::archive::{self, Saved};
use crate::engine::place;
use crate::image::{self, Image};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{NotFound, Store};
use anyhow::{Result, ensure};
use std::io::Write;
use std::path::Path;

/// Images that are to be saved, in a store that was entered.
pub(crate) struct Chosen {
    store: Store,
    images: Vec<Saved>,
}

/// Finds the images that `names` name: by a repository all its tags, by a tag that one, by an ID the image without a name.
pub(crate) fn choose(root: &Path, names: &[String], platform: Option<&Platform>) -> Result<Chosen> {
    let first = names.first().map(String::as_str).unwrap_or_default();
    let store = place::enter_existing(root)?.ok_or_else(|| NotFound::image(first))?;
    let mut images: Vec<Saved> = Vec::new();
    for name in names {
        for (image, name) in named(&store, name)? {
            if let Some(wanted) = platform {
                ensure!(
                    wanted.rank(&image.record.platform).is_some(),
                    "image `{}` is for the platform `{}`, not `{wanted}`",
                    image.id.short(),
                    image.record.platform
                );
            }
            let at = images.iter().position(|saved| saved.image.id == image.id);
            let at = at.unwrap_or_else(|| {
                images.push(Saved {
                    image,
                    names: Vec::new(),
                });
                images.len() - 1
            });
            let known = &mut images[at].names;
            known.extend(name.filter(|name| !known.contains(name)));
        }
    }
    Ok(Chosen { store, images })
}

/// Returns the images that a text names, and by which name each.
fn named(store: &Store, text: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    let last = text.rsplit('/').next().unwrap_or_default();
    let has_version = last.contains([':', '@']);
    if let Ok(repository) = text.parse::<Reference>()
        && !has_version
    {
        let mut found = Vec::new();
        for (tag, id) in store.tags()? {
            let is_in = tag.registry() == repository.registry()
                && tag.repository() == repository.repository();
            if is_in && let Some(image) = Image::open(store, id)? {
                found.push((image, Some(tag)));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let image = image::find(store, text)?;
    let name = text.parse::<Reference>().ok().filter(|name| {
        name.digest().is_none() && store.tag(name).ok().flatten().as_ref() == Some(&image.id)
    });
    Ok(vec![(image, name)])
}

impl Chosen {
    /// Writes the images to `out`.
    pub(crate) fn save(&self, out: &mut dyn Write) -> Result<()> {
        archive::save(&self.store, &self.images, out)
    }
}
