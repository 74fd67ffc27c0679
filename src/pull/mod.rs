//! Pulling: from a registry into the store.

mod arriving;
mod download;
mod event;
mod indexes;
mod layers;
mod plan;
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
use crate::store::{Partial, Segments, Store, Went};
use crate::sys::kernel;
use crate::unpack;
use anyhow::{Context, Result, ensure};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// A signal ended the pull. What arrived is kept for the next one.
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

/// How long a pull that was stopped waits for its threads to clean up: the next operation does what is left of that. The
/// user waits no longer than a second.
const LEAVE: Duration = Duration::from_millis(600);

/// How long a pull that failed does.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// How often a pull begins anew because another operation found something damaged that it had found whole.
const ANEW: usize = 5;

/// Pulls an image, and tells `events` how it goes.
///
/// What was here already is not fetched again, and the image becomes visible all at once, verified.
/// Runs inside the user namespace that owns the store's files, if there is one. From here on the
/// process has several threads. An error with [`Stopped`] says that the user ended it.
pub(crate) fn pull(store: &Store, request: &Request<'_>, events: &dyn Fn(Event)) -> Result<Pulled> {
    // Its threads come and go.
    kernel::give_large_blocks_back();
    let runtime = runtime()?;
    let arrived = Arrived::default();
    let attempt = || anew(store, request, events, &arrived);
    let pulled = run(&runtime, retry::repeat(request.retry, events, attempt));
    if let Err(error) = &pulled
        && layers::may_pass(error)
    {
        tell_kept(&arrived, events);
    }
    arrived.partials.take();
    match &pulled {
        // A look-up of a name cannot be stopped, and need not be waited for.
        Ok(_) => runtime.shutdown_background(),
        Err(error) if error.is::<Stopped>() => runtime.shutdown_timeout(LEAVE),
        Err(error) => {
            runtime.shutdown_timeout(CLEAN_UP);
            if arrived.began.get() && !layers::may_pass(error) {
                // Of no use without the image. The error to tell is the first one.
                store.sweep().ok();
            }
        }
    }
    pulled
}

/// Pulls once, or again if what was found here went meanwhile.
async fn anew(
    store: &Store,
    request: &Request<'_>,
    events: &dyn Fn(Event),
    arrived: &Arrived,
) -> Result<Pulled> {
    for _ in 0..ANEW {
        match attempt(store, request, events, arrived).await {
            Err(error) if error.is::<Went>() => {}
            ended => return ended,
        }
    }
    attempt(store, request, events, arrived).await
}

/// Pulls once.
async fn attempt(
    store: &Store,
    request: &Request<'_>,
    events: &dyn Fn(Event),
    arrived: &Arrived,
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
    let resolved = resolve::resolve(store, &client, reference, platform).await?;
    // First the lease, then the look at what is there: so nothing that was seen goes meanwhile.
    let lease = aside(store, {
        let needed = resolved.needed();
        move |store, _| store.lease(&needed)
    });
    let lease = lease.await?;
    let plan = plan::plan(store, &resolved.layers)?;
    let pulled = Pulled {
        reference: reference.clone(),
        digest: resolved.repo_digest.clone(),
        image: resolved.image.clone(),
        newer: !(plan.missing.is_empty() && resolved.is_out(store, reference)),
    };
    if pulled.newer {
        events(Event::Started {
            reference: reference.clone(),
            layers: plan.all.clone(),
        });
        room::check(store, &plan.missing, events)?;
        let stage = Arc::new(aside(store, |store, _| store.stage()).await?);
        let work = layers::Work {
            client: &client,
            store,
            stage: &stage,
            unpacking,
            events,
            arrived,
            inline: &resolved.inline,
            turns: &Semaphore::new(jobs),
            connections: &Semaphore::new(jobs),
            unpackers: &Semaphore::new(UNPACKERS),
        };
        work.fetch(&plan).await?;
        let stage = Arc::into_inner(stage).context("all layers have arrived")?;
        let fetched = resolved.fetched(reference);
        aside(store, move |store, wanted| {
            // Nothing of it goes before this is done, whether somebody waits for it or not.
            let _lease = lease;
            image::publish(store, stage, fetched, wanted)
        })
        .await?;
    }
    aside(store, |store, _| store.sweep_partials(FORGOTTEN)).await?;
    Ok(pulled)
}

/// What came of an image's layers, for the next pull if this one fails.
#[derive(Default)]
struct Arrived {
    /// The blobs that are being fetched, ours alone.
    partials: RefCell<BTreeMap<LayerId, Arc<Partial>>>,
    /// Compressed bytes of the layers that are in the store now.
    layers: Cell<u64>,
    /// One may be there.
    began: Cell<bool>,
}

/// Tells how much of the layers waits for the next try.
fn tell_kept(arrived: &Arrived, events: &dyn Fn(Event)) {
    let partials = arrived.partials.borrow();
    let segments = partials
        .values()
        .filter_map(|partial| partial.segments().ok());
    let kept: u64 = segments.flat_map(Segments::into_values).sum();
    let kept = kept + arrived.layers.get();
    if kept > 0 {
        events(Event::Kept(kept));
    }
}

/// Returns the only runtime in ddock. One thread is enough for the network; what computes has its own.
fn runtime() -> Result<Runtime> {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().context("starting the runtime")
}

/// Fails when nobody waits any more for what is being done.
type Wanted<'a> = &'a dyn Fn() -> Result<()>;

/// Does what computes, or waits for a lock or the disk, in a thread of its own: so a signal is heard meanwhile.
async fn aside<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store, Wanted<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    /// Says so when the one who waits goes.
    struct Waiting(Arc<AtomicBool>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    let waiting = Waiting(Arc::new(AtomicBool::new(true)));
    let (store, is_wanted) = (store.clone(), Arc::clone(&waiting.0));
    let work = move || {
        work(&store, &|| {
            ensure!(is_wanted.load(Ordering::Relaxed), "the pull has ended");
            Ok(())
        })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(error).context("the pull has ended"),
    }
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
