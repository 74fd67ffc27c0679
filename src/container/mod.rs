//! Containers: the records of what runs and what ran.

mod init_files;
pub(crate) mod log;
mod neighbours;
mod networks;
mod record;
mod sweep;

pub(crate) use init_files::make as make_init_files;
pub(crate) use neighbours::Neighbours;
pub(crate) use networks::{ICC, MTU, network_of};
pub(crate) use record::{Log, Origin, Record, Status, Stop};
pub(crate) use sweep::sweep;

use crate::digest::to_hex;
use crate::image::Image;
use crate::runtime;
use crate::spec;
use crate::store::{NotFound, Shared, Store};
use crate::sys::lock::Waiting;
use anyhow::{Context, Result, bail};
use chrono::Utc;
use fs_err as fs;
use rustix::event::Timespec;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a container that is being killed is looked at.
const POLL: Duration = Duration::from_millis(2);

/// How long is waited for what another ends, where its monitor can be asked.
const NOT_AT_ALL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A container in the store.
pub(crate) struct Container {
    store: Store,
    pub(crate) directory: PathBuf,
    pub(crate) record: Record,
    /// Locked as long as a process of ours looks after the container; a fork shares the lock.
    _alive: Option<fs::File>,
}

/// Returns a new container ID: 64 lower-case hex digits.
///
/// The first 12 are the hostname, which must not be all digits (moby issue 3869).
pub(crate) fn new_id() -> String {
    loop {
        let mut bytes = [0; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .expect("the kernel has random numbers");
        let id = to_hex(&bytes);
        if id[..12].bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return id;
        }
    }
}

impl Container {
    /// Makes a container that is to run `image`, if it needs one, which was found under the lock `shared`.
    ///
    /// The lock is given back once the container holds its image: claiming the name takes a stricter one,
    /// and would wait for this for ever. `store::NameInUse` if another container has the name.
    pub(crate) fn create(
        store: &Store,
        shared: Shared,
        image: Option<&Image>,
        record: Record,
    ) -> Result<Self> {
        let holds = image.map(Image::holds).unwrap_or_default();
        let directory = store.create_container(&shared, &record.id, &holds)?;
        if let Some(image) = image {
            store.touch_image(&image.id)?;
        }
        // Locked before it has its name, so that no sweep finds it without an owner.
        let unnamed = directory.join("alive.new");
        let alive = fs::File::create_new(&unnamed)?;
        flock(&alive, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(unnamed, alive_file(&directory))?;
        let container = Self {
            store: store.clone(),
            directory,
            record,
            _alive: Some(alive),
        };
        drop(shared);
        if let Err(error) = container.fill() {
            // The first error is the one to tell.
            store.remove_container(&container.record.id).ok();
            return Err(error);
        }
        Ok(container)
    }

    fn fill(&self) -> Result<()> {
        self.store.claim_name(&self.record.name, &self.record.id)?;
        fs::create_dir(self.upper())?;
        fs::create_dir(self.work())?;
        self.save()
    }

    /// Returns where the container's changes go.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Returns overlayfs's own directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Makes an empty directory, in the place of the layers that an image lacks.
    pub(crate) fn make_lower(&self) -> Result<PathBuf> {
        let lower = self.directory.join("lower");
        fs::create_dir(&lower)?;
        Ok(lower)
    }

    /// Writes the bundle: `config.json`, and the files that its mounts show in the container.
    pub(crate) fn write_bundle(&self, config: &str, files: &[spec::File]) -> Result<()> {
        for file in files {
            fs::write(self.directory.join(file.name), &file.content)?;
        }
        Ok(fs::write(config_file(&self.directory), config)?)
    }

    /// Sees to it that the container's volumes are there, and that new ones hold what the image has in their place.
    pub(crate) fn provide_volumes(&self, volumes: &[spec::VolumeUse]) -> Result<()> {
        if volumes.is_empty() {
            return Ok(());
        }
        let claims: Vec<_> = volumes.iter().map(|used| used.claim.clone()).collect();
        self.store.claim_volumes(&self.record.id, &claims)?;
        for spec::VolumeUse { claim, content } in volumes {
            let goes_with_it = claim.anonymous && self.record.auto_remove;
            self.store
                .fill_volume(&claim.name, content.as_ref(), !goes_with_it)
                .with_context(|| format!("filling the volume `{}`", claim.name))?;
        }
        Ok(())
    }

    /// Keeps the record on disk, whole at any time.
    pub(crate) fn save(&self) -> Result<()> {
        let state =
            serde_json::to_vec(&self.record).context("writing down the container's state")?;
        let (new, path) = (
            self.directory.join("state.json.new"),
            state_file(&self.directory),
        );
        fs::write(&new, state)?;
        Ok(fs::rename(new, path)?)
    }

    /// Records that the command runs.
    pub(crate) fn started(&mut self, pid: u32, start_time: u64) -> Result<()> {
        let started = Utc::now();
        self.record.status = Status::Running {
            pid,
            start_time,
            started,
        };
        self.save()
    }

    /// Records how the command ended, or removes the container if it was to go then, or never ran.
    pub(crate) fn ended(&mut self, end: Option<(u8, bool)>) -> Result<()> {
        let Some((code, out_of_memory)) = end.filter(|_| !self.record.auto_remove) else {
            return remove_all(&self.store, &self.record, Volumes::Removed);
        };
        self.record.status = Status::Exited {
            code,
            out_of_memory,
            finished: Utc::now(),
        };
        self.save()?;
        disown(&self.store, &self.record.id)
    }
}

/// Returns all containers, newest first; those that nobody looks after any more are ended or removed first.
pub(crate) fn list(store: &Store) -> Result<Vec<Record>> {
    sweep::all(store, usize::MAX)?;
    store.sweep_temporaries()?;
    records(store)
}

/// Returns all containers as they were last written down, newest first; one whose monitor died still runs here.
pub(crate) fn records(store: &Store) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for id in store.containers()? {
        records.extend(read(&store.container_directory(&id))?);
    }
    records.sort_by_key(|record: &Record| std::cmp::Reverse(record.created));
    Ok(records)
}

