//! Networks that users defined, and which containers are in them.
//!
//! A definition is a file and nothing else: what belongs to it in the kernel is made when a container first needs it. A
//! container says in its directory that it needs a network, with the store's lock held shared; who removes networks holds
//! that lock alone and asks all containers. So no network goes that is used.

use crate::store::lock::{lock, missing_is_fine, random_name};
use crate::store::objects::read_if_there;
use crate::store::owners::remove_damaged;
use crate::store::stage::{sync_directory, write_synced};
use crate::store::{NotFound, Store, Unreadable, layout, unique};
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use fs_err as fs;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use thiserror::Error;

/// The longest name, in bytes: with `.json` it is that of a file (`NAME_MAX`).
const LONGEST_NAME: usize = 250;

/// What is known of a network, as its file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    /// 64 hex digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: DateTime<Utc>,
    /// One of IPv4, then at most one of IPv6.
    pub(crate) pools: Vec<Pool>,
    /// Nothing leaves it.
    pub(crate) internal: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// `-o`, checked when the network was made.
    pub(crate) options: BTreeMap<String, String>,
}

/// Addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) subnet: IpNet,
    /// The host's own address.
    pub(crate) gateway: IpAddr,
    /// Where addresses are chosen from, if not everywhere.
    pub(crate) range: Option<IpNet>,
}

/// The name is taken. The words are Docker's.
#[derive(Debug, Error)]
#[error("network with name {0} already exists")]
pub(crate) struct NetworkExists(String);

/// A network that containers are in cannot be removed. The words are Docker's.
#[derive(Debug, Error)]
#[error("error while removing network: network {name} id {id} has active endpoints")]
pub(crate) struct ActiveEndpoints {
    name: String,
    id: String,
}

