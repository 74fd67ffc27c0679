//! The containers of an ordinary user that are in networks of his: they all live in one user namespace, in which what
//! holds the networks is theirs.

use crate::container::{self, Status};
use crate::monitor;
use crate::network::Switch;
use crate::runtime::Donor;
use crate::store::{NotFound, Store};
use anyhow::Result;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Those that run, and the lock by which nobody else looks for them meanwhile.
pub(super) struct Peers {
    lock: OwnedFd,
    members: Vec<(Donor, PathBuf)>,
}

impl Peers {
    /// Finds those of the store at `root`; waits for whoever is about to be one.
    pub(super) fn find(root: &Path, mapping: &str, network: &str) -> Result<Self> {
        if !Store::exists(root)? {
            return Err(NotFound::network(network).into());
        }
        let store = Store::open(root, mapping)?;
        store.network(network)?;
        let lock = store.lock_switch()?;
        let mut members = Vec::new();
        for record in container::records(&store)? {
            let Status::Running {
                pid, start_time, ..
            } = record.status
            else {
                continue;
            };
            if !record.holds_switch {
                continue;
            }
            let directory = store.container_directory(&record.id);
            let held = Donor::hold(pid, start_time)?;
            members.extend(held.map(|held| (held, directory)));
        }
        Ok(Self { lock, members })
    }

    /// Returns a process in their user namespace; none if none of them runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.members.first().map(|(donor, _)| donor.pid())
    }

    /// Returns what holds their networks, made if nobody has it, and the lock. This process is in their user namespace.
    pub(super) fn switch(self) -> Result<(Switch, OwnedFd)> {
        for (_, directory) in &self.members {
            // One that is about to end may have let it go.
            if let Some(switch) = monitor::switch(directory)? {
                return Ok((switch, self.lock));
            }
        }
        Ok((Switch::make()?, self.lock))
    }
}
