//! What a pull tells while it runs; the command line turns it into lines and bars.

use crate::digest::Digest;
use crate::reference::Reference;
use std::time::Duration;

/// One step of a pull.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The registry answered and layers are about to move: "latest: Pulling from library/ubuntu".
    Started {
        reference: Reference,
        layers: Vec<LayerId>,
    },
    /// The state of a layer changed, or it went on.
    Layer { id: LayerId, state: LayerState },
    /// Nothing moves for so long: the registry could not answer, or wants us to wait.
    Waiting { why: String, wait: Duration },
    /// The pull ends early; so many compressed bytes of layers are here for the next one.
    Kept(u64),
    /// Something the user should know that does not stop the pull.
    Note(String),
}

/// The digest of a layer's compressed bytes, as its descriptor names it.
pub(crate) type LayerId = Digest;

/// Where a layer is on its way. Sizes are compressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    Waiting {
        size: u64,
    },
    AlreadyExists,
    Downloading {
        received: u64,
        size: u64,
    },
    Retrying {
        after: Duration,
    },
    /// All bytes arrived and were right; the rest is being unpacked.
    DownloadComplete,
    /// Unpacked and verified, not yet visible.
    PullComplete,
}

/// How a pull ended.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    /// What was asked for, complete.
    pub(crate) reference: Reference,
    /// The digest of the index or manifest as served: the repo digest.
    pub(crate) digest: Digest,
    /// The image's ID: the digest of its config.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests compare it so far"))]
    pub(crate) image: Digest,
    /// False if the image was here already and nothing changed.
    pub(crate) newer: bool,
}
