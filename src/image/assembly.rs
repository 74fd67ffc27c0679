//! How an image's layers are put together: which to mount, and what lies between them to make them fit.

use crate::digest::Digest;
use crate::image::effort::Effort;
use crate::image::fixup::Fixup;
use crate::image::merged::Merged;
use crate::runtime::Rootfs;
use crate::store::{LayerMeta, Stage, StagedChain, Store};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// How the layers are put together; settled once, so that a run need not ask each layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assembly {
    /// What to mount, base first, each once.
    pub(crate) lower: Vec<Lower>,
    /// The layer whose root directory's owner, mode, times and attributes are the image's; `None` if no layer lists its root.
    pub(crate) root: Option<Digest>,
}

/// A lower directory of the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Lower {
    /// A layer, by its diff ID.
    Layer(Digest),
    /// What makes the layers below fit, up to the one with this chain ID.
    Chain { chain: Digest },
}

impl Lower {
    /// Returns the directory, there or not.
    pub(crate) fn directory(&self, store: &Store) -> PathBuf {
        match self {
            Self::Layer(diff_id) => store.layer_fs(diff_id),
            Self::Chain { chain } => store.chain_fs(chain),
        }
    }

    pub(crate) fn digest(&self) -> &Digest {
        match self {
            Self::Layer(digest) | Self::Chain { chain: digest } => digest,
        }
    }
}

impl Display for Lower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(diff_id) => write!(f, "layer `{}`", diff_id.short()),
            Self::Chain { chain } => write!(f, "chain `{}`", chain.short()),
        }
    }
}

/// Which fix-ups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// Those that are not here.
    Missing,
    /// All, without a look at those that are here.
    All,
}

/// A layer that is put together with others.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) diff_id: &'a Digest,
    /// Of the compressed bytes, which is what users know the layer by.
    pub(super) digest: &'a Digest,
    /// Where its files lie.
    pub(super) directory: PathBuf,
    pub(super) meta: &'a LayerMeta,
}

/// Returns the chain ID of each layer: it names the layer with all below it (image-spec config.md, "Layer `ChainID`").
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain
}

/// Returns the index of the lowest layer of which anything is seen, and that of the one whose root directory holds.
fn bounds(metas: &[&LayerMeta]) -> (usize, Option<usize>) {
    let numbered = || metas.iter().enumerate().rev();
    // overlayfs overlooks the mark on a layer's root directory: what is below is left out instead.
    let lowest = numbered().find(|(_, meta)| meta.opaque_root);
    let lowest = lowest.map_or(0, |(number, _)| number);
    let root = numbered().find(|(number, meta)| *number >= lowest && meta.lists_root());
    (lowest, root.map(|(number, _)| number))
}

/// Decides how the layers are put together, base first, and makes what that needs in the stage.
///
/// The caller holds a lease on the layers and on their chain IDs. An error of `wanted` ends it early.
pub(super) fn settle(
    store: &Store,
    stage: &Stage,
    parts: &[Part<'_>],
    make: Make,
    wanted: &dyn Fn() -> Result<()>,
) -> Result<(Assembly, Vec<StagedChain>)> {
    let metas: Vec<_> = parts.iter().map(|part| part.meta).collect();
    let (lowest, root) = bounds(&metas);
    let diff_ids: Vec<_> = parts.iter().map(|part| part.diff_id.clone()).collect();
    let effort = Effort::new(wanted);
    let mut pile = Pile {
        store,
        stage,
        user_attributes: store.has_user_attributes()?,
        make,
        lower: Vec::new(),
        directories: Vec::new(),
        merged: Merged::of(metas[lowest..].iter().copied(), &effort)?,
        effort: &effort,
        staged: Vec::new(),
    };
    let layers = parts.iter().zip(chain_ids(&diff_ids));
    for (number, (part, chain_id)) in layers.enumerate().skip(lowest) {
        let is_top = number + 1 == parts.len();
        pile.add(part, &chain_id, is_top)
            .with_context(|| format!("layer `{}`", part.digest.short()))?;
    }
    let assembly = Assembly {
        lower: pile.lower,
        root: root.map(|number| parts[number].diff_id.clone()),
    };
    Ok((assembly, pile.staged))
}

/// Layers put together so far.
struct Pile<'a> {
    store: &'a Store,
    stage: &'a Stage,
    user_attributes: bool,
    make: Make,
    lower: Vec<Lower>,
    /// Of `lower`.
    directories: Vec<PathBuf>,
    merged: Merged<'a>,
    effort: &'a Effort<'a>,
    staged: Vec<StagedChain>,
}

