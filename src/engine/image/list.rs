//! Images as lists have them.

use crate::digest::Digest;
use crate::engine::place;
use crate::image::{self, Image};
use crate::note::{Note, Notes};
use crate::reference::Reference;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::Path;

/// An image as a list needs it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) id: Digest,
    pub(crate) tags: Vec<Reference>,
    /// Repositories with the digests they know the image by.
    pub(crate) repo_digests: Vec<Reference>,
    pub(crate) created: Option<DateTime<Utc>>,
    /// Unpacked, in bytes.
    pub(crate) size: u64,
    /// Filled only if asked for: each image's config must be read for them.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Lists images, the newest first. What cannot be read is noted.
pub(crate) fn list(root: &Path, with_labels: bool, notes: Notes<'_>) -> Result<Vec<View>> {
    let Some(store) = place::existing(root)? else {
        return Ok(Vec::new());
    };
    let listing = image::list(&store)?;
    for damage in listing.damaged {
        notes(Note(damage));
    }
    let view = |(image, tags): (Image, Vec<Reference>)| {
        let labels = if with_labels {
            image.config(&store)?.config.labels
        } else {
            BTreeMap::new()
        };
        Ok(View {
            id: image.id,
            tags,
            repo_digests: references(&image.record.repo_digests),
            created: image.record.created,
            size: image.record.size,
            labels,
        })
    };
    listing.images.into_iter().map(view).collect()
}

/// Returns the repository digests of a record. Those that this ddock cannot read it cannot show.
pub(crate) fn references(texts: &[String]) -> Vec<Reference> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
