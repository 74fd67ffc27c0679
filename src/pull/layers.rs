//! Layers: downloaded and unpacked side by side, each verified before it counts.

use crate::digest::Digest;
use crate::image::{Layer, layer};
use crate::pull::arriving::{Arriving, Reader};
use crate::pull::download::{self, Download, Progress};
use crate::pull::plan::Plan;
use crate::pull::{self, Arrived, Event, LayerId, LayerState, Stopped, resolve};
use crate::registry::{Client, RegistryError};
use crate::store::{Partial, Progress as Way, Segments, Stage, Store};
use crate::unpack::{self, Skipped, Unpacked};
use anyhow::{Context, Result, bail};
use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A blob arrived whole and is not what its descriptor says.
#[derive(Debug, Error)]
#[error("the registry sent {found} where {expected} was asked for")]
struct WrongDigest {
    expected: Digest,
    found: Digest,
}

/// How often we look whether another operation is done with a blob.
const LOOK: Duration = Duration::from_millis(50);

/// How long another operation may bring nothing of a blob before we fetch it ourselves. It tells every [`BEAT`] that it is
/// alive; with a disk that is busy with its files, a little later.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often we tell others that we are alive.
const BEAT: Duration = Duration::from_secs(1);

/// What fetching layers needs.
pub(crate) struct Work<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) store: &'a Store,
    pub(crate) stage: &'a Arc<Stage>,
    pub(crate) unpacking: &'a unpack::Options,
    pub(crate) events: &'a dyn Fn(Event),
    pub(crate) arrived: &'a Arrived,
    /// The layers that their descriptors bring along.
    pub(crate) inline: &'a [(Digest, Vec<u8>)],
    /// Bounds the layers that are taken to be downloaded: those that wait are left to others.
    pub(crate) turns: &'a Semaphore,
    /// Bounds what is open to the registry at once.
    pub(crate) connections: &'a Semaphore,
    /// Bounds the layers that are unpacked at once.
    pub(crate) unpackers: &'a Semaphore,
}

