//! Layers: downloaded and unpacked side by side, each verified before it counts.

use crate::digest::Digest;
use crate::image::Layer;
use crate::pull::arriving::{Arriving, Reader};
use crate::pull::download::{self, Download, Progress};
use crate::pull::{Event, LayerId, LayerState, Stopped, resolve};
use crate::registry::{Client, RegistryError};
use crate::store::{LayerMeta, Partial, Segments, Stage, StagedLayer, Store};
use crate::unpack::{self, Recipe, Unpacked};
use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use futures_util::try_join;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

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
            ensure!(
                is_first,
                "the image has layer `{}` twice, with two diff IDs",
                id.short()
            );
            missing.push(layer.clone());
        }
    }
    Ok(Plan {
        all,
        present,
        missing,
    })
}

/// The blobs that are fetched, ours alone.
pub(crate) type Partials = BTreeMap<LayerId, Arc<Partial>>;

/// How often we look whether another process is done with a blob.
const LOOK: Duration = Duration::from_millis(50);

/// Takes what is missing for us alone, and waits for other processes that have some of it: they fetch it for us too.
///
/// In the order of the digests, so that no two processes wait for each other. What is there is to be looked at
/// again afterwards.
pub(crate) async fn take(
    store: &Store,
    missing: &[Layer],
    events: &dyn Fn(Event),
) -> Result<Partials> {
    let ids: BTreeSet<&LayerId> = missing.iter().map(|layer| &layer.digest).collect();
    let mut partials = Partials::new();
    let mut told = false;
    for id in ids {
        let partial = loop {
            if let Some(partial) = store.partial(id)? {
                break partial;
            }
            if !told {
                let short = id.short();
                events(Event::Note(format!(
                    "layer {short} is on its way by another pull: waiting for that"
                )));
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        };
        partials.insert(id.clone(), Arc::new(partial));
    }
    Ok(partials)
}

/// What fetching layers needs.
pub(crate) struct Work<'scope, 'env> {
    pub(crate) client: &'env Client<'env>,
    pub(crate) stage: &'env Stage,
    pub(crate) unpacking: &'env unpack::Options,
    pub(crate) events: &'env dyn Fn(Event),
    /// Ours while this lasts.
    pub(crate) partials: &'env Partials,
    /// Bounds what is open to the registry at once.
    pub(crate) connections: &'env Semaphore,
    /// Bounds the layers that are unpacked at once.
    pub(crate) unpackers: &'env Semaphore,
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
        // The largest first: what is left for the end is small.
        let mut layers: Vec<_> = plan.missing.iter().enumerate().collect();
        layers.sort_by_key(|(_, layer)| Reverse(layer.size));
        let layers = layers
            .into_iter()
            .map(|(number, layer)| self.layer(number, layer));
        layers.collect::<FuturesUnordered<_>>().try_collect().await
    }

    async fn layer(&self, number: usize, layer: &Layer) -> Result<StagedLayer> {
        let partial = &self.partials[&layer.digest];
        let wrong = |fetched: &Result<_>| {
            fetched
                .as_ref()
                .is_err_and(anyhow::Error::is::<WrongDigest>)
        };
        let name = number.to_string();
        let mut fetched = self.attempt(&name, layer, partial).await;
        if wrong(&fetched) {
            // A fault on the way may be gone; a registry that holds other bytes sends them again.
            partial.clear()?;
            self.client.distrust_mirrors();
            fetched = self.attempt(&format!("{name}-again"), layer, partial).await;
        }
        if fetched.as_ref().is_err_and(|error| !may_pass(error)) {
            // It is of no use: another try would come to the same end.
            partial.clear()?;
        }
        fetched.with_context(|| resolve::name(layer))
    }

    /// Downloads a layer and unpacks it meanwhile, into the stage's directory `name`.
    async fn attempt(
        &self,
        name: &str,
        layer: &Layer,
        partial: &Arc<Partial>,
    ) -> Result<StagedLayer> {
        let segments = download::resume(partial, layer.size)?;
        let arriving = Arc::new(Arriving::new(
            Arc::clone(partial),
            layer.size,
            segments.clone(),
        ));
        let _stop = Stop(&arriving);
        let ((), unpacked) = try_join!(
            self.download(layer, partial, &arriving, &segments),
            self.unpack(name, layer, &arriving)
        )?;
        let Layer {
            digest, diff_id, ..
        } = layer;
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

    async fn download(
        &self,
        layer: &Layer,
        partial: &Arc<Partial>,
        arriving: &Arriving,
        segments: &Segments,
    ) -> Result<()> {
        let Layer { digest, size, .. } = layer;
        let tell = |progress| {
            let state = match progress {
                Progress::Received(received) => LayerState::Downloading {
                    received,
                    size: *size,
                },
                Progress::Retrying(wait) => LayerState::Retrying { after: wait },
            };
            self.tell(digest, state);
        };
        if !segments.is_empty() {
            tell(Progress::Received(arriving.received()));
        }
        let download = Download {
            client: self.client,
            digest,
            size: *size,
            partial,
            arriving,
            connections: self.connections,
            tell: &tell,
        };
        download.run(segments).await?;
        self.tell(digest, LayerState::DownloadComplete);
        Ok(())
    }

    /// Unpacks what arrives in a thread of its own. Its bytes are right when this returns.
    async fn unpack(
        &self,
        name: &str,
        layer: &Layer,
        arriving: &Arc<Arriving>,
    ) -> Result<Unpacked> {
        let _permit = self
            .unpackers
            .acquire()
            .await
            .context("the pull has ended")?;
        let directory = self.stage.layer_directory(name)?;
        let paths = self.stage.layer_paths(name);
        let (done, unpacked) = oneshot::channel();
        let mut reader = Reader::new(Arc::clone(arriving), layer.digest.algorithm());
        let options = self.unpacking;
        let expected = layer.digest.clone();
        let work = move || {
            let recipe = Recipe {
                file: &paths.recipe,
                kept: &paths.kept,
            };
            let unpacked = unpack::layer(&mut reader, &directory, Some(recipe), options);
            // Nobody listens any more when the pull failed elsewhere.
            done.send(verify(unpacked, reader, expected)).ok();
        };
        thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(self.scope, work)
            .context("starting a thread")?;
        unpacked.await.context("the thread that unpacks died")?
    }

    fn tell(&self, id: &LayerId, state: LayerState) {
        let id = id.clone();
        (self.events)(Event::Layer { id, state });
    }
}

/// Reads the rest of a blob and holds its digest against the one that was asked for: was a bad archive meant so, or
/// damaged on its way?
fn verify(unpacked: Result<Unpacked>, reader: Reader, expected: Digest) -> Result<Unpacked> {
    if unpacked.as_ref().is_err_and(is_of_system) {
        return unpacked;
    }
    let found = reader.finish()?;
    if found != expected {
        bail!(WrongDigest { expected, found });
    }
    unpacked
}

/// Lets the thread that unpacks end when its download does not go on.
struct Stop<'a>(&'a Arriving);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Tells whether the same pull may succeed another time: it was the network, the system or the user that ended it.
pub(crate) fn may_pass(error: &anyhow::Error) -> bool {
    let registry = error.downcast_ref::<RegistryError>();
    registry.is_some_and(|error| !matches!(error, RegistryError::Invalid(_)))
        || error.is::<Stopped>()
        || is_of_system(error)
}

/// Tells whether it was the system that refused (a full disk, say) and not the archive that was bad.
fn is_of_system(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        // fs_err keeps the code to itself; these kinds are made by readers of bad data.
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let is_of_data = |kind| {
            use ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
            matches!(kind, InvalidData | InvalidInput | Other | UnexpectedEof)
        };
        kind.is_some_and(|kind| !is_of_data(kind)) || cause.is::<rustix::io::Errno>()
    })
}

fn meta(unpacked: Unpacked, digest: &Digest) -> LayerMeta {
    let path = |path| PathBuf::from(OsString::from_vec(path));
    let links = unpacked.links.into_iter();
    LayerMeta {
        digest: digest.clone(),
        tar_size: unpacked.tar_size,
        size: unpacked.size,
        entries: unpacked.entries,
        implied: unpacked.implied.into_iter().map(path).collect(),
        bare: unpacked.bare.into_iter().map(path).collect(),
        with_whiteouts: unpacked.with_whiteouts.into_iter().map(path).collect(),
        links: links.map(|(at, to)| (path(at), path(to))).collect(),
        opaque_root: unpacked.opaque_root,
        skipped: unpacked.skipped.iter().map(ToString::to_string).collect(),
    }
}
