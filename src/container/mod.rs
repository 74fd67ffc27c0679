//! Containers: the records of what runs and what ran.

#[cfg(test)]
mod crash;
mod init_files;
mod life;
pub(crate) mod log;
mod neighbours;
mod networks;
mod reading;
mod record;
mod sweep;

pub(crate) use init_files::make as make_init_files;
pub(crate) use neighbours::Neighbours;
pub(crate) use networks::{ICC, MTU, network_of};
pub(crate) use reading::{find, list, records};
pub(crate) use record::{Asked, Origin, Record, Status};
pub(crate) use sweep::sweep;

use crate::digest::to_hex;
use crate::image::Image;
use crate::runtime;
use crate::spec;
use crate::store::{
    Claim, NotFound, Owner, Shared, Store, UsedVolume, container_config, container_state,
    container_upper,
};
use crate::sys::lock::Waiting;
use anyhow::{Context, Error, Result, bail};
use fs_err as fs;
use rustix::io::Errno;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a container that is being killed is looked at.
const POLL: Duration = Duration::from_millis(2);

/// Bytes that a record may grow by when the container ends: its exit code and two times.
const ROOM: usize = 512;

/// Bytes that room on a disk comes in, at least.
const BLOCK: usize = 4096;

/// A container in the store.
pub(crate) struct Container {
    store: Store,
    pub(crate) directory: PathBuf,
    pub(crate) record: Record,
    /// Locked as long as a process of ours looks after the container; a fork shares the lock.
    _alive: fs::File,
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
        let (directory, alive) = store.create_container(&shared, &record.id, &holds)?;
        if let Some(image) = image {
            store.touch_image(&image.id)?;
        }
        let container = Self {
            store: store.clone(),
            directory,
            record: Record {
                holds: Some(holds),
                ..record
            },
            _alive: alive,
        };
        drop(shared);
        if let Err(error) = container.fill() {
            // The first error is the one to tell.
            let record = &container.record;
            store.release_name(&record.name, &record.id).ok();
            store.remove_container(&record.id).ok();
            return Err(error);
        }
        Ok(container)
    }

    fn fill(&self) -> Result<()> {
        self.store.claim_name(&self.record.name, &self.record.id)?;
        fs::create_dir(self.upper())?;
        fs::create_dir(self.work())?;
        write_record(&self.directory, &self.record, Durable::No)
    }

    /// Lets the container keep an image more than its own, which was found under the lock `shared`.
    pub(crate) fn hold(&mut self, shared: &Shared, image: &Image) -> Result<()> {
        let more = image.holds();
        self.store.hold(shared, &self.record.id, &more)?;
        self.record.holds.get_or_insert_default().extend(more);
        Ok(())
    }

    /// Returns where the container's changes go.
    pub(crate) fn upper(&self) -> PathBuf {
        container_upper(&self.directory)
    }

    /// Returns overlayfs's own directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Makes an empty directory, in the place of the layers that an image lacks.
    pub(crate) fn make_lower(&self) -> Result<PathBuf> {
        let lower = self.directory.join("lower");
        match fs::create_dir(&lower) {
            // It was started before.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(lower),
        }
    }

    /// Writes the bundle: `config.json`, and the files that its mounts show in the container.
    pub(crate) fn write_bundle(&self, config: &str, files: &[spec::File]) -> Result<()> {
        for file in files {
            fs::write(self.directory.join(file.name), &file.content)?;
        }
        Ok(fs::write(container_config(&self.directory), config)?)
    }

    /// Sees to it that the container's volumes are there, and that new ones hold what the image has in their place.
    pub(crate) fn provide_volumes(&mut self, volumes: &[spec::VolumeUse]) -> Result<()> {
        if volumes.is_empty() {
            return Ok(());
        }
        let claims: Vec<_> = volumes.iter().map(|used| used.claim.clone()).collect();
        self.store.claim_volumes(&self.record.id, &claims)?;
        let used = |claim: Claim| UsedVolume {
            name: claim.name,
            anonymous: claim.anonymous,
        };
        self.record.volumes = claims.into_iter().map(used).collect();
        for spec::VolumeUse { claim, content } in volumes {
            let goes_with_it = claim.anonymous && self.record.auto_remove;
            self.store
                .fill_volume(&claim.name, content.as_ref(), !goes_with_it)
                .with_context(|| format!("filling the volume `{}`", claim.name))?;
        }
        Ok(())
    }

    /// Keeps a new record of a container that runs, whole at any time.
    pub(crate) fn save(&self) -> Result<()> {
        self.write(Durable::Again)
    }

    /// One that goes when it has ended needs neither to survive the machine nor room for its end.
    fn write(&self, durable: Durable) -> Result<()> {
        if self.record.auto_remove {
            return write_record(&self.directory, &self.record, Durable::No);
        }
        let text = encode(&self.record)?;
        // First: what syncs the record syncs the room.
        self.reserve(text.len())?;
        write_record(&self.directory, &self.record, durable)
    }

    /// Takes the room for the record's last version, so that a disk that is full by then has it still.
    fn reserve(&self, length: usize) -> Result<()> {
        let room = (length + ROOM).next_multiple_of(BLOCK);
        // Written, not allocated (fallocate(2)): not every file system can.
        Ok(fs::write(end_file(&self.directory), vec![b' '; room])?)
    }
}

