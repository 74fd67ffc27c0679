//! Containers that nobody looks after any more, because their monitor died: one way to end them, for every command.

use crate::container::reading::{killed, read};
use crate::container::{Record, Status, Volumes, end_file, remove_all, write_end};
use crate::runtime;
use crate::store::{Owner, Store, container_config, container_state, read_if_there};
use anyhow::{Context, Error, Result};
use chrono::{DateTime, TimeDelta, Utc};
use fs_err as fs;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all that dead monitors left may keep a command that wants something else: an orphan dies with its monitor, and one
/// that does not is frozen, or waits for a disk, and would keep every command.
const OF_STRANGERS: Duration = Duration::from_millis(100);

/// How long the container may take to die that a command is about: the kernel frees its memory first, and 10 GB take about a
/// second.
pub(super) const OF_ONES_OWN: Duration = Duration::from_secs(10);

/// Where containers' cgroups are unless their specs say otherwise.
const CGROUPS: &str = "/ddock";

/// Ends or removes containers whose monitor died. What could not be done, and will be tried again, comes back: it is no
/// reason for the caller not to go on.
#[must_use]
pub(crate) fn sweep(store: &Store) -> Vec<Error> {
    let deadline = Instant::now() + OF_STRANGERS;
    let owned = match store.owned() {
        Ok(owned) => owned,
        Err(error) => return vec![error],
    };
    let swept = owned.into_iter().map(|id| sweep_one(store, &id, deadline));
    swept.filter_map(Result::err).collect()
}

fn sweep_one(store: &Store, id: &str, deadline: Instant) -> Result<()> {
    let Owner::Dead(_owned) = store.owner(id)? else {
        return Ok(());
    };
    let patience = deadline.saturating_duration_since(Instant::now());
    bury(store, id, patience).with_context(|| {
        let id = id.get(..12).unwrap_or(id);
        format!("container `{id}` has lost its monitor and is not cleaned up yet")
    })
}

/// Cleans up after a container whose monitor died. Whoever does so holds the container's lock.
fn bury(store: &Store, id: &str, patience: Duration) -> Result<()> {
    let directory = store.container_directory(id);
    adopt_end(&directory);
    let Some(mut record) = read(store, id) else {
        // It died before there was a record, so nothing ran, and there are no volumes yet.
        store.release_names(id)?;
        store.disown(id)?;
        return super::forget(store.remove_container(id));
    };
    end(store, &record, patience)?;
    // One that somebody made stays, whoever died when it was about to start.
    let is_kept = record.status == Status::Created || !record.auto_remove;
    if record.status == Status::Starting || !is_kept {
        return remove_all(store, &record, Volumes::Removed);
    }
    if matches!(record.status, Status::Running { .. }) {
        record.status = killed();
        write_end(&directory, &record)?;
    }
    store.release_networks(id, None)?;
    store.disown(id)
}

/// Ends all processes of a container that nobody looks after, and removes its cgroups. Whoever does so holds its lock.
pub(super) fn end(store: &Store, record: &Record, patience: Duration) -> Result<()> {
    let directory = store.container_directory(&record.id);
    // The one that the spec names; and the usual one, in case that cannot be read.
    let usual = Path::new(CGROUPS).join(&record.id);
    let named = cgroups_path(&directory).filter(|named| *named != usual);
    for path in named.iter().chain([&usual]) {
        runtime::remove_cgroup(path, patience)?;
    }
    if let Status::Running {
        pid,
        start_time,
        started,
        boot,
    } = &record.status
        && is_of_this_boot(boot.as_deref(), *started)
    {
        // Where there are no cgroups the death of the monitor should have ended it; make sure.
        runtime::kill(*pid, *start_time, patience)?;
    }
    Ok(())
}

/// Takes over the end that a monitor had written down when it died.
fn adopt_end(directory: &Path) {
    let end = end_file(directory);
    let bytes = read_if_there(&end).ok().flatten().unwrap_or_default();
    let record = serde_json::from_slice::<Record>(&bytes);
    if record.is_ok_and(|record| matches!(record.status, Status::Exited { .. })) {
        // If it cannot be, the container was killed, as far as anybody knows.
        fs::rename(end, container_state(directory)).ok();
    }
}

/// Tells whether the machine runs still as when the container was started: otherwise whoever has its PID by now may even
/// have begun at the same time of the machine's life.
fn is_of_this_boot(boot: Option<&str>, started: DateTime<Utc>) -> bool {
    match boot {
        Some(boot) => boot == boot_id(),
        // An older ddock's: by the clock, which may have been set since.
        None => started > time_of_boot(),
    }
}

/// Returns what tells this boot of the machine from every other (random(4)); empty if the kernel does not say.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// Returns when the machine was started, as its clock has it by now.
fn time_of_boot() -> DateTime<Utc> {
    let up = clock_gettime(ClockId::Boottime);
    Utc::now() - TimeDelta::new(up.tv_sec, 0).unwrap_or_default()
}

/// Returns where the container's cgroup is, if it came as far as having one: its bundle is written first.
fn cgroups_path(directory: &Path) -> Option<PathBuf> {
    // A file that is missing or cut off is of a container that was not yet started, or is damaged.
    let config = read_if_there(&container_config(directory)).ok()??;
    let config: serde_json::Value = serde_json::from_slice(&config).ok()?;
    let path = config.pointer("/linux/cgroupsPath")?.as_str()?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_began_after_the_machine() {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let seconds = uptime.split('.').next().unwrap().parse().unwrap();
        let boot = Utc::now() - TimeDelta::new(seconds, 0).unwrap();
        let difference = (time_of_boot() - boot).num_seconds();
        assert!((-1..=1).contains(&difference), "{difference}");
    }

    #[test]
    fn a_clock_that_was_set_changes_nothing() {
        let long_ago = DateTime::UNIX_EPOCH;
        assert!(is_of_this_boot(Some(&boot_id()), long_ago));
        assert!(!is_of_this_boot(Some("another"), Utc::now()));
        assert!(is_of_this_boot(None, Utc::now()) && !is_of_this_boot(None, long_ago));
    }
}
