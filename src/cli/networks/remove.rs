//! `ddock network rm` and `prune`.

use crate::cli::failure;
use crate::cli::networks::PREDEFINED;
use crate::cli::prune_filter::PruneFilter;
use crate::cli::{output, prompt};
use crate::container::network_of;
use crate::engine;
use crate::engine::place;
use crate::fault::Kind;
use crate::network;
use crate::store::{ActiveEndpoints, NetworkRecord, NotFound, Store};
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Pass over a network that is not there
    #[arg(short, long)]
    force: bool,
    /// Which networks: names, IDs or the beginnings of IDs
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only what fits: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME or until=DURATION
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<PruneFilter>,
}

/// Removes networks one after the other, saying the name of each as the user gave it.
pub(crate) fn remove(arguments: &RemoveArguments, root: &Path) -> Result<()> {
    let entered = place::enter_swept(root, &failure::note).context("cannot remove networks")?;
    failure::each(&arguments.networks, |text| {
        if PREDEFINED.iter().any(|(name, _)| name == text) {
            bail!("{text} is a pre-defined network and cannot be removed");
        }
        let removed = match &entered {
            Some((store, mapping)) => remove_one(store, mapping, text),
            None => Err(NotFound::network(text).into()),
        };
        match removed {
            // What is to be gone is gone.
            Err(error) if !(arguments.force && engine::blame(&error) == Kind::NotFound) => {
                Err(error)
            }
            _ => output::print(&format!("{text}\n")),
        }
    })
}

/// Removes all networks that no container is in.
pub(crate) fn prune(arguments: &PruneArguments, root: &Path) -> Result<()> {
    if !arguments.force {
        let warning = "This will remove all custom networks not used by at least one container.";
        prompt::confirm(warning, "network prune")?;
    }
    let mut removed = Vec::new();
    if let Some((store, mapping)) =
        place::enter_swept(root, &failure::note).context("cannot remove networks")?
    {
        let fits = |network: &NetworkRecord| {
            let mut filters = arguments.filter.iter();
            filters.all(|filter| filter.accepts(&network.labels, Some(network.created)))
        };
        removed = prune_unused(&store, &mapping, fits).context("cannot remove networks")?;
    }
    if removed.is_empty() {
        return Ok(());
    }
    output::print(&format!("Deleted Networks:\n{}\n\n", removed.join("\n")))
}

/// Removes the networks that fit and that no container is in, and returns their names.
fn prune_unused(
    store: &Store,
    mapping: &Mapping,
    fits: impl Fn(&NetworkRecord) -> bool,
) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for network in store.networks()?.into_iter().filter(fits) {
        match remove_one(store, mapping, &network.name) {
            Ok(()) => removed.push(network.name),
            // Removed, or taken by a container.
            Err(error) if error.is::<NotFound>() || error.is::<ActiveEndpoints>() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn remove_one(store: &Store, mapping: &Mapping, text: &str) -> Result<()> {
    // An ordinary user's networks are nothing outside of his containers.
    let lock = mapping.is_root().then(network::Lock::take).transpose()?;
    store.remove_network(text, |network| match &lock {
        Some(lock) => network_of(network).unmake(lock),
        None => Ok(()),
    })
}
