//! `ddock network create`, `ls`, `inspect`, `rm`, `prune`, `connect` and `disconnect`.

mod connect;
mod create;
mod describe;
mod list;
mod remove;

pub(crate) use connect::{ConnectArguments, DisconnectArguments, connect, disconnect};
pub(crate) use create::{CreateArguments, create};
pub(crate) use describe::{InspectArguments, inspect, look_up};
pub(crate) use list::{ListArguments, list};
pub(crate) use remove::{PruneArguments, RemoveArguments, prune, remove};

use crate::digest::Digest;
use crate::store::NetworkRecord;
use chrono::{DateTime, Utc};

/// Docker's names of networks that are always there, and their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// A network as lists and descriptions have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    id: String,
    name: String,
    driver: &'static str,
    /// None for those that are always there.
    record: Option<NetworkRecord>,
}

impl View {
    fn created(&self) -> DateTime<Utc> {
        let created = self.record.as_ref().map(|record| record.created);
        created.unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// Returns all networks by name: those that are always there have IDs that are always the same.
fn all(defined: Vec<NetworkRecord>) -> Vec<View> {
    let predefined = PREDEFINED.iter().map(|(name, driver)| View {
        id: predefined_id(name),
        name: (*name).to_owned(),
        driver,
        record: None,
    });
    let defined = defined.into_iter().map(|record| View {
        id: record.id.clone(),
        name: record.name.clone(),
        driver: "bridge",
        record: Some(record),
    });
    let mut views: Vec<View> = predefined.chain(defined).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

/// Returns an ID of a container's place in a network, which is always the same.
pub(crate) fn endpoint_id(network: &str, container: &str) -> String {
    let both = format!("{network} {container}");
    Digest::of(both.as_bytes()).hex().to_owned()
}

/// Returns the ID of a network that is always there.
pub(crate) fn predefined_id(name: &str) -> String {
    Digest::of(name.as_bytes()).hex().to_owned()
}
