//! Indexes: from what a name stands for to the image for one platform, through indexes inside indexes.

use crate::digest::Digest;
use crate::platform::Platform;
use crate::pull::resolve;
use crate::reference::Reference;
use crate::registry::{Client, Document, Index, Manifest};
use crate::store::Store;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;
use std::rc::Rc;

/// Indexes inside each other, at most. Builders make one inside another, for what they attest of an image.
const DEEPEST: usize = 4;

/// Documents that are looked at for one image, at most: each may be a question to the registry.
const MOST: usize = 16;

/// An index on the way, and the one that it is in.
struct Level {
    digest: Digest,
    bytes: Vec<u8>,
    above: Option<Rc<Level>>,
}

/// What was found: the image, and the indexes that led to it, the outermost first.
pub(super) struct Found {
    pub(super) image: Document,
    pub(super) indexes: Vec<(Digest, Vec<u8>)>,
}

/// Finds the image for `platform` in what was `served` for `reference`. Copies in the `store` are not asked for again.
pub(super) async fn find(
    store: Option<&Store>,
    client: &Client<'_>,
    reference: &Reference,
    served: Document,
    platform: &Platform,
) -> Result<Found> {
    let Manifest::Index(top) = served.manifest else {
        let indexes = Vec::new();
        return Ok(Found {
            image: served,
            indexes,
        });
    };
    let level = Rc::new(Level {
        digest: served.digest,
        bytes: served.bytes,
        above: None,
    });
    // What is to be looked at, the best last.
    let mut waiting = Vec::new();
    let mut seen = HashSet::new();
    enter(&top, &level, platform, &mut waiting)?;
    while let Some((entry, level)) = waiting.pop() {
        if !seen.insert(entry.digest.clone()) {
            continue;
        }
        ensure!(
            seen.len() <= MOST,
            "more than {MOST} manifests and indexes would have to be looked at to find the image for {platform}"
        );
        let name = reference.with_digest(entry.digest.clone());
        let here = match store.and_then(|store| resolve::copy(store, &entry.digest)) {
            Some(bytes) => Some(bytes),
            None => entry.inline()?,
        };
        let document = match here {
            Some(bytes) => Document::read(bytes, "", &name)?,
            None => client.manifest(&name).await?,
        };
        document.check_size(&entry)?;
        let Manifest::Index(index) = document.manifest else {
            let indexes = level.all();
            let image = document;
            return Ok(Found { image, indexes });
        };
        let (digest, bytes) = (document.digest, document.bytes);
        let above = Some(level);
        let level = Rc::new(Level {
            digest,
            bytes,
            above,
        });
        if level.depth() > DEEPEST {
            bail!("the index has more than {DEEPEST} indexes inside each other");
        }
        enter(&index, &level, platform, &mut waiting)
            .with_context(|| format!("index `{}`", level.digest.short()))?;
    }
    Err(top.has_none(platform))
}

type Waiting = Vec<(crate::registry::Descriptor, Rc<Level>)>;

/// Adds what of an index may be wanted.
fn enter(
    index: &Index,
    level: &Rc<Level>,
    platform: &Platform,
    waiting: &mut Waiting,
) -> Result<()> {
    let chosen = index.choose(platform)?.into_iter().rev();
    waiting.extend(chosen.map(|entry| (entry.clone(), Rc::clone(level))));
    Ok(())
}

impl Level {
    fn depth(&self) -> usize {
        1 + self.above.as_ref().map_or(0, |above| above.depth())
    }

    /// Returns this index and those that it is in, the outermost first.
    fn all(&self) -> Vec<(Digest, Vec<u8>)> {
        let mut all = self
            .above
            .as_ref()
            .map_or_else(Vec::new, |above| above.all());
        all.push((self.digest.clone(), self.bytes.clone()));
        all
    }
}
