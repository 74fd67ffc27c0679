//! What containers need of the store: lists of their own, and the record once more, because only that is on disk for sure.
//!
//! After a power cut a list may be empty; anything may have damaged it. Then the record says what was in it, and if that is
//! damaged too, the container may need everything: nothing goes that it may have until it is gone itself.

use crate::digest::Digest;
use crate::store::lock::{Exclusive, digests_in};
use crate::store::objects::read_if_there;
use crate::store::{Store, VolumeName, layout};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A volume that a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsedVolume {
    pub(crate) name: VolumeName,
    /// Goes with the container, as far as that takes its volumes along.
    #[serde(default)]
    pub(crate) anonymous: bool,
}

/// What of a container's record tells what it needs.
#[derive(Default, Deserialize)]
struct Needs {
    holds: Option<Vec<Digest>>,
    volumes: Option<Vec<UsedVolume>>,
    /// Then it needs no image.
    rootfs: Option<serde::de::IgnoredAny>,
}

impl Needs {
    /// Returns what the record of the container in `directory` says: nothing if it cannot be read.
    fn recorded(directory: &Path) -> Self {
        // A record that is damaged says nothing, and that is all there is to know here.
        let state = read_if_there(&layout::container_state(directory));
        let state = state.ok().flatten().unwrap_or_default();
        serde_json::from_slice(&state).unwrap_or_default()
    }
}

/// The volumes that containers use.
pub(crate) struct VolumeUsers {
    /// `None`: any, as nobody can tell.
    by_container: HashMap<String, Option<Vec<UsedVolume>>>,
    /// Those of which somebody looked after when they were asked.
    owned: Vec<String>,
}

impl VolumeUsers {
    /// Returns the volumes that are known to be used, each with the IDs of the containers.
    fn known(&self) -> BTreeMap<&VolumeName, Vec<&str>> {
        let mut users: BTreeMap<&VolumeName, Vec<&str>> = BTreeMap::new();
        for (container, volumes) in &self.by_container {
            for volume in volumes.iter().flatten() {
                users.entry(&volume.name).or_default().push(container);
            }
        }
        users
    }

    /// Returns the IDs of the containers that use the volume, or may use it.
    pub(crate) fn of(&self, name: &VolumeName) -> Vec<String> {
        let has_it = |volumes: &Option<Vec<UsedVolume>>| {
            let volumes = volumes.as_ref();
            volumes.is_none_or(|volumes| volumes.iter().any(|volume| volume.name == *name))
        };
        let users = self
            .by_container
            .iter()
            .filter(|(_, volumes)| has_it(volumes));
        let mut users: Vec<String> = users.map(|(container, _)| container.clone()).collect();
        users.sort();
        users
    }

    /// Returns those of `names` that no container uses nor may use.
    pub(crate) fn unused<'a>(
        &self,
        names: impl Iterator<Item = &'a VolumeName>,
    ) -> Vec<VolumeName> {
        if self.by_container.values().any(Option::is_none) {
            return Vec::new();
        }
        let known = self.known();
        names
            .filter(|name| !known.contains_key(name))
            .cloned()
            .collect()
    }
}

impl Store {
    /// Returns the digests of what container `id` needs; `None` if nobody can tell.
    pub(super) fn holds(&self, id: &str) -> Option<Vec<Digest>> {
        let directory = self.layout.container(id);
        let list = match read_if_there(&layout::container_holds(&directory)) {
            // It is written with the directory: this one is being made or being removed, or somebody took it away.
            Ok(None) if !layout::container_config(&directory).exists() => return Some(Vec::new()),
            list => list.ok().flatten().unwrap_or_default(),
        };
        let listed = digests_in(&list);
        if !listed.is_empty() {
            return Some(listed);
        }
        let needs = Needs::recorded(&directory);
        needs.holds.or_else(|| needs.rootfs.map(|_| Vec::new()))
    }

    /// Returns the volumes of a container; `None` if nobody can tell. A line that is none is a newer ddock's.
    pub(super) fn uses(&self, id: &str) -> Option<Vec<UsedVolume>> {
        let directory = self.layout.container(id);
        let list = match read_if_there(&layout::container_volumes(&directory)) {
            // Then it uses none, unless somebody took the list away.
            Ok(None) => return Some(Needs::recorded(&directory).volumes.unwrap_or_default()),
            list => list.ok().flatten().unwrap_or_default(),
        };
        let line = |line: &str| {
            let (word, name) = line.split_once(' ')?;
            let (name, anonymous) = (name.parse().ok()?, word == "anonymous");
            Some(UsedVolume { name, anonymous })
        };
        let list = String::from_utf8_lossy(&list);
        let listed: Vec<UsedVolume> = list.lines().filter_map(line).collect();
        if listed.is_empty() {
            Needs::recorded(&directory).volumes
        } else {
            Some(listed)
        }
    }

    /// Returns the names of those of a container's lists that cannot be read and that its record does not make up for.
    pub(crate) fn damaged_needs(&self, id: &str) -> Vec<&'static str> {
        let holds = self.holds(id).is_none().then_some("holds");
        let volumes = self.uses(id).is_none().then_some("volumes");
        holds.into_iter().chain(volumes).collect()
    }

    /// Asks all containers for their volumes.
    pub(crate) fn volume_users(&self) -> Result<VolumeUsers> {
        // First: who has no owner by now will use no more volumes than it does.
        let owned = self.owned()?;
        let ids = self.containers()?.into_iter();
        let by_container = ids
            .map(|id| (self.uses(&id), id))
            .map(|(uses, id)| (id, uses));
        Ok(VolumeUsers {
            by_container: by_container.collect(),
            owned,
        })
    }

    /// Asks those containers again that may have taken volumes since; from here on none can. So little is done under the
    /// lock, however many containers there are.
    pub(super) fn settle_users(&self, _: &Exclusive, users: &mut VolumeUsers) -> Result<()> {
        let ids = self.containers()?;
        let is_new = |id: &&String| !users.by_container.contains_key(*id);
        let mut again: Vec<String> = ids.iter().filter(is_new).cloned().collect();
        again.append(&mut users.owned);
        for id in again {
            users.by_container.insert(id.clone(), self.uses(&id));
        }
        Ok(())
    }
}
