//! Removing images: what goes, what stays and what stands in the way, by Docker's rules.

use crate::digest::Digest;
use crate::image::find::{Named, id, look_up};
use crate::image::{Image, Record};
use crate::reference::Reference;
use crate::store::{Damaged, Exclusive, PreparedRecord, Store};
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fmt::{self, Display};

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    /// A tag or repository digest, as Docker shows it.
    Untagged(String),
    /// An image or a layer.
    Deleted(Digest),
}

impl Removed {
    /// Returns what was deleted, if it was not a name.
    pub(crate) fn deleted(&self) -> Option<&Digest> {
        match self {
            Self::Deleted(digest) => Some(digest),
            Self::Untagged(_) => None,
        }
    }
}

impl Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// The container's ID.
    pub(crate) container: String,
    pub(crate) running: bool,
}

/// The names of an image and what is to become of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    tags: Vec<Reference>,
    /// `Record::repo_digests`
    origins: Vec<String>,
    delete: bool,
}

/// What was removed of an image; its layers go with [`sweep`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Removal {
    lines: Vec<Removed>,
    /// The layers of an image that is gone, base first.
    layers: Vec<Digest>,
}

impl Removal {
    /// Returns the layers of the image that is gone, base first. Others may need them.
    pub(crate) fn layers(&self) -> &[Digest] {
        &self.layers
    }
}

/// Removes an image that no container was made from, and if it has tags only `with_tags`; `None` if it stays, or is gone.
pub(crate) fn remove_unused(
    store: &Store,
    id: &Digest,
    with_tags: bool,
    uses: &dyn Fn(&Digest) -> Result<Vec<Use>>,
) -> Result<Option<Removal>> {
    let lock = store.exclusive()?;
    let Some(image) = Image::open(store, id.clone())? else {
        return Ok(None);
    };
    let tags = image.tags(store)?;
    if !uses(id)?.is_empty() || !(tags.is_empty() || with_tags) {
        return Ok(None);
    }
    let plan = Plan {
        tags,
        origins: image.record.repo_digests.clone(),
        delete: true,
    };
    carry_out(store, lock, image, &plan, None).map(Some)
}

/// Removes a name of an image, or the image: by a name, that name, and the image with its last one; by ID, the image.
///
/// `uses` tells which containers were made from an image. It is called with the store locked and must not lock it.
pub(crate) fn remove(
    store: &Store,
    text: &str,
    force: bool,
    uses: &dyn Fn(&Digest) -> Result<Vec<Use>>,
) -> Result<Removal> {
    let mut prepared: Option<PreparedRecord> = None;
    loop {
        let lock = store.exclusive()?;
        let (image, named) = match look_up(store, text) {
            Err(error) if error.is::<Damaged>() && is_damaged_tag(store, text)? => {
                return remove_damaged_tag(store, lock, &text.parse()?);
            }
            Err(error) if force && error.is::<Damaged>() => {
                let id = id(store, text)?.ok_or(error)?;
                return remove_damaged(store, lock, id);
            }
            found => found?,
        };
        let tags = image.tags(store)?;
        let uses = uses(&image.id)?;
        let plan = match &named {
            Named::ByReference(reference) => by_name(text, reference, &image, tags, force, &uses)?,
            Named::ById => by_id(&image, tags, force, &uses)?,
        };
        let rewritten = plan.rewritten(&image.record)?;
        let is_prepared = prepared.as_ref().map(PreparedRecord::bytes) == rewritten.as_deref();
        if is_prepared {
            return carry_out(store, lock, image, &plan, prepared);
        }
        drop(lock);
        // Its way to disk takes longer than anybody should wait for the lock; then all is looked at again.
        prepared = rewritten
            .map(|bytes| store.prepare_record(bytes))
            .transpose()?;
    }
}

/// Removes what nothing needs any more, once for all `removals`; returns what went by each.
pub(crate) fn sweep(store: &Store, removals: Vec<Removal>) -> Result<Vec<Vec<Removed>>> {
    let is_gone = |removal: &Removal| !removal.layers.is_empty();
    let mut gone: HashSet<Digest> = if removals.iter().any(is_gone) {
        store.sweep()?.into_iter().collect()
    } else {
        HashSet::new()
    };
    let line_by_line = |removal: Removal| {
        let mut lines = removal.lines;
        // Each once: by the first of the images that had it.
        let layers = removal.layers.into_iter().rev();
        lines.extend(
            layers
                .filter(|layer| gone.remove(layer))
                .map(Removed::Deleted),
        );
        lines
    };
    Ok(removals.into_iter().map(line_by_line).collect())
}

/// Tells whether `text` is a tag that stands for nothing that can be read.
fn is_damaged_tag(store: &Store, text: &str) -> Result<bool> {
    let damaged = store.damaged_tags()?;
    Ok(damaged
        .iter()
        .any(|(tag, _)| text.parse().as_ref() == Ok(tag)))
}

fn remove_damaged_tag(store: &Store, lock: Exclusive, tag: &Reference) -> Result<Removal> {
    store.remove_tag(&lock, tag)?;
    drop(lock);
    store.sync_tag(tag)?;
    Ok(Removal {
        lines: vec![Removed::Untagged(tag.familiar())],
        layers: Vec::new(),
    })
}

