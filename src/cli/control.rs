//! `ddock stop`, `ddock kill` and `ddock wait`.

use crate::cli::failure::Refusal;
use crate::cli::run::invalid_signal;
use crate::cli::{failure, output};
use crate::container::{self, Record, Status};
use crate::engine::place;
use crate::monitor::{self, Outcome, Vanished};
use crate::options::Stop;
use crate::store::{NotFound, Store};
use crate::sys::signal;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// Seconds until it is killed; -1 is for ever [default: the container's, else 10]
    #[arg(short, long, alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Signal to send first [default: the container's, else TERM]
    #[arg(short, long)]
    signal: Option<String>,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArguments {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Asks containers to end, and kills those that do not; says the name of each as the user gave it.
pub(crate) fn stop(arguments: &StopArguments, root: &Path) -> Result<()> {
    let asked = arguments.signal.as_deref().map(number).transpose()?;
    let store = open(root)?;
    failure::each(&arguments.containers, |name| {
        let record = find(store.as_ref(), name)?;
        let stop = Stop {
            timeout: arguments.timeout.or(record.stop.timeout),
            ..record.stop.clone()
        };
        let (signal, grace) = (asked.unwrap_or(stop.number()), stop.grace());
        monitor::stop(&directory(store.as_ref(), &record)?, signal, grace)
            .with_context(|| format!("cannot stop container: {name}"))?;
        output::print(&format!("{name}\n"))
    })
}

/// Sends containers a signal; says the name of each as the user gave it.
pub(crate) fn kill(arguments: &KillArguments, root: &Path) -> Result<()> {
    let number = number(&arguments.signal)?;
    let store = open(root)?;
    failure::each(&arguments.containers, |name| {
        let record = find(store.as_ref(), name)?;
        let directory = directory(store.as_ref(), &record)?;
        let context = || format!("cannot kill container: {name}");
        let is_sent = if number == libc::SIGKILL {
            // Gone when this returns, as with Docker.
            monitor::stop(&directory, number, None).with_context(context)?
        } else {
            monitor::signal(&directory, number).with_context(context)?
        };
        if !is_sent {
            anyhow::bail!(
                "cannot kill container: {name}: container {} is not running",
                record.id
            );
        }
        output::print(&format!("{name}\n"))
    })
}

/// Waits until containers have ended, and prints the exit code of each.
pub(crate) fn wait(arguments: &WaitArguments, root: &Path) -> Result<()> {
    let store = open(root)?;
    failure::each(&arguments.containers, |name| {
        let record = find(store.as_ref(), name)?;
        let code = exit_code(store.as_ref(), &record)
            .with_context(|| format!("cannot wait for container: {name}"))?;
        output::print(&format!("{code}\n"))
    })
}

/// Returns the exit code of a container once it has ended: from its monitor, else from its record. Fails with [`Vanished`] if
/// nobody saw it.
fn exit_code(store: Option<&Store>, record: &Record) -> Result<u8> {
    if let Some(Outcome { status, .. }) = monitor::wait(&directory(store, record)?)? {
        return Ok(status.code());
    }
    let store = store.context("there is no store")?;
    // Nobody answers: it is starting, or ends just now, or its monitor died.
    store.wait_for_owner(&record.id)?;
    place::sweep(store, &failure::note);
    let status = match container::find(store, &record.id) {
        Err(error) if error.is::<NotFound>() => Status::Unknown,
        found => found?.status,
    };
    match status {
        Status::Exited { code, .. } => Ok(code),
        // It never ran, of which Docker says 0.
        Status::Starting | Status::Created => Ok(0),
        Status::Running { .. } | Status::Unknown => {
            Err(Vanished).context("nobody saw how the container ended")
        }
    }
}

pub(crate) fn number(text: &str) -> Result<i32, Refusal> {
    signal::parse(text).ok_or_else(|| invalid_signal(text).code(1))
}

/// Opens the store, if there is one; what dead monitors left is cleaned up first.
pub(crate) fn open(root: &Path) -> Result<Option<Store>> {
    let store = place::enter_existing(root)?;
    if let Some(store) = &store {
        place::sweep(store, &failure::note);
    }
    Ok(store)
}

pub(crate) fn find(store: Option<&Store>, name: &str) -> Result<Record> {
    match store {
        Some(store) => container::find(store, name),
        None => Err(NotFound::container(name).into()),
    }
}

pub(crate) fn directory(store: Option<&Store>, record: &Record) -> Result<std::path::PathBuf> {
    let store = store.context("there is no store")?;
    Ok(store.container_directory(&record.id))
}
