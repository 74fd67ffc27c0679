//! Pulling: from a registry into the store.

mod event;
mod layers;
mod pieces;
mod resolve;

pub(crate) use event::{Event, LayerId, LayerState, Pulled};

use crate::image;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Access, Client, Notice};
use crate::store::Store;
use crate::unpack;
use anyhow::{Context, Result};
use std::thread;
use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// A signal ended the pull. Nothing of it is left.
#[derive(Debug, Error)]
#[error("stopped by signal {signal}")]
pub(crate) struct Stopped {
    pub(crate) signal: i32,
}

impl Stopped {
    /// Returns the exit code of a process that this signal ends, as shells have it.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.signal).expect("signals are below 128")
    }
}

/// What to pull, and how.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) reference: &'a Reference,
    /// This machine's own if there is none.
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) access: &'a Access,
    pub(crate) unpacking: &'a unpack::Options,
}

/// Pulls an image, and tells `events` how it goes.
///
/// What was here already is not fetched again, and what arrives becomes visible all at once, verified.
/// Runs inside the user namespace that owns the store's files, if there is one. From here on the
/// process has several threads. An error with [`Stopped`] says that the user ended it.
pub(crate) fn pull(store: &Store, request: &Request<'_>, events: &dyn Fn(Event)) -> Result<Pulled> {
    let Request {
        reference,
        platform,
        access,
        unpacking,
    } = *request;
    // The only runtime in ddock. One thread is enough for the network; what computes has its own.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let notify = |notice| events(told(notice, reference));
    let client = Client::new(reference, access, &notify)?;
    let resolving = resolve::resolve(store, &client, reference, platform);
    let pulled = run(&runtime, resolving).and_then(|resolved| {
        // First the lease, then the look at what is there: so nothing that was seen goes meanwhile.
        let _lease = store.lease(&resolved.needed())?;
        let plan = layers::plan(store, &resolved.layers)?;
        let pulled = Pulled {
            reference: reference.clone(),
            digest: resolved.repo_digest.clone(),
            image: resolved.image.clone(),
            newer: !(plan.missing.is_empty() && resolved.is_out(store, reference)?),
        };
        if pulled.newer {
            events(Event::Started {
                reference: reference.clone(),
                layers: plan.all.clone(),
            });
            let stage = store.stage()?;
            let staged = thread::scope(|scope| {
                let work = layers::Work {
                    client: &client,
                    stage: &stage,
                    unpacking,
                    events,
                    scope,
                };
                run(&runtime, work.fetch(&plan))
            })?;
            let fetched = image::Fetched {
                reference: reference.clone(),
                repo_digest: resolved.repo_digest,
                manifest: resolved.manifest,
                image: resolved.image,
                config: resolved.config,
                layers: resolved.layers,
                staged,
                blobs: resolved.blobs,
            };
            image::publish(store, stage, fetched)?;
        }
        Ok(pulled)
    });
    // A look-up of a name cannot be stopped, and need not be waited for.
    runtime.shutdown_background();
    pulled
}

/// Returns what the user is told of a notice of the registry's.
fn told(notice: Notice, reference: &Reference) -> Event {
    match notice {
        Notice::Waiting { why, wait } => Event::Waiting { why, wait },
        Notice::MirrorFailed { mirror, why } => {
            Event::Note(format!("mirror `{mirror}` is passed over: {why}"))
        }
        Notice::ResolvedByMirror { mirror } => {
            let tag = reference.tag().unwrap_or_default();
            Event::Note(format!("what `{tag}` names was told by mirror `{mirror}`"))
        }
    }
}

/// Runs `work` to its end, or until a signal asks us to stop.
fn run<T>(runtime: &Runtime, work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let stopped = |kind: SignalKind| {
            let signal = kind.as_raw_value();
            Err(Stopped { signal }.into())
        };
        tokio::select! {
            biased;
            _ = interrupt.recv() => stopped(SignalKind::interrupt()),
            _ = terminate.recv() => stopped(SignalKind::terminate()),
            _ = hang_up.recv() => stopped(SignalKind::hangup()),
            result = work => result,
        }
    })
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
