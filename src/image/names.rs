//! An image's names: given and taken away.

use crate::image::{Image, Record};
use crate::reference::Reference;
use crate::store::{Damaged, NotFound, Publication, Store};
use anyhow::{Context, Result};

/// Lets `tag` stand for `image`, whatever it stood for before.
pub(crate) fn tag(store: &Store, image: &Image, tag: &Reference) -> Result<()> {
    let stage = store.stage()?;
    let record = |earlier: Option<&[u8]>| {
        // Removed since it was found.
        let bytes = earlier.ok_or_else(|| NotFound::image(image.id.short()))?;
        let mut record: Record = serde_json::from_slice(bytes).with_context(|| {
            Damaged(format!(
                "the record of image `{}` cannot be read",
                image.id.short()
            ))
        })?;
        // A record of an older ddock names none, and is not made to name only this one.
        if record.tags.is_some() {
            record.add_tags(vec![tag.to_string()]);
        }
        serde_json::to_vec_pretty(&record).context("writing down the image")
    };
    let publication = Publication {
        chains: Vec::new(),
        diff_ids: Vec::new(),
        blobs: Vec::new(),
        image: image.id.clone(),
        tag: Some(tag.clone()),
    };
    store.publish(stage, &publication, &record)
}

/// Takes `tag` away from its image, which stays. [`NotFound`] if it stands for none.
pub(crate) fn untag(store: &Store, tag: &Reference) -> Result<()> {
    let lock = store.exclusive()?;
    // One that cannot be read is taken away all the same.
    if let Ok(None) = store.tag(tag) {
        return Err(NotFound::image(&tag.familiar()).into());
    }
    store.remove_tag(&lock, tag)?;
    drop(lock);
    store.sync_tag(tag)
}