/// Finds a container by its name, its ID, or a prefix of that which no other has.
pub(crate) fn find(store: &Store, text: &str) -> Result<Record> {
    let id = match store.named_container(text)? {
        Some(id) => id,
        None => store.container(text)?,
    };
    read(&store.container_directory(&id))?.ok_or_else(|| NotFound::container(text).into())
}

/// Tells whether a process of ours looks after the container still.
pub(crate) fn is_running(store: &Store, record: &Record) -> Result<bool> {
    is_looked_after(&store.container_directory(&record.id))
}

/// Has the monitor of the container in a directory kill it; false if there is none to ask.
pub(crate) type AskToKill = fn(&Path) -> Result<bool>;

/// Removes a container; one that runs is refused, or killed first if `force` says how.
pub(crate) fn remove(
    store: &Store,
    record: &Record,
    force: Option<AskToKill>,
    volumes: Volumes,
) -> Result<()> {
    if is_looked_after(&store.container_directory(&record.id))? {
        let Some(ask) = force else {
            bail!(
                "cannot remove container \"{}\": container is running: \
                 stop the container before removing or force remove",
                record.name
            );
        };
        end(store, record, ask)?;
    }
    remove_all(store, record, volumes)
}

/// Kills a container's first process, if it runs, and waits until its monitor has cleaned up.
pub(crate) fn end(store: &Store, record: &Record, ask: AskToKill) -> Result<()> {
    let directory = store.container_directory(&record.id);
    let alive = match fs::File::open(alive_file(&directory)) {
        Ok(alive) => alive,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let what = format!("container `{}`", record.name);
    let mut waiting = Waiting::begin(&what)?;
    // Its monitor gives the lock up at the very end. Until then it may be starting, with nothing to kill yet.
    while flock(&alive, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        if let Some(Record {
            status: Status::Running {
                pid, start_time, ..
            },
            ..
        }) = read(&directory)?
        {
            let killed = runtime::kill(pid, start_time, NOT_AT_ALL).or_else(|error| {
                // From a user namespace beside the container's only who has the same number may.
                let is_denied = error.root_cause().downcast_ref() == Some(&Errno::PERM);
                if is_denied {
                    ask(&directory).map(drop)
                } else {
                    Err(error)
                }
            });
            killed.with_context(|| format!("killing container `{}`", record.name))?;
        }
        std::thread::sleep(POLL);
        waiting.go_on(&alive)?;
    }
    Ok(())
}

/// Tells everyone that nobody needs to look after the container any more.
fn disown(store: &Store, id: &str) -> Result<()> {
    store.release_networks(id, None)?;
    match fs::remove_file(alive_file(&store.container_directory(id))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// Tells whether a process of ours holds the container.
fn is_looked_after(directory: &Path) -> Result<bool> {
    let alive = match fs::File::open(alive_file(directory)) {
        Ok(alive) => alive,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match flock(&alive, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error).context("looking whether the container runs"),
    }
}

/// What becomes of a container's anonymous volumes when it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    Kept,
    /// Those that no other container uses.
    Removed,
}

/// Removes what the store has of a container; that another process does so too is no error.
fn remove_all(store: &Store, record: &Record, volumes: Volumes) -> Result<()> {
    // First: as long as the container is there, who dies in between is followed by a sweep.
    if volumes == Volumes::Removed {
        store.remove_anonymous_volumes(&record.id)?;
    }
    store.release_name(&record.name, &record.id)?;
    forget(store.remove_container(&record.id))
}

fn forget(removed: Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.is::<NotFound>() => Ok(()),
        other => other,
    }
}

/// Reads a container's record; `None` if there is none yet, or none any more.
fn read(directory: &Path) -> Result<Option<Record>> {
    let path = state_file(directory);
    match fs::read(&path) {
        Ok(bytes) => {
            let record = serde_json::from_slice(&bytes);
            record
                .map(Some)
                .with_context(|| format!("reading `{}`", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn state_file(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

fn config_file(directory: &Path) -> PathBuf {
    directory.join("config.json")
}

fn alive_file(directory: &Path) -> PathBuf {
    directory.join("alive")
}
