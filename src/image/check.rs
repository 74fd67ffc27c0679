//! Checking: is what the store holds of images what was pulled?

mod chain;

use crate::digest::Digest;
use crate::image::Image;
use crate::image::assembly::{Lower, chain_ids};
use crate::reference::Reference;
use crate::store::{Damaged, LayerMeta, Store};
use crate::unpack::{self, Fault, Finding, Recipe, Unpacked};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Layers that are checked at once. Each keeps two processors busy.
const CHECKERS: usize = 4;

/// A part of images, named by the digest that it must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// By its diff ID.
    Layer(Digest),
    /// What makes the layers of a stack fit, by its chain ID.
    Chain(Chain),
    Config(Digest),
    Manifest(Digest),
    /// What a registry served for a name: an index, or the manifest itself.
    Served(Digest),
}

/// Fix-ups, and the stack of layers that they lie on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain {
    pub(crate) id: Digest,
    /// The diff IDs, base first.
    layers: Vec<Digest>,
}

impl Chain {
    /// Tells whether it is `part`, or was made from it.
    pub(crate) fn depends_on(&self, part: &Part) -> bool {
        match part {
            Part::Layer(diff_id) => self.layers.contains(diff_id),
            // One that lies lower was there when this one was made.
            Part::Chain(chain) => self.layers.starts_with(&chain.layers),
            _ => false,
        }
    }
}

impl Part {
    pub(crate) fn digest(&self) -> &Digest {
        match self {
            Self::Layer(digest)
            | Self::Config(digest)
            | Self::Manifest(digest)
            | Self::Served(digest) => digest,
            Self::Chain(chain) => &chain.id,
        }
    }

    /// Returns what it is called where there are only its bytes.
    fn word(&self) -> &'static str {
        match self {
            Self::Layer(_) => "layer",
            Self::Chain(_) => "chain",
            Self::Config(_) => "config",
            Self::Manifest(_) => "manifest",
            Self::Served(_) => "index",
        }
    }
}

impl Image {
    /// Returns the fix-ups that the image is mounted with, base first.
    pub(crate) fn chains(&self) -> impl Iterator<Item = Chain> {
        let layers = self.record.layers.iter();
        let layers: Vec<Digest> = layers.map(|layer| layer.diff_id.clone()).collect();
        let ids = chain_ids(&layers).into_iter().enumerate();
        let ids = ids.filter(|(_, id)| {
            let mut lower = self.record.assembly.lower.iter();
            lower.any(|lower| matches!(lower, Lower::Chain { chain } if chain == id))
        });
        ids.map(move |(top, id)| Chain {
            id,
            layers: layers[..=top].to_vec(),
        })
    }

    /// Returns the parts that make up the image, each once, layers first.
    pub(crate) fn parts(&self) -> BTreeSet<Part> {
        let record = &self.record;
        let layers = record.layers.iter().map(|layer| &layer.diff_id).cloned();
        let mut parts: BTreeSet<Part> = layers.map(Part::Layer).collect();
        parts.extend(self.chains().map(Part::Chain));
        parts.insert(Part::Config(self.id.clone()));
        parts.insert(Part::Manifest(record.manifest.clone()));
        for origin in &record.repo_digests {
            let origin = origin.parse::<Reference>().ok();
            let digest = origin.and_then(|origin| origin.digest().cloned());
            // An image without an index was served as its manifest.
            let digest = digest.filter(|digest| *digest != record.manifest);
            parts.extend(digest.map(Part::Served));
        }
        parts
    }
}

/// Checks `parts`, some side by side, and returns those that are not as they were pulled, with what is wrong. Starts threads.
///
/// Fix-ups are held against what their layers make. Where one of these is not right, they are only looked for.
pub(crate) fn check(
    store: &Store,
    parts: &BTreeSet<Part>,
    unpacking: &unpack::Options,
) -> Result<BTreeMap<Part, Vec<Finding>>> {
    let digests: Vec<Digest> = parts.iter().map(|part| part.digest().clone()).collect();
    let _lease = store.lease(&digests)?;
    let is_chain = |part: &&Part| matches!(part, Part::Chain(_));
    let (chains, others): (Vec<_>, Vec<_>) = parts.iter().partition(is_chain);
    let mut found = side_by_side(&others, |part| check_part(store, part, unpacking))?;
    // Afterwards: it must be known whether their layers are right. And one by one: a mount is put together in the
    // working directory, which all threads share.
    for part in chains {
        if let Part::Chain(chain) = part {
            let findings = chain::check(store, chain, &found);
            let findings = findings.with_context(|| context(part))?;
            if !findings.is_empty() {
                found.insert(part.clone(), findings);
            }
        }
    }
    Ok(found)
}

