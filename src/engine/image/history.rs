//! How an image was made.

use crate::digest::Digest;
use crate::engine::place;
use crate::image;
use crate::store::NotFound;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::path::Path;

/// One step of an image's making.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The image's ID, at its last step.
    pub(crate) id: Option<Digest>,
    pub(crate) created: Option<DateTime<Utc>>,
    pub(crate) created_by: String,
    /// Bytes of the files that the step brought.
    pub(crate) size: u64,
    pub(crate) comment: String,
}

/// Returns the steps by which the image that `text` names was made, the last one first.
pub(crate) fn history(root: &Path, text: &str) -> Result<Vec<Step>> {
    let store = place::existing(root)?;
    let store = store.ok_or_else(|| NotFound::image(text))?;
    let image = image::find(&store, text)?;
    let config = image.config(&store)?;
    let mut layers = image.record.layers.iter();
    let mut steps = Vec::with_capacity(config.history.len());
    let mut add = |created, created_by, size, comment| {
        steps.push(Step {
            id: None,
            created,
            created_by,
            size,
            comment,
        });
    };
    let size =
        |diff_id: &Digest| -> Result<u64> { Ok(store.layer(diff_id)?.map_or(0, |meta| meta.size)) };
    for step in config.history {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        let size = layer.map_or(Ok(0), |layer| size(&layer.diff_id))?;
        add(step.created, step.created_by, size, step.comment);
    }
    // Not every builder says how it made its layers.
    for layer in layers {
        let created = image.record.created;
        add(created, String::new(), size(&layer.diff_id)?, String::new());
    }
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        last.id = Some(image.id);
    }
    Ok(steps)
}
