//! Layers: downloaded and unpacked side by side, each verified before it counts.

use crate::digest::{Digest, Hasher};
use crate::image::Layer;
use crate::pull::pieces::{self, Pieces};
use crate::pull::{Event, LayerId, LayerState, resolve};
use crate::registry::{Client, Piece};
use crate::store::{LayerMeta, Stage, StagedLayer, Store};
use crate::unpack::{self, Unpacked};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::thread::{self, Scope};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Layers on their way at the same time. Docker has 3; each of ours computes on two threads.
const AT_ONCE: usize = 4;

/// A blob arrived whole and is not what its descriptor says.
#[derive(Debug, Error)]
#[error("the registry sent {found} where {expected} was asked for")]
struct WrongDigest {
    expected: Digest,
    found: Digest,
}

/// What there is to do for an image's layers.
pub(crate) struct Plan {
    /// All layers, once each, base first.
    pub(crate) all: Vec<LayerId>,
    /// Those whose content is here already, from this image or another.
    pub(crate) present: Vec<LayerId>,
    /// What must be fetched; of layers with the same content one.
    pub(crate) missing: Vec<Layer>,
}

/// Looks which layers are here. The caller holds a lease on them.
pub(crate) fn plan(store: &Store, layers: &[Layer]) -> Result<Plan> {
    let (mut all, mut present, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut counted) = (BTreeSet::new(), BTreeSet::new());
    for layer in layers {
        let id = &layer.digest;
        let is_first = counted.insert(id);
        if is_first {
            all.push(id.clone());
        }
        // The diff ID is the content's own name: whoever claims it gets exactly that content.
        if !seen.insert(&layer.diff_id) || store.layer(&layer.diff_id)?.is_some() {
            if is_first {
                present.push(id.clone());
            }
        } else {
            missing.push(layer.clone());
        }
    }
    Ok(Plan {
        all,
        present,
        missing,
    })
}

/// What fetching layers needs.
pub(crate) struct Work<'scope, 'env> {
    pub(crate) client: &'env Client<'env>,
    pub(crate) stage: &'env Stage,
    pub(crate) unpacking: &'env unpack::Options,
    pub(crate) events: &'env dyn Fn(Event),
    /// No thread outlives it, however this ends.
    pub(crate) scope: &'scope Scope<'scope, 'env>,
}

impl Work<'_, '_> {
    /// Fetches and unpacks what is missing into the stage. The first failure ends all.
    pub(crate) async fn fetch(&self, plan: &Plan) -> Result<Vec<StagedLayer>> {
        for id in &plan.present {
            self.tell(id, LayerState::AlreadyExists);
        }
        for Layer { digest, size, .. } in &plan.missing {
            self.tell(digest, LayerState::Waiting { size: *size });
        }
        let layers = plan.missing.iter().enumerate();
        let layers = layers.map(|(number, layer)| self.layer(number, layer));
        stream::iter(layers)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn layer(&self, number: usize, layer: &Layer) -> Result<StagedLayer> {
        let fetched = match self.attempt(&number.to_string(), layer).await {
            // A fault on the way may be gone; a registry that holds other bytes sends them again.
            Err(error) if error.is::<WrongDigest>() => {
                self.attempt(&format!("{number}-again"), layer).await
            }
            fetched => fetched,
        };
        fetched.with_context(|| resolve::name(layer))
    }

    /// Downloads a layer and unpacks it meanwhile, into the stage's directory `name`.
    async fn attempt(&self, name: &str, layer: &Layer) -> Result<StagedLayer> {
        let Layer {
            digest, diff_id, ..
        } = layer;
        let directory = self.stage.layer_directory(name)?;
        let (sender, pieces) = pieces::channel();
        let unpacked = self.unpack(pieces, directory)?;
        self.download(layer, sender).await?;
        let unpacked = unpacked.await.context("the thread that unpacks died")??;
        ensure!(
            unpacked.diff_id == *diff_id,
            "its content is {}, the image's config says {diff_id}",
            unpacked.diff_id
        );
        self.tell(digest, LayerState::PullComplete);
        for note in &unpacked.skipped {
            let id = digest.short();
            (self.events)(Event::Note(format!("layer {id}: left out: {note}")));
        }
        Ok(StagedLayer {
            name: name.to_owned(),
            diff_id: diff_id.clone(),
            meta: meta(unpacked, digest),
        })
    }

    /// Starts the thread that unpacks.
    fn unpack(
        &self,
        mut pieces: Pieces,
        directory: PathBuf,
    ) -> Result<oneshot::Receiver<Result<Unpacked>>> {
        let (done, unpacked) = oneshot::channel();
        let options = self.unpacking;
        let work = move || {
            let unpacked = unpack::layer(&mut pieces, &directory, options);
            if !unpacked.as_ref().is_err_and(is_of_system) {
                // Was a bad archive meant so, or damaged on its way? All its bytes must come for its digest to tell.
                pieces.drain();
            }
            // Nobody listens any more when the pull failed elsewhere.
            done.send(unpacked).ok();
        };
        thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(self.scope, work)
            .context("starting a thread")?;
        Ok(unpacked)
    }

    /// Hands a blob over piece by piece, and verifies it; stops quietly if nobody takes it any more.
    async fn download(&self, layer: &Layer, to: mpsc::Sender<Bytes>) -> Result<()> {
        let (id, size) = (&layer.digest, layer.size);
        let mut blob = self.client.blob(id, size);
        let mut hasher = Hasher::new(id.algorithm());
        let mut received = 0;
        while let Some(piece) = blob.next().await? {
            match piece {
                Piece::Retrying(after) => self.tell(id, LayerState::Retrying { after }),
                Piece::Bytes(bytes) => {
                    hasher.update(&bytes);
                    received += bytes.len() as u64;
                    if to.send(bytes).await.is_err() {
                        return Ok(());
                    }
                    self.tell(id, LayerState::Downloading { received, size });
                }
            }
        }
        let found = hasher.finish();
        if found != *id {
            let expected = id.clone();
            bail!(WrongDigest { expected, found });
        }
        self.tell(id, LayerState::DownloadComplete);
        Ok(())
    }

    fn tell(&self, id: &LayerId, state: LayerState) {
        let id = id.clone();
        (self.events)(Event::Layer { id, state });
    }
}

/// Tells whether it was the system that refused (a full disk, say) and not the archive that was bad.
fn is_of_system(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let code = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        code.is_some() || cause.is::<rustix::io::Errno>()
    })
}

fn meta(unpacked: Unpacked, digest: &Digest) -> LayerMeta {
    let implied = unpacked
        .implied
        .into_iter()
        .map(|path| OsString::from_vec(path).into());
    LayerMeta {
        digest: digest.clone(),
        tar_size: unpacked.tar_size,
        size: unpacked.size,
        entries: unpacked.entries,
        implied: implied.collect(),
        opaque_root: unpacked.opaque_root,
        skipped: unpacked.skipped.iter().map(ToString::to_string).collect(),
    }
}