/// Returns what `check` finds of each of the parts, where it finds something.
fn side_by_side(
    parts: &[&Part],
    check: impl Fn(&Part) -> Result<Vec<Finding>> + Sync,
) -> Result<BTreeMap<Part, Vec<Finding>>> {
    let found = Mutex::new(BTreeMap::new());
    let rest = Mutex::new(parts.iter());
    let work = || -> Result<()> {
        loop {
            let next = rest.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(part) = next else {
                return Ok(());
            };
            let findings = check(part).with_context(|| context(part))?;
            if !findings.is_empty() {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(Part::clone(part), findings);
            }
        }
    };
    let checkers = thread::available_parallelism().map_or(1, |count| count.get().min(CHECKERS));
    thread::scope(|scope| -> Result<()> {
        let checkers: Vec<_> = (0..checkers.min(parts.len()))
            .map(|_| scope.spawn(work))
            .collect();
        for checker in checkers {
            let checked = checker.join();
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn context(part: &Part) -> String {
    format!("checking {} `{}`", part.word(), part.digest().short())
}

fn check_part(store: &Store, part: &Part, unpacking: &unpack::Options) -> Result<Vec<Finding>> {
    if let Part::Layer(diff_id) = part {
        return check_layer(store, diff_id, unpacking);
    }
    let (fault, what) = match store.blob(part.digest()) {
        Ok(Some(_)) => return Ok(Vec::new()),
        Ok(None) => (Fault::Missing, "blob"),
        Err(error) if error.is::<Damaged>() => (Fault::Damaged, "content"),
        Err(error) => return Err(error),
    };
    Ok(vec![finding(fault, part.word(), what)])
}

fn check_layer(
    store: &Store,
    diff_id: &Digest,
    unpacking: &unpack::Options,
) -> Result<Vec<Finding>> {
    let paths = store.layer_paths(diff_id);
    if !paths.fs.is_dir() {
        return Ok(vec![finding(Fault::Missing, "layer", "all of it")]);
    }
    let meta = store.layer(diff_id)?;
    let mut unpacking = unpacking.clone();
    // What a damaged recipe makes may have no end.
    unpacking.limits.tar_size = meta.as_ref().map(|meta| meta.tar_size);
    let stage = store.stage()?;
    let shadow = stage.layer_directory("shadow")?;
    let recipe = Recipe {
        file: &paths.recipe,
        kept: &paths.kept,
    };
    let checked = unpack::check(&paths.fs, recipe, diff_id, &shadow, &unpacking)?;
    let mut findings = checked.findings;
    match (meta, checked.unpacked) {
        (None, _) => findings.push(finding(Fault::Missing, "meta.json", "its facts")),
        (Some(meta), Some(unpacked)) if !is_of(&meta, &unpacked) => {
            findings.push(finding(Fault::Damaged, "meta.json", "its facts"));
        }
        (Some(_), _) => {}
    }
    Ok(findings)
}

/// Tells whether `meta` says what unpacking the layer says. From what bytes it came cannot be told any more, and what was
/// left out may depend on who unpacked it.
fn is_of(meta: &LayerMeta, unpacked: &Unpacked) -> bool {
    let same = |paths: &[PathBuf], bytes: &[Vec<u8>]| {
        let paths = paths.iter().map(|path| path.as_os_str().as_bytes());
        paths.eq(bytes.iter().map(Vec::as_slice))
    };
    let (link_paths, link_targets): (Vec<_>, Vec<_>) = meta.links.iter().cloned().unzip();
    let (links, targets): (Vec<_>, Vec<_>) = unpacked.links.iter().cloned().unzip();
    let with_whiteouts: Vec<_> = unpacked.with_whiteouts.iter().cloned().collect();
    meta.tar_size == unpacked.tar_size
        && meta.size == unpacked.size
        && meta.entries == unpacked.entries
        && meta.opaque_root == unpacked.opaque_root
        && same(&meta.implied, &unpacked.implied)
        && same(&meta.bare, &unpacked.bare)
        && same(&meta.with_whiteouts, &with_whiteouts)
        && same(&link_paths, &links)
        && same(&link_targets, &targets)
}

fn finding(fault: Fault, subject: &str, what: &str) -> Finding {
    Finding {
        fault,
        subject: subject.to_owned(),
        what: what.to_owned(),
    }
}
