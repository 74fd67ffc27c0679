//! Reading containers' records: what is damaged is a container all the same, of which less is known.

use crate::container::record::{Record, Status};
use crate::runtime::Donor;
use crate::store::{NotFound, Owner, Store, container_config, container_state, read_if_there};
use anyhow::Result;
use chrono::{DateTime, Utc};
use fs_err as fs;
use std::path::Path;

/// Exit code of a container whose monitor died, and which the kernel killed for that.
pub(super) const KILLED: u8 = 137;

/// Reads the record of the container `id`; `None` if there is none yet, or none any more. One that cannot be read is a
/// record of which little is known, never an error: whoever wants another container must not stumble over this one.
pub(super) fn read(store: &Store, id: &str) -> Option<Record> {
    let directory = store.container_directory(id);
    let bytes = match read_if_there(&container_state(&directory)) {
        // The record is the first that a container gets: this one is being made, or being removed.
        Ok(None) if !container_config(&directory).exists() => return None,
        read => read.ok().flatten().unwrap_or_default(),
    };
    let mut record = match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) => record,
        Err(_) => Record::read(id, made(&directory), &bytes),
    };
    id.clone_into(&mut record.id);
    if record.name.is_empty() {
        record.name = name(store, id);
    }
    Some(record)
}

/// Returns all containers as they were last written down, newest first; one whose monitor died still runs here.
pub(crate) fn records(store: &Store) -> Result<Vec<Record>> {
    let ids = store.containers()?.into_iter();
    let mut records: Vec<Record> = ids.filter_map(|id| read(store, &id)).collect();
    records.sort_by_key(|record: &Record| std::cmp::Reverse(record.created));
    Ok(records)
}

/// Returns all containers, newest first; what was written down of those whose monitor died is put right.
///
/// That needs no writing: on a full disk, or one that can only be read, containers are listed as well.
pub(crate) fn list(store: &Store) -> Result<Vec<Record>> {
    let mut records = records(store)?;
    for record in &mut records {
        settle(store, record)?;
    }
    // Names of starts that were killed, and what they had in `tmp/`: a list is none the worse if they stay.
    store.sweep_names().ok();
    store.sweep_temporaries().ok();
    Ok(records)
}

/// Finds a container by its name, its ID, or a prefix of that which no other has. It is there if its directory is.
pub(crate) fn find(store: &Store, text: &str) -> Result<Record> {
    let id = match store.named_container(text)? {
        Some(id) => id,
        None => store.container(text)?,
    };
    let directory = store.container_directory(&id);
    let mut record = match read(store, &id) {
        Some(record) => record,
        None if fs::symlink_metadata(&directory).is_ok() => {
            let mut record = Record::unknown(&id, made(&directory));
            record.name = name(store, &id);
            record
        }
        None => return Err(NotFound::container(text).into()),
    };
    settle(store, &mut record)?;
    Ok(record)
}

/// Corrects what a record says of a container whose monitor died: it runs no more, unless its processes outlived that.
fn settle(store: &Store, record: &mut Record) -> Result<()> {
    let Status::Running {
        pid, start_time, ..
    } = record.status
    else {
        return Ok(());
    };
    if matches!(store.owner(&record.id)?, Owner::Living(_)) {
        return Ok(());
    }
    // Its monitor may have written the end since.
    if let Some(now) = read(store, &record.id) {
        *record = now;
    }
    if matches!(record.status, Status::Running { .. }) && Donor::hold(pid, start_time)?.is_none() {
        record.status = killed();
    }
    Ok(())
}

/// Returns how a container ended of which nobody saw the end.
pub(super) fn killed() -> Status {
    Status::Exited {
        code: KILLED,
        out_of_memory: false,
        finished: Utc::now(),
    }
}

/// Returns when a container was made whose record does not say it.
fn made(directory: &Path) -> DateTime<Utc> {
    let made = fs::symlink_metadata(directory).and_then(|found| found.modified());
    made.map_or(DateTime::UNIX_EPOCH, Into::into)
}

fn name(store: &Store, id: &str) -> String {
    let names = store.names_of(id).unwrap_or_default();
    names.into_iter().next().unwrap_or_default()
}
