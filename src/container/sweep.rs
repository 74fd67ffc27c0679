//! Containers that nobody looks after any more, because their monitor died.

use crate::container::{
    Container, Status, Volumes, alive_file, config_file, disown, forget, read, remove_all,
    state_file,
};
use crate::runtime;
use crate::store::Store;
use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use fs_err as fs;
use rustix::event::Timespec;
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::path::{Path, PathBuf};

/// Exit code of a container whose monitor died, and which the kernel killed for that.
const KILLED: u8 = 137;

/// How many containers a command looks at for ones that nobody looks after any more.
const SWEEP: usize = 64;

/// How long the kernel may take to end a container after its monitor's death: it does so at once.
const OF_THE_KERNEL: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Ends or removes containers whose monitor died, looking at a bounded number of them.
pub(crate) fn sweep(store: &Store) -> Result<()> {
    all(store, SWEEP)
}

pub(super) fn all(store: &Store, at_most: usize) -> Result<()> {
    for id in store.containers()?.into_iter().take(at_most) {
        let directory = store.container_directory(&id);
        let alive = match fs::File::open(alive_file(&directory)) {
            Ok(alive) => alive,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !state_file(&directory).exists() {
                    bury_unborn(store, &id, &directory)?;
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if flock(&alive, FlockOperation::NonBlockingLockExclusive).is_ok() {
            bury(store, &id, &directory)
                .with_context(|| format!("cleaning up container `{}`", &id[..12]))?;
        }
    }
    Ok(())
}

/// Removes a directory that has neither an owner nor a record, unless it is being made just now.
///
/// That is done under the store's lock: who holds it alone sees only what was left when its maker died.
fn bury_unborn(store: &Store, id: &str, directory: &Path) -> Result<()> {
    let _exclusive = store.exclusive()?;
    if alive_file(directory).exists() || state_file(directory).exists() {
        return Ok(());
    }
    forget(store.remove_container(id))
}

/// Cleans up after a container whose monitor died. Whoever does so holds the container's lock.
fn bury(store: &Store, id: &str, directory: &Path) -> Result<()> {
    if let Some(cgroups_path) = cgroups_path(directory) {
        runtime::remove_cgroup(&cgroups_path)?;
    }
    let Some(mut record) = read(directory)? else {
        // It died before there was a record, so nothing ran, and there are no volumes yet.
        return forget(store.remove_container(id));
    };
    match record.status {
        // Its monitor came to its end, or almost.
        Status::Exited { .. } if !record.auto_remove => return disown(store, id),
        // Where there are no cgroups the death of the monitor should have ended it; make sure.
        Status::Running {
            pid,
            start_time,
            started,
        } if started > time_of_boot() => runtime::kill(pid, start_time, OF_THE_KERNEL)?,
        // The machine itself ended it: whoever has its PID by now may even have begun at the same time of its life.
        Status::Running { .. } | Status::Created | Status::Exited { .. } => {}
    }
    if record.auto_remove || record.status == Status::Created {
        return remove_all(store, &record, Volumes::Removed);
    }
    record.status = Status::Exited {
        code: KILLED,
        out_of_memory: false,
        finished: Utc::now(),
    };
    let container = Container {
        store: store.clone(),
        directory: directory.to_owned(),
        record,
        _alive: None,
    };
    container.save()?;
    disown(store, id)
}

/// Returns when the machine was started, as its clock has it by now.
fn time_of_boot() -> DateTime<Utc> {
    let up = clock_gettime(ClockId::Boottime);
    Utc::now() - TimeDelta::new(up.tv_sec, 0).unwrap_or_default()
}

/// Returns where the container's cgroup is, if it came as far as having one: its bundle is written first.
fn cgroups_path(directory: &Path) -> Option<PathBuf> {
    // A file that is missing or cut off is of a container that was not yet started.
    let config = fs::read(config_file(directory)).ok()?;
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
}