impl Pile<'_> {
    /// Adds a layer, and above it what makes it fit, if it does not.
    fn add(&mut self, part: &Part<'_>, chain_id: &Digest, is_top: bool) -> Result<()> {
        let misfits = self.merged.lay(&part.directory, part.meta)?;
        let layer = Lower::Layer(part.diff_id.clone());
        // Metadata alone can wait for the top: who is seen above sees all below.
        let is_urgent = !misfits.is_empty() || !part.meta.links.is_empty();
        let is_looked_at = is_urgent || is_top;
        let below = if is_looked_at {
            self.directories.clone()
        } else {
            Vec::new()
        };
        // overlayfs answers ELOOP to a layer that is there twice, and what is on top hides the other.
        if let Some(at) = self.lower.iter().position(|lower| *lower == layer) {
            self.lower.remove(at);
            self.directories.remove(at);
        }
        self.lower.push(layer);
        self.directories.push(part.directory.clone());
        if !is_looked_at {
            return Ok(());
        }
        let stale = self.merged.stale()?;
        if !is_urgent && stale.is_empty() {
            return Ok(());
        }
        let mut directory = self.store.chain_fs(chain_id);
        if self.make == Make::All || !self.store.has_chain(chain_id) {
            let name = format!("chain-{}", chain_id.short());
            directory = self.stage.layer_directory(&name)?;
            let fixup = Fixup {
                layer: &part.directory,
                meta: part.meta,
                misfits: &misfits,
                stale: &stale,
                effort: self.effort,
                merged: self.mount(&name, &self.directories, &directory)?,
                below: match &below[..] {
                    [] => None,
                    below => {
                        let name = format!("{name}-below");
                        let upper = self.stage.directory(&name)?;
                        Some(self.mount(&name, below, &upper)?)
                    }
                },
            };
            fixup.make()?;
            self.staged.push(StagedChain {
                name,
                chain_id: chain_id.clone(),
            });
        }
        self.merged.lay_fixup(&directory)?;
        self.lower.push(Lower::Chain {
            chain: chain_id.clone(),
        });
        self.directories.push(directory);
        Ok(())
    }

    /// Mounts `lower` where nobody sees it, with `upper` for what is changed.
    fn mount(&self, name: &str, lower: &[PathBuf], upper: &std::path::Path) -> Result<OwnedFd> {
        let rootfs = Rootfs {
            lower: lower.to_vec(),
            upper: upper.to_owned(),
            work: self.stage.directory(&format!("{name}-work"))?,
            // The stage is synced as a whole.
            discarded: true,
            user_attributes: self.user_attributes,
        };
        rootfs.assemble(self.store.directory())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_opaque_root_hides_is_left_out() {
        // `!` marks an opaque root, `-` a layer that does not list its root.
        for (layers, lowest, root) in [
            ("", 0, None),
            ("a b c", 0, Some(2)),
            ("a b- c-", 0, Some(0)),
            ("a- b-", 0, None),
            ("a b! c", 1, Some(2)),
            ("a b!- c-", 1, None),
            ("a b! a-", 1, Some(1)),
            ("a! b! c-", 1, Some(1)),
        ] {
            let metas: Vec<LayerMeta> = layers.split_terminator(' ').map(meta).collect();
            let metas: Vec<_> = metas.iter().collect();
            assert_eq!(bounds(&metas), (lowest, root), "{layers}");
        }
    }

    #[test]
    fn a_chain_id_names_a_layer_with_all_below_it() {
        let [a, b] = ["a", "b"].map(|name| Digest::of(name.as_bytes()));
        let both = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(chain_ids(&[a.clone(), b]), [a, both]);
    }

    #[test]
    fn lower_directories_are_written_as_digests_and_chains() {
        let digest = Digest::of(b"x");
        for (lower, expected) in [
            (Lower::Layer(digest.clone()), format!("\"{digest}\"")),
            (
                Lower::Chain {
                    chain: digest.clone(),
                },
                format!("{{\"chain\":\"{digest}\"}}"),
            ),
        ] {
            let text = serde_json::to_string(&lower).unwrap();
            assert_eq!(text, expected);
            assert_eq!(serde_json::from_str::<Lower>(&text).unwrap(), lower);
        }
    }

    fn meta(text: &str) -> LayerMeta {
        let implied = if text.contains('-') {
            vec![PathBuf::new()]
        } else {
            vec!["x".into()]
        };
        LayerMeta {
            digest: Digest::of(text.as_bytes()),
            tar_size: 0,
            size: 0,
            entries: 0,
            implied,
            bare: Vec::new(),
            with_whiteouts: Vec::new(),
            links: Vec::new(),
            opaque_root: text.contains('!'),
            skipped: Vec::new(),
        }
    }
}