/// What of a record is on disk once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// Nothing for sure: nobody has been told of the container.
    No,
    /// All of it, and with it all names that were made before, its own among them (fsync(2) of one file writes them by the
    /// journal of ext4 and XFS, and by the log of btrfs). The record that it replaces was not durable.
    First,
    /// Its data, before it replaces one that was.
    Again,
}

/// Replaces the record in a container's directory and returns its length.
fn write_record(directory: &Path, record: &Record, durable: Durable) -> Result<()> {
    let text = encode(record)?;
    let (new, path) = (directory.join("state.json.new"), container_state(directory));
    let mut file = fs::File::create(&new)?;
    file.write_all(&text)?;
    if durable == Durable::Again {
        file.sync_all()?;
    }
    fs::rename(new, path)?;
    if durable == Durable::First {
        file.sync_all()?;
    }
    Ok(())
}

fn encode(record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record).context("writing down the container's state")
}

/// Writes the last version of a record into the room that is kept for it, and puts it in place.
fn write_end(directory: &Path, record: &Record) -> Result<()> {
    let mut text = encode(record)?;
    let end = end_file(directory);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&end)?;
    let room = usize::try_from(file.metadata()?.len())?;
    // Blanks at the end of JSON mean nothing, and what is there is overwritten, not given back.
    text.resize(room.max(text.len()), b' ');
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(fs::rename(end, container_state(directory))?)
}

/// Tells whether a process of ours looks after the container still.
pub(crate) fn is_running(store: &Store, record: &Record) -> Result<bool> {
    Ok(matches!(store.owner(&record.id)?, Owner::Living(_)))
}

/// Has the monitor of the container in a directory kill it; false if there is none to ask.
pub(crate) type AskToKill = fn(&Path) -> Result<bool>;

/// Removes a container; one that runs is refused, or killed first if `force` says how.
///
/// Of its directory nothing need be readable.
pub(crate) fn remove(
    store: &Store,
    record: &Record,
    force: Option<AskToKill>,
    volumes: Volumes,
) -> Result<()> {
    if !record.is_known() {
        // One that is being made: its maker gives this lock back once it looks after it.
        drop(store.exclusive()?);
    }
    if force.is_none() && is_running(store, record)? {
        bail!(
            "cannot remove container \"{}\": container is running: \
             stop the container before removing or force remove",
            record.name
        );
    }
    end(store, record, force.unwrap_or(|_| Ok(false)))?;
    remove_all(store, record, volumes)
}

/// Ends what is left of a container: kills its first process, if it runs, and waits until its monitor has cleaned up, or does
/// that in the stead of one that died.
pub(crate) fn end(store: &Store, record: &Record, ask: AskToKill) -> Result<()> {
    let what = format!("container `{}`", record.name);
    let mut waiting = Waiting::begin(&what)?;
    loop {
        let alive = match store.owner(&record.id)? {
            Owner::Nobody => return Ok(()),
            Owner::Dead(_owned) => {
                return sweep::end(store, record, sweep::OF_ONES_OWN).with_context(|| {
                    format!("ending what is left of container `{}`", record.name)
                });
            }
            Owner::Living(alive) => alive,
        };
        // Its monitor gives the lock up at the very end. Until then it may be starting, with nothing to kill yet.
        kill(store, &record.id, ask)
            .with_context(|| format!("killing container `{}`", record.name))?;
        std::thread::sleep(POLL);
        waiting.go_on(&alive)?;
    }
}

/// Kills a container's first process, if it has one by now.
fn kill(store: &Store, id: &str, ask: AskToKill) -> Result<()> {
    let directory = store.container_directory(id);
    match reading::read(store, id).map(|record| record.status) {
        Some(Status::Running {
            pid, start_time, ..
        }) => runtime::kill(pid, start_time, Duration::ZERO).or_else(|error| {
            // From a user namespace beside the container's only who has the same number may.
            let is_denied = error.root_cause().downcast_ref() == Some(&Errno::PERM);
            if is_denied {
                ask(&directory).map(drop)
            } else {
                Err(error)
            }
        }),
        // What cannot be read here its monitor knows.
        Some(Status::Unknown) => match ask(&directory) {
            // It ends already.
            Err(error) if has_hung_up(&error) => Ok(()),
            asked => asked.map(drop),
        },
        Some(Status::Starting | Status::Created | Status::Exited { .. }) | None => Ok(()),
    }
}

/// Tells whether whoever was asked is about to end.
fn has_hung_up(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        )
    })
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
    if record.is_known() {
        store.release_name(&record.name, &record.id)?;
    } else {
        store.release_names(&record.id)?;
    }
    forget(store.remove_container(&record.id))
}

fn forget(removed: Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.is::<NotFound>() => Ok(()),
        other => other,
    }
}

/// Room for a record's last version, and that version until it has its place.
fn end_file(directory: &Path) -> PathBuf {
    directory.join("end.json")
}
