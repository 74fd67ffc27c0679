//! Images: what the store holds, typed.

mod assembly;
mod check;
mod config;
mod effort;
mod find;
mod fixup;
pub(crate) mod layer;
mod merged;
mod names;
mod publish;
mod record;
mod remove;
mod rooted;

pub(crate) use assembly::Lower;
pub(crate) use check::{Part, check};
pub(crate) use config::ImageConfig;
pub(crate) use find::find;
pub(crate) use names::{tag, untag};
pub(crate) use publish::{Fetched, publish};
pub(crate) use record::{Layer, Record};
pub(crate) use remove::{Removed, Use, remove, remove_unused, sweep};

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::{Damaged, Store};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// The digest of its config.
    pub(crate) id: Digest,
    pub(crate) record: Record,
}

impl Image {
    /// Returns the image with this ID; `None` if it is not here.
    pub(crate) fn open(store: &Store, id: Digest) -> Result<Option<Self>> {
        let Some(bytes) = store.image_record(&id)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).with_context(|| {
            Damaged(format!(
                "the record of image `{}` cannot be read",
                id.short()
            ))
        })?;
        Ok(Some(Self { id, record }))
    }

    /// Reads the image's config, checked against its digest.
    pub(crate) fn config(&self, store: &Store) -> Result<ImageConfig> {
        let bytes = store.blob(&self.id)?;
        let bytes = bytes.with_context(|| {
            Damaged(format!(
                "the config of image `{}` is not there",
                self.id.short()
            ))
        })?;
        ImageConfig::parse(&bytes)
    }

    /// Returns the tags that stand for this image, sorted.
    pub(crate) fn tags(&self, store: &Store) -> Result<Vec<Reference>> {
        let Some(tags) = &self.record.tags else {
            // Written by an older ddock: any may be its own.
            let all = store.tags()?.into_iter();
            let own = all.filter(|(_, id)| *id == self.id);
            return Ok(own.map(|(tag, _)| tag).collect());
        };
        let mut own = Vec::with_capacity(tags.len());
        for tag in tags.iter().filter_map(|tag| tag.parse().ok()) {
            // One that cannot be read stands for nothing.
            if store.tag(&tag).ok().flatten().as_ref() == Some(&self.id) {
                own.push(tag);
            }
        }
        own.sort_by_cached_key(ToString::to_string);
        Ok(own)
    }

    /// Returns the directories to mount as overlayfs's lower ones, base first. There are none in an image without layers.
    ///
    /// A layer that is not there is an error that names it, never a mount without it.
    pub(crate) fn lower_directories(&self, store: &Store) -> Result<Vec<PathBuf>> {
        let mut directories = Vec::with_capacity(self.record.assembly.lower.len());
        for lower in &self.record.assembly.lower {
            let directory = lower.directory(store);
            ensure!(
                directory.is_dir(),
                Damaged(format!(
                    "{lower} of image `{}` is not there: `{}`",
                    self.id.short(),
                    directory.display()
                ))
            );
            directories.push(directory);
        }
        Ok(directories)
    }

    /// Tells whether all that puts the layers together is here.
    pub(crate) fn is_assembled(&self, store: &Store) -> bool {
        self.record.assembly.lower.iter().all(|lower| match lower {
            Lower::Layer(_) => true,
            Lower::Chain { chain } => store.has_chain(chain),
        })
    }

    /// Returns the directory whose owner, mode, times and attributes are those of the image's root;
    /// `None` if no layer says: root's, 0755.
    pub(crate) fn root_directory(&self, store: &Store) -> Option<PathBuf> {
        let root = self.record.assembly.root.as_ref()?;
        Some(store.layer_fs(root))
    }

    /// Returns the digests of what a container of this image needs as long as it exists, for `Store::create_container`.
    pub(crate) fn holds(&self) -> Vec<Digest> {
        let layers = self.record.assembly.lower.iter().map(Lower::digest);
        std::iter::once(&self.id).chain(layers).cloned().collect()
    }
}

/// All images of the store.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Newest first, each with its tags, sorted.
    pub(crate) images: Vec<(Image, Vec<Reference>)>,
    /// What cannot be read, and why: the others are listed all the same.
    pub(crate) damaged: Vec<anyhow::Error>,
}

/// Lists all images, tagged or not.
pub(crate) fn list(store: &Store) -> Result<Listing> {
    let (mut images, mut damaged) = (Vec::new(), Vec::new());
    for id in store.image_ids()? {
        let image = Image::open(store, id);
        match image.and_then(|image| image.map(|image| with_tags(store, image)).transpose()) {
            Ok(image) => images.extend(image),
            Err(error) => damaged.push(error),
        }
    }
    images.sort_by_key(|(image, _)| std::cmp::Reverse(image.record.created));
    Ok(Listing { images, damaged })
}

fn with_tags(store: &Store, image: Image) -> Result<(Image, Vec<Reference>)> {
    let tags = image.tags(store)?;
    Ok((image, tags))
}

#[cfg(test)]
mod tests;
