//! A container's life as its record tells it: made, started, ended, and started again.

use crate::container::record::Status;
use crate::container::{Container, Durable, Volumes, reading, remove_all, sweep, write_end};
use crate::store::{NotFound, Store};
use anyhow::Result;
use chrono::Utc;

impl Container {
    /// Looks after a container that has ended, or never ran, to start it; none if somebody does so already.
    pub(crate) fn own(store: &Store, id: &str) -> Result<Option<Self>> {
        let Some(alive) = store.own_again(id)? else {
            return Ok(None);
        };
        let record = reading::read(store, id).ok_or_else(|| NotFound::container(id))?;
        Ok(Some(Self {
            store: store.clone(),
            directory: store.container_directory(id),
            record,
            _alive: alive,
        }))
    }

    /// Keeps a container that is to be started another time; nobody looks after it until then.
    pub(crate) fn created(&mut self) -> Result<()> {
        self.record.status = Status::Created;
        self.write(Durable::First)?;
        self.store.disown(&self.record.id)
    }

    /// Records that the command runs.
    pub(crate) fn started(&mut self, pid: u32, start_time: u64) -> Result<()> {
        let started = Utc::now();
        // Of one that is only now told of nothing is on disk for sure.
        let durable = match self.record.status {
            Status::Starting => Durable::First,
            _ => Durable::Again,
        };
        self.record.status = Status::Running {
            pid,
            start_time,
            started,
            boot: Some(sweep::boot_id()),
        };
        self.write(durable)
    }

    /// Records how the command ended, or removes the container if it was to go then. One that could not be started is as it
    /// was before, and one that was made for this goes.
    pub(crate) fn ended(&mut self, end: Option<(u8, bool)>) -> Result<()> {
        let is_kept = !self.record.auto_remove;
        match end.filter(|_| is_kept) {
            Some((code, out_of_memory)) => {
                self.record.status = Status::Exited {
                    code,
                    out_of_memory,
                    finished: Utc::now(),
                };
                write_end(&self.directory, &self.record)?;
            }
            None if is_kept && self.record.status != Status::Starting => {}
            None => return remove_all(&self.store, &self.record, Volumes::Removed),
        }
        let id = &self.record.id;
        self.store.release_networks(id, None)?;
        self.store.disown(id)
    }
}