/// Removes the record of an image that cannot be read, and the tags that stood for it.
fn remove_damaged(store: &Store, lock: Exclusive, id: Digest) -> Result<Removal> {
    for (tag, image) in store.tags()? {
        if image == id {
            store.remove_tag(&lock, &tag)?;
        }
    }
    store.remove_image_record(&lock, &id)?;
    drop(lock);
    store.sync_images()?;
    Ok(Removal {
        // Which layers it had is not known.
        layers: vec![id.clone()],
        lines: vec![Removed::Deleted(id)],
    })
}

impl Plan {
    /// Returns what the record of an image that stays is to be; `None` if it stays as it is, or goes.
    fn rewritten(&self, record: &Record) -> Result<Option<Vec<u8>>> {
        if self.delete || self.origins.is_empty() {
            return Ok(None);
        }
        let mut record = record.clone();
        let origins = &mut record.repo_digests;
        origins.retain(|origin| !self.origins.contains(origin));
        let bytes = serde_json::to_vec_pretty(&record).context("writing down the image")?;
        Ok(Some(bytes))
    }
}

/// Decides what becomes of an image when one of its names is removed.
fn by_name(
    text: &str,
    reference: &Reference,
    image: &Image,
    tags: Vec<Reference>,
    force: bool,
    uses: &[Use],
) -> Result<Plan> {
    let origins = &image.record.repo_digests;
    if let Some(used) = uses.first()
        && !force
        && is_single(&tags, origins)
    {
        bail!(
            "conflict: unable to remove repository reference \"{text}\" (must force) - \
             container {} is using its referenced image {}",
            short(&used.container),
            image.id.short()
        );
    }
    let in_repository = |origin: &str| repository(origin) == full_name(reference);
    let goes = |origin: &String| match reference.digest() {
        Some(digest) => in_repository(origin) && origin.ends_with(&digest.to_string()),
        // With a repository's last tag go its digests: they would keep the image without a name.
        None => {
            in_repository(origin)
                && !tags
                    .iter()
                    .any(|tag| tag != reference && full_name(tag) == full_name(reference))
        }
    };
    let (origins, other_origins): (Vec<String>, Vec<_>) = origins.iter().cloned().partition(goes);
    let is_it = |tag: &Reference| reference.digest().is_none() && tag == reference;
    let (tags, other_tags): (Vec<_>, Vec<_>) = tags.into_iter().partition(is_it);
    let last = other_tags.is_empty() && other_origins.is_empty();
    // By force the name goes even then, the image only when nothing runs from it.
    let delete = last && !uses.iter().any(|used| used.running);
    Ok(Plan {
        tags,
        origins,
        delete,
    })
}

/// Decides whether an image may be removed as a whole.
fn by_id(image: &Image, tags: Vec<Reference>, force: bool, uses: &[Use]) -> Result<Plan> {
    let id = image.id.short();
    let origins = image.record.repo_digests.clone();
    if let Some(used) = uses.iter().find(|used| used.running) {
        bail!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
            short(&used.container)
        );
    }
    let is_named = !tags.is_empty() || !origins.is_empty();
    if !force && is_named && !is_single(&tags, &origins) {
        bail!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        );
    }
    if let Some(used) = uses.first().filter(|_| !force) {
        bail!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
            short(&used.container)
        );
    }
    Ok(Plan {
        tags,
        origins,
        delete: true,
    })
}

/// Tells whether an image has at most one tag and all its names are of one repository.
fn is_single(tags: &[Reference], origins: &[String]) -> bool {
    let mut repositories: Vec<String> = tags.iter().map(full_name).collect();
    repositories.extend(origins.iter().map(|origin| repository(origin).to_owned()));
    repositories.dedup();
    tags.len() <= 1 && repositories.len() == 1
}

/// Does what was decided. The names go first, so that what dies in between leaves an image without a name.
fn carry_out(
    store: &Store,
    lock: Exclusive,
    image: Image,
    plan: &Plan,
    prepared: Option<PreparedRecord>,
) -> Result<Removal> {
    let mut lines = Vec::new();
    for tag in &plan.tags {
        store.remove_tag(&lock, tag)?;
        lines.push(Removed::Untagged(tag.familiar()));
    }
    for origin in &plan.origins {
        let familiar = origin.parse::<Reference>().map(|origin| origin.familiar());
        lines.push(Removed::Untagged(
            familiar.unwrap_or_else(|_| origin.clone()),
        ));
    }
    let mut layers = Vec::new();
    if plan.delete {
        store.remove_image_record(&lock, &image.id)?;
        lines.push(Removed::Deleted(image.id));
        layers = image
            .record
            .layers
            .into_iter()
            .map(|layer| layer.diff_id)
            .collect();
    } else if let Some(prepared) = prepared {
        store.rewrite_image_record(&lock, &image.id, &prepared)?;
    }
    drop(lock);
    for tag in &plan.tags {
        store.sync_tag(tag)?;
    }
    store.sync_images()?;
    Ok(Removal { lines, layers })
}

fn full_name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Returns the repository of `docker.io/library/ubuntu@sha256:…`.
fn repository(origin: &str) -> &str {
    origin.split('@').next().unwrap_or_default()
}

/// Returns the first 12 digits of a container's ID.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
