//! `ddock network rm` and `prune`.

use crate::cli::failure;
use crate::cli::networks::PREDEFINED;
use crate::cli::networks::list::has_label;
use crate::cli::{output, prompt};
use crate::container::network_of;
use crate::engine;
use crate::engine::place;
use crate::fault::Kind;
use crate::human;
use crate::network;
use crate::store::{ActiveEndpoints, NetworkRecord, NotFound, Store};
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use std::path::Path;
use std::str::FromStr;

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
    filter: Vec<Filter>,
}

/// One `--filter` of `prune`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Whether it is to have the label, its key, and its value.
    Label(bool, String, Option<String>),
    Until(DateTime<Utc>),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        match key {
            "label" | "label!" => {
                let (name, value) = match value.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (value, None),
                };
                Ok(Self::Label(key == "label", name.to_owned(), value))
            }
            "until" => until(value)
                .map(Self::Until)
                .ok_or_else(|| format!("`{value}` is neither a time nor a duration such as `24h`")),
            _ => Err(format!("there is no filter `{key}`")),
        }
    }
}

fn until(text: &str) -> Option<DateTime<Utc>> {
    if let Some(ago) = human::parse_duration(text) {
        return Utc::now().checked_sub_signed(TimeDelta::from_std(ago).ok()?);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    DateTime::from_timestamp(text.parse().ok()?, 0)
}

impl Filter {
    fn accepts(&self, network: &NetworkRecord) -> bool {
        match self {
            Self::Label(wanted, key, value) => {
                has_label(&network.labels, key, value.as_deref()) == *wanted
            }
            Self::Until(time) => network.created < *time,
        }
    }
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
        let fits = |network: &NetworkRecord| arguments.filter.iter().all(|it| it.accepts(network));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn filters_are_dockers() {
        let network = NetworkRecord {
            id: "ab".repeat(32),
            name: "net".to_owned(),
            created: Utc::now(),
            pools: Vec::new(),
            internal: false,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            options: BTreeMap::new(),
        };
        for (text, expected) in [
            ("label=a", true),
            ("label=a=b", true),
            ("label=a=c", false),
            ("label!=a", false),
            ("label!=a=c", true),
            ("label!=b", true),
            ("until=1h", false),
            ("until=2100-01-01T00:00:00Z", true),
            ("until=1000000000", false),
        ] {
            let filter: Filter = text.parse().unwrap();
            assert_eq!(filter.accepts(&network), expected, "{text}");
        }
        for text in ["label", "until=x", "bogus=1"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
