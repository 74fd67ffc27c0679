//! `ddock ps` and `ddock rm`.

mod filter;
mod list;

pub(crate) use list::{ListArguments, image, list, state};

use crate::cli::{failure, output};
use crate::container::{self, AskToKill, Volumes};
use crate::engine;
use crate::engine::place;
use crate::fault::Kind;
use crate::monitor;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Kill a container that runs; pass over one that is not there
    #[arg(short, long)]
    force: bool,
    /// Remove all containers
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
    /// Remove the container's anonymous volumes with it
    #[arg(short, long)]
    volumes: bool,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,
}

/// Removes containers one after the other, saying the name of each as the user gave it.
pub(crate) fn remove(arguments: &RemoveArguments, root: &Path) -> Result<()> {
    let (store, _) = place::enter(root).context("cannot remove containers")?;
    let names = if arguments.all {
        place::sweep(&store, &failure::note);
        let all = container::list(&store).context("cannot remove containers")?;
        all.into_iter().map(|container| container.id).collect()
    } else {
        arguments.containers.clone()
    };
    let volumes = if arguments.volumes {
        Volumes::Removed
    } else {
        Volumes::Kept
    };
    let force = arguments.force.then_some(monitor::kill as AskToKill);
    failure::each(names, |name| {
        let removed = container::find(&store, &name)
            .and_then(|record| container::remove(&store, &record, force, volumes));
        match removed {
            // What is to be gone is gone.
            Err(error) if arguments.force && engine::blame(&error) == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => output::print(&format!("{name}\n")),
        }
    })
}