impl Work<'_> {
    /// Fetches, unpacks and publishes what is missing, each layer for itself. The first failure ends all.
    pub(crate) async fn fetch(&self, plan: &Plan) -> Result<()> {
        for id in &plan.present {
            self.tell(id, LayerState::AlreadyExists);
        }
        for Layer { digest, size, .. } in &plan.missing {
            self.tell(digest, LayerState::Waiting { size: *size });
        }
        // The largest first: what is left for the end is small.
        let mut layers: Vec<_> = plan.missing.iter().enumerate().collect();
        layers.sort_by_key(|(_, layer)| Reverse(layer.size));
        let told = Cell::new(false);
        let layers = layers
            .into_iter()
            .map(|(number, layer)| self.layer(number, layer, &told));
        let all = layers.collect::<FuturesUnordered<_>>().try_collect();
        tokio::select! {
            done = all => done,
            error = self.beat() => Err(error),
        }
    }

    /// Tells other operations that this one is alive, for ever.
    async fn beat(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(BEAT).await;
            for partial in self.arrived.partials.borrow().values() {
                if let Err(error) = partial.beat() {
                    return error;
                }
            }
        }
    }

    /// Brings one layer into the store. `told` says that the user knows of other pulls.
    async fn layer(&self, number: usize, layer: &Layer, told: &Cell<bool>) -> Result<()> {
        let Layer {
            digest, diff_id, ..
        } = layer;
        let name = number.to_string();
        let (partial, turn) = self.take(&name, layer, told).await?;
        if self.store.layer(diff_id)?.is_some() {
            // The operation that had it fetched it for us too.
            partial.remove()?;
            self.tell(digest, LayerState::AlreadyExists);
            return Ok(());
        }
        if let Some((_, bytes)) = self.inline.iter().find(|(inline, _)| inline == digest) {
            partial.clear()?;
            partial.append(0)?.write_all(bytes)?;
        }
        let partials = &self.arrived.partials;
        partials
            .borrow_mut()
            .insert(digest.clone(), Arc::clone(&partial));
        self.arrived.began.set(true);
        self.fetch_one(&name, layer, &partial, turn).await?;
        partials.borrow_mut().remove(digest);
        let arrived = &self.arrived.layers;
        arrived.set(arrived.get() + layer.size);
        self.tell(digest, LayerState::PullComplete);
        Ok(())
    }

    /// Takes the layer's blob for us alone when it is its turn. As long as another operation goes on with it, that is waited
    /// for; who stands still is left alone, and the blob is fetched apart.
    async fn take(
        &self,
        name: &str,
        layer: &Layer,
        told: &Cell<bool>,
    ) -> Result<(Arc<Partial>, SemaphorePermit<'_>)> {
        let id = &layer.digest;
        let mut seen = None;
        let mut since = Instant::now();
        loop {
            let turn = self.turns.acquire().await.context("the pull has ended")?;
            if let Some(partial) = self.store.partial(id)? {
                return Ok((Arc::new(partial), turn));
            }
            let now = self.store.progress(id)?;
            let whole = now.is_some_and(|progress| progress.bytes >= layer.size);
            // Who has all of it is at work as long as it is alive.
            let mark = now.map(|Way { bytes, alive }| (bytes, whole.then_some(alive)));
            if mark != seen {
                (seen, since) = (mark, Instant::now());
            }
            let short = id.short();
            if since.elapsed() >= PATIENCE {
                let note = format!("layer {short} comes no further by another pull: fetching it");
                (self.events)(Event::Note(note));
                let apart = self.stage.directory(&format!("{name}-apart"))?;
                return Ok((Arc::new(Partial::apart(apart)?), turn));
            }
            drop(turn);
            if !told.replace(true) {
                (self.events)(Event::Note(format!(
                    "layer {short} is on its way by another pull: waiting for that"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Downloads and unpacks a layer, a second time if other bytes came than were asked for. The `turn` is over when all
    /// bytes are there.
    async fn fetch_one(
        &self,
        name: &str,
        layer: &Layer,
        partial: &Arc<Partial>,
        turn: SemaphorePermit<'_>,
    ) -> Result<()> {
        let wrong = |fetched: &Result<_>| {
            fetched
                .as_ref()
                .is_err_and(anyhow::Error::is::<WrongDigest>)
        };
        let mut fetched = self.attempt(name, layer, partial, Some(turn)).await;
        if wrong(&fetched) {
            // A fault on the way may be gone; a registry that holds other bytes sends them again.
            partial.clear()?;
            self.client.distrust_mirrors();
            let again = format!("{name}-again");
            fetched = self.attempt(&again, layer, partial, None).await;
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
        turn: Option<SemaphorePermit<'_>>,
    ) -> Result<()> {
        let segments = download::resume(partial, layer.size)?;
        let arriving = Arc::new(Arriving::new(
            Arc::clone(partial),
            layer.size,
            segments.clone(),
        ));
        let _stop = Stop(&arriving);
        let download = async {
            self.download(layer, partial, &arriving, &segments).await?;
            drop(turn);
            Ok(())
        };
        let ((), skipped) =
            tokio::try_join!(download, self.unpack(name, layer, &arriving, partial))?;
        for note in &skipped {
            let id = layer.digest.short();
            (self.events)(Event::Note(format!("layer {id}: left out: {note}")));
        }
        Ok(())
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

    /// Unpacks what arrives and publishes it if its bytes are right, in a thread of its own; returns what was left out.
    async fn unpack(
        &self,
        name: &str,
        layer: &Layer,
        arriving: &Arc<Arriving>,
        partial: &Arc<Partial>,
    ) -> Result<BTreeSet<Skipped>> {
        let _permit = self
            .unpackers
            .acquire()
            .await
            .context("the pull has ended")?;
        let mut reader = Reader::new(Arc::clone(arriving), layer.digest.algorithm());
        let options = unpack::Options {
            limits: self.unpacking.limits.of_compressed(layer.size),
            ..self.unpacking.clone()
        };
        let Layer {
            digest, diff_id, ..
        } = layer.clone();
        let (stage, name) = (Arc::clone(self.stage), name.to_owned());
        let partial = Arc::clone(partial);
        let unpacked = pull::aside(self.store, move |store, _| {
            let unpacked = layer::unpack(&stage, &name, &mut reader, &options);
            let unpacked = verify(unpacked, reader, digest.clone())?;
            let skipped = layer::publish(store, &stage, name, diff_id, unpacked, &digest)?;
            partial.remove()?;
            Ok(skipped)
        });
        unpacked.await
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
