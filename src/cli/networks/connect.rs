//! `ddock network connect` and `disconnect`.

use crate::cli::failure::Refusal;
use crate::cli::networks::PREDEFINED;
use crate::cli::output;
use crate::container::{self, Record, Status};
use crate::engine::place;
use crate::monitor::{self, Change};
use crate::network;
use crate::options::{address4, address6, alias};
use crate::store::{NotFound, Store};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct ConnectArguments {
    /// Its IPv4 address there
    #[arg(long, value_name = "ADDRESS", value_parser = address4)]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long, value_name = "ADDRESS", value_parser = address6)]
    ip6: Option<Ipv6Addr>,
    /// Another name that it has there
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = alias)]
    alias: Vec<String>,
    /// Which network: its name, its ID or the beginning of that
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Which container: its name, its ID or the beginning of that
    #[arg(value_name = "CONTAINER")]
    container: String,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectArguments {
    /// Pass over a container that is not in the network, or not there
    #[arg(short, long)]
    force: bool,
    /// Which network: its name, its ID or the beginning of that
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Which container: its name, its ID or the beginning of that
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Docker's words.
const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
const PRIVATE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
const HOST: &str =
    "container cannot be disconnected from host network or connected to host network";

/// What an ordinary user cannot change while a container runs.
const WAY_OUT: &str = "`bridge` is `pasta` or `slirp4netns` for an ordinary user's containers, and nothing that they are connected to or disconnected from";

/// Connects a container that runs to a network.
pub(crate) fn connect(arguments: &ConnectArguments, root: &Path) -> Result<()> {
    let aliases = arguments.alias.clone();
    let context = || {
        let (container, network) = (&arguments.container, &arguments.network);
        format!("cannot connect `{container}` to `{network}`")
    };
    let found = find(root, &arguments.network, &arguments.container).with_context(context)?;
    let Found {
        store,
        is_users,
        network,
        record,
    } = found;
    if network == network::DEFAULT && !aliases.is_empty() {
        return Err(Refusal::new(
            "network-scoped alias is supported only for containers in user defined networks",
        )
        .code(1)
        .into());
    }
    if network == network::DEFAULT && (arguments.ip.is_some() || arguments.ip6.is_some()) {
        return Err(Refusal::new(
            "user specified IP address is supported on user defined networks only",
        )
        .code(1)
        .into());
    }
    let change = Change::Connect {
        network,
        address: arguments.ip,
        address6: arguments.ip6,
        aliases,
    };
    make(&store, &record, is_users, change).with_context(context)
}

/// Disconnects a container that runs from a network.
pub(crate) fn disconnect(arguments: &DisconnectArguments, root: &Path) -> Result<()> {
    let context = || {
        let (container, network) = (&arguments.container, &arguments.network);
        format!("cannot disconnect `{container}` from `{network}`")
    };
    let found = match find(root, &arguments.network, &arguments.container) {
        Err(error) if arguments.force && error.is::<NotFound>() => return Ok(()),
        found => found.with_context(context)?,
    };
    let Found {
        store,
        is_users,
        network,
        record,
    } = found;
    if !record.networks.iter().any(|it| it.network == network) {
        if arguments.force {
            return Ok(());
        }
        bail!(
            "container {} is not connected to network {network}",
            record.id
        );
    }
    make(&store, &record, is_users, Change::Disconnect { network }).with_context(context)
}

/// What a change is about.
struct Found {
    store: Store,
    /// They are an ordinary user's.
    is_users: bool,
    /// The network's name.
    network: String,
    record: Record,
}

fn find(root: &Path, network: &str, container: &str) -> Result<Found> {
    let Some((store, mapping)) = place::enter_existing_mapped(root)? else {
        return Err(NotFound::container(container).into());
    };
    let network = match network {
        "host" => bail!(HOST),
        "none" => bail!(PRIVATE),
        name if PREDEFINED.iter().any(|(it, _)| *it == name) => name.to_owned(),
        text => store.network(text)?.name,
    };
    let record = container::find(&store, container)?;
    let is_users = !mapping.is_root();
    if is_users && network == network::DEFAULT {
        bail!(WAY_OUT);
    }
    Ok(Found {
        store,
        is_users,
        network,
        record,
    })
}

/// Has the container's monitor make the change.
fn make(store: &Store, record: &Record, is_users: bool, change: Change) -> Result<()> {
    let directory = store.container_directory(&record.id);
    let not_running = || {
        format!(
            "container {} is not running, and only what runs has networks",
            record.id
        )
    };
    if !matches!(record.status, Status::Running { .. }) {
        bail!(not_running());
    }
    if record.networks.is_empty() {
        refuse_mode(&directory)?;
    }
    if is_users && !record.holds_switch {
        bail!(
            "container {} is in a user namespace of its own, not in that of your networks: it has to be started with `run --network NAME`",
            record.id
        );
    }
    let notes = monitor::change(&directory, change)?.with_context(not_running)?;
    for note in notes {
        output::tell(&format!("ddock: {note}\n"));
    }
    Ok(())
}

/// Refuses containers whose network is not theirs, or who said that they want none.
fn refuse_mode(directory: &Path) -> Result<()> {
    let config: Value = serde_json::from_slice(&fs_err::read(directory.join("config.json"))?)
        .context("reading the container's config.json")?;
    let namespaces = config["linux"]["namespaces"].as_array();
    let mut namespaces = namespaces.into_iter().flatten();
    let own = namespaces.find(|it| it["type"] == "network");
    if own.is_none_or(|own| !own["path"].is_null()) {
        bail!(SHARED);
    }
    Ok(())
}
