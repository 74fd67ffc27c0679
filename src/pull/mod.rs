//! Pulling: from a registry into the store.

mod arriving;
mod download;
mod event;
mod layers;
mod question;
mod resolve;
mod retry;
mod room;

pub(crate) use event::{Event, LayerId, LayerState, Pulled};
pub(crate) use question::{manifest, tags};
pub(crate) use retry::Retry;

use crate::image;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Access, Client, Notice};
use crate::store::{Segments, Store};
use crate::unpack;
use anyhow::{Context, Result};
use layers::{Partials, Plan};
use resolve::Resolved;
use std::io::Write as _;
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

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
    /// Connections to the registry at once.
    pub(crate) jobs: usize,
    pub(crate) retry: Retry,
}

/// Layers that are unpacked at once. Each computes on two threads and has some 10 MB of memory: usual zstd streams
/// need a window of 8 MiB.
const UNPACKERS: usize = 3;

/// How long what arrived of a blob waits for the pull to be repeated.
const FORGOTTEN: Duration = Duration::from_hours(7 * 24);

/// Pulls an image, and tells `events` how it goes.
///
/// What was here already is not fetched again, and what arrives becomes visible all at once, verified.
/// Runs inside the user namespace that owns the store's files, if there is one. From here on the
/// process has several threads. An error with [`Stopped`] says that the user ended it.
pub(crate) fn pull(store: &Store, request: &Request<'_>, events: &dyn Fn(Event)) -> Result<Pulled> {
    let runtime = runtime()?;
    let attempt = || attempt(&runtime, store, request, events);
    let pulled = retry::repeat(&runtime, request.retry, events, attempt);
    if pulled.is_ok() {
        store.sweep_partials(FORGOTTEN)?;
    }
    // A look-up of a name cannot be stopped, and need not be waited for.
    runtime.shutdown_background();
    pulled
}

/// Pulls once.
fn attempt(
    runtime: &Runtime,
    store: &Store,
    request: &Request<'_>,
    events: &dyn Fn(Event),
) -> Result<Pulled> {
    let Request {
        reference,
        platform,
        access,
        unpacking,
        jobs,
        ..
    } = *request;
    let notify = notify(events);
    let client = Client::new(reference, access, &notify)?;
    let resolving = resolve::resolve(store, &client, reference, platform);
    let resolved = run(runtime, resolving)?;
    // First the lease, then the look at what is there: so nothing that was seen goes meanwhile.
    let _lease = store.lease(&resolved.needed())?;
    let (plan, partials) = run(runtime, missing(store, &resolved, events))?;
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
        room::check(store, &plan.missing, &partials, events)?;
        let stage = store.stage()?;
        let (connections, unpackers) = (Semaphore::new(jobs), Semaphore::new(UNPACKERS));
        let staged = thread::scope(|scope| {
            let work = layers::Work {
                client: &client,
                stage: &stage,
                unpacking,
                events,
                partials: &partials,
                connections: &connections,
                unpackers: &unpackers,
                scope,
            };
            run(runtime, work.fetch(&plan))
        });
        let staged = staged.inspect_err(|error| {
            if layers::may_pass(error) {
                tell_kept(&partials, events);
            }
        })?;
        image::publish(store, stage, resolved.fetched(reference, staged))?;
        for partial in partials.values() {
            partial.remove()?;
        }
    }
    Ok(pulled)
}

/// Looks which layers are missing and takes them for us alone; what another process has is waited for, and is
/// then most likely here.
async fn missing(
    store: &Store,
    resolved: &Resolved,
    events: &dyn Fn(Event),
) -> Result<(Plan, Partials)> {
    let plan = layers::plan(store, &resolved.layers)?;
    let partials = layers::take(store, &plan.missing, events).await?;
    for (digest, bytes) in &resolved.inline {
        if let Some(partial) = partials.get(digest) {
            partial.clear()?;
            partial.append(0)?.write_all(bytes)?;
        }
    }
    Ok((layers::plan(store, &resolved.layers)?, partials))
}

/// Tells how much of the layers waits for the next try.
fn tell_kept(partials: &Partials, events: &dyn Fn(Event)) {
    let segments = partials
        .values()
        .filter_map(|partial| partial.segments().ok());
    let kept: u64 = segments.flat_map(Segments::into_values).sum();
    if kept > 0 {
        events(Event::Kept(kept));
    }
}

/// Returns the only runtime in ddock. One thread is enough for the network; what computes has its own.
fn runtime() -> Result<Runtime> {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().context("starting the runtime")
}

/// Returns what makes events of a client's notices.
fn notify(events: &dyn Fn(Event)) -> impl Fn(Notice) {
    |notice| match notice {
        Notice::Waiting { why, wait } => events(Event::Waiting { why, wait }),
        notice => events(Event::Note(notice.to_string())),
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