impl Store {
    /// Makes the network that `plan` decides on when it is told of all that there are, so that no two of them overlap.
    ///
    /// It is asked anew when another was made meanwhile: nobody waits at the store's lock for the disk.
    pub(crate) fn create_network(
        &self,
        name: &str,
        plan: impl Fn(&[NetworkRecord]) -> Result<NetworkRecord>,
    ) -> Result<NetworkRecord> {
        check_name(name)?;
        let path = self.layout.network(name);
        let stage = self.stage()?;
        loop {
            if path.exists() {
                return Err(NetworkExists(name.to_owned()).into());
            }
            let known = self.networks()?;
            let record = plan(&known)?;
            let text = serde_json::to_vec(&record).context("writing down the network")?;
            let written = stage.path(&random_name());
            write_synced(&written, &text)?;
            let exclusive = self.exclusive()?;
            if path.exists() || self.networks()? != known {
                continue;
            }
            // None in a store that was made before there were networks.
            match fs::create_dir(self.layout.networks()) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error.into());
                }
                _ => {}
            }
            fs::rename(written, &path)?;
            drop(exclusive);
            sync_directory(&self.layout.networks())?;
            return Ok(record);
        }
    }

    /// Returns all networks that somebody defined and whose definitions can be read, sorted by name.
    pub(crate) fn networks(&self) -> Result<Vec<NetworkRecord>> {
        Ok(self.readable_networks()?.0)
    }

    /// Returns what is wrong with the definitions of networks that cannot be read.
    pub(crate) fn damaged_networks(&self) -> Result<Vec<anyhow::Error>> {
        Ok(self.readable_networks()?.1)
    }

    fn readable_networks(&self) -> Result<(Vec<NetworkRecord>, Vec<anyhow::Error>)> {
        let (mut networks, mut damaged) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(self.layout.networks()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((networks, damaged));
            }
            other => other?,
        };
        for entry in entries {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
            match name.map(|name| self.named_network(name)) {
                Some(Ok(network)) => networks.extend(network),
                Some(Err(error)) => damaged.push(error),
                None => {}
            }
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((networks, damaged))
    }

    /// Finds a network by its name, its ID, or a prefix of that which no other has.
    pub(crate) fn network(&self, text: &str) -> Result<NetworkRecord> {
        if let Some(found) = self.named_network(text)? {
            return Ok(found);
        }
        let begins = |it: &NetworkRecord| !text.is_empty() && it.id.starts_with(text);
        unique(self.networks()?, text, begins)?.ok_or_else(|| NotFound::network(text).into())
    }

    fn named_network(&self, name: &str) -> Result<Option<NetworkRecord>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.layout.network(name);
        let bytes = match read_if_there(&path) {
            Ok(None) => return Ok(None),
            // What it is that cannot be read is no matter: there is one cure.
            read => read.ok().flatten().unwrap_or_default(),
        };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).with_context(|| Unreadable {
            what: format!(
                "the definition of network `{name}` is damaged: `{}`",
                path.display()
            ),
            cure: format!("`ddock network rm {name}` removes it, to be created again"),
        })
    }

    /// Takes the lock under which an ordinary user's containers find what holds their networks, or make it; there is a
    /// network.
    pub(crate) fn lock_switch(&self) -> Result<OwnedFd> {
        let path = self.layout.networks();
        let directory: OwnedFd = fs::File::open(&path)?.into_file().into();
        lock(&directory, &path).context("waiting for another container that is about to start")?;
        Ok(directory)
    }

    /// Puts the container into networks by name or ID, in addition to those it is in already; [`NotFound`] if one is not there.
    pub(crate) fn claim_networks(
        &self,
        container: &str,
        names: &[&str],
    ) -> Result<Vec<NetworkRecord>> {
        let _shared = self.shared()?;
        let found = names.iter().map(|name| self.network(name));
        let found: Vec<NetworkRecord> = found.collect::<Result<_>>()?;
        let mut ids = self.claimed(container);
        for network in &found {
            if !ids.contains(&network.id) {
                ids.push(network.id.clone());
            }
        }
        self.write_claims(container, &ids)?;
        Ok(found)
    }

    /// Takes the container out of one network, or out of all.
    pub(crate) fn release_networks(&self, container: &str, only: Option<&str>) -> Result<()> {
        self.leave_words(container, only)?;
        let mut ids = self.claimed(container);
        ids.retain(|id| only.is_some_and(|only| only != id));
        if ids.is_empty() {
            let path = layout::container_networks(&self.layout.container(container));
            return Ok(fs::remove_file(path).or_else(missing_is_fine)?);
        }
        self.write_claims(container, &ids)
    }

    /// Replaces the container's list, whole at any time: a remover may read it.
    fn write_claims(&self, container: &str, ids: &[String]) -> Result<()> {
        let path = layout::container_networks(&self.layout.container(container));
        let new = path.with_extension("new");
        fs::write(&new, ids.join("\n") + "\n")?;
        Ok(fs::rename(new, path)?)
    }

    fn claimed(&self, container: &str) -> Vec<String> {
        let path = layout::container_networks(&self.layout.container(container));
        // A list that is damaged names nothing: what the container is in is held by the kernel as long as it runs.
        let text = read_if_there(&path).ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the IDs of the networks that containers are in.
    pub(crate) fn networks_in_use(&self) -> Result<Vec<String>> {
        let mut used = Vec::new();
        for container in self.owned()? {
            used.extend(self.claimed(&container));
        }
        Ok(used)
    }

    /// Removes a network that no container is in: [`NotFound`] if it is not there, [`ActiveEndpoints`] if one is.
    ///
    /// `unmake` removes what belongs to it in the kernel, before the definition goes: who dies in between leaves a network
    /// that is made again when it is needed.
    pub(crate) fn remove_network(
        &self,
        text: &str,
        unmake: impl FnOnce(&NetworkRecord) -> Result<()>,
    ) -> Result<()> {
        let _exclusive = self.exclusive()?;
        let record = match self.network(text) {
            Err(error) if error.is::<Unreadable>() => return self.remove_damaged_network(text),
            found => found?,
        };
        if self.networks_in_use()?.contains(&record.id) {
            let NetworkRecord { name, id, .. } = record;
            return Err(ActiveEndpoints { name, id }.into());
        }
        unmake(&record)?;
        self.remove_words(&record.id)?;
        fs::remove_file(self.layout.network(&record.name)).or_else(missing_is_fine)?;
        Ok(())
    }
}

impl Store {
    /// Removes a definition that cannot be read. What was made of it in the kernel goes with the machine's next start.
    fn remove_damaged_network(&self, name: &str) -> Result<()> {
        let networks = self.networks()?;
        let is_known = |id: &String| networks.iter().any(|network| network.id == *id);
        // A network that a container is in and that is none of the others is this one.
        if let Some(id) = self.networks_in_use()?.into_iter().find(|id| !is_known(id)) {
            let name = name.to_owned();
            return Err(ActiveEndpoints { name, id }.into());
        }
        remove_damaged(&self.layout.network(name))
    }
}

/// A name is that of a file, and can be told from an option and in a list.
fn check_name(name: &str) -> Result<()> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    ensure!(
        name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(is_fine),
        "invalid network name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed"
    );
    ensure!(
        name.len() <= LONGEST_NAME,
        "a network's name has at most {LONGEST_NAME} characters"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_files_in_one_directory() {
        for name in ["a", "a_b.c-1", &"x".repeat(LONGEST_NAME)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "..", "a/b", "-a", "a b", "a\n", &"x".repeat(251)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
