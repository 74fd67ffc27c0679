//! Which image a text names: Docker's rules.

use crate::digest::Digest;
use crate::image::Image;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{NotFound, Store, unique};
use anyhow::Result;
use std::collections::HashSet;

/// How a text named an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    ByReference(Reference),
    ById,
}

/// Returns the image that `text` names: by reference if there is one of that name, else by its ID or a
/// prefix that only its ID has.
///
/// [`NotFound`] if there is none; an ambiguous prefix and a text that can be no name are errors of their own.
pub(crate) fn find(store: &Store, text: &str) -> Result<Image> {
    look_up(store, text).map(|(image, _)| image)
}

/// As [`find`], and tells how.
pub(super) fn look_up(store: &Store, text: &str) -> Result<(Image, Named)> {
    let parsed = text.parse::<Reference>();
    if let Ok(reference) = &parsed
        && let Some(image) = by_reference(store, reference)?
    {
        return Ok((image, Named::ByReference(reference.clone())));
    }
    if let Some(id) = id(store, text)?
        && let Some(image) = Image::open(store, id)?
    {
        return Ok((image, Named::ById));
    }
    let shown = match parsed {
        Ok(reference) if hex_of(text).is_none() => reference.familiar(),
        Err(error) if hex_of(text).is_none() => return Err(error.into()),
        _ => text.to_owned(),
    };
    Err(NotFound::image(&shown).into())
}

/// Returns the image ID that `text` is or begins, there or, if it is complete, not.
pub(super) fn id(store: &Store, text: &str) -> Result<Option<Digest>> {
    let Some(hex) = hex_of(text) else {
        return Ok(None);
    };
    if let Ok(id) = format!("sha256:{hex}").parse() {
        return Ok(Some(id));
    }
    unique(store.image_ids()?, text, |id| id.hex().starts_with(hex))
}

/// Returns the hex digits of a text that may be an ID or the beginning of one.
fn hex_of(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (!hex.is_empty() && hex.len() <= 64 && hex.bytes().all(is_hex)).then_some(hex)
}

fn by_reference(store: &Store, reference: &Reference) -> Result<Option<Image>> {
    // The digest wins over the tag.
    if let Some(digest) = reference.digest() {
        return by_digest(store, reference, digest);
    }
    match store.tag(reference)? {
        Some(id) => Image::open(store, id),
        None => Ok(None),
    }
}

/// Finds the image whose index or manifest has this digest, by following it: a manifest names its config,
/// an index its manifests. So no record is read but those that may be it, however many images there are.
fn by_digest(store: &Store, reference: &Reference, digest: &Digest) -> Result<Option<Image>> {
    let origin = origin(reference, digest);
    let host = Platform::host();
    let mut found: Vec<Image> = Vec::new();
    let mut seen = HashSet::from([digest.clone()]);
    let mut documents = vec![digest.clone()];
    // Of an index its manifests and indexes, of a manifest its config: what is in none of ours names nothing.
    while let Some(document) = documents.pop() {
        for id in store.named_in_blob(&document)? {
            if seen.insert(id.clone()) {
                let image = Image::open(store, id.clone())?;
                found.extend(image.filter(|image| image.record.repo_digests.contains(&origin)));
                documents.push(id);
            }
        }
    }
    // Several if the same index was pulled for several platforms.
    let rank = |image: &Image| host.rank(&image.record.platform).unwrap_or(usize::MAX);
    Ok(found.into_iter().min_by_key(rank))
}

/// Returns a repository and the digest of what it served, as records and `inspect` have it.
pub(super) fn origin(reference: &Reference, digest: &Digest) -> String {
    reference.with_digest(digest.clone()).to_string()
}
