//! Volumes: directories that outlive containers, who uses them, and what is in them at first.
//!
//! A container that uses a volume says so in its directory before it looks whether the volume is there, with the store's
//! lock held shared. Who removes volumes holds that lock alone and asks all containers. So no volume goes that is used.

use crate::store::lock::lock;
use crate::store::objects::read_if_there;
use crate::store::stage::{Stage, remove_tree, sync_directory, write_synced};
use crate::store::trash::Trash;
use crate::store::{NotFound, Store, UsedVolume, VolumeName, layout};
use crate::sys::{attributes, copy};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use fs_err as fs;
use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The label of a volume that was made because nobody gave a name. Docker's.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What is known of a volume, as its `volume.json` keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    pub(crate) created: DateTime<Utc>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl VolumeRecord {
    /// Returns the record of a volume that is made now.
    pub(crate) fn new(mut labels: BTreeMap<String, String>, anonymous: bool) -> Self {
        if anonymous {
            labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        let created = Utc::now();
        Self { created, labels }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// A volume that a container is to have.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) name: VolumeName,
    /// Goes with the container, as far as that takes its volumes along.
    pub(crate) anonymous: bool,
    /// For when it has to be made.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A volume that containers use cannot be removed. The words are Docker's.
#[derive(Debug, Error)]
#[error("remove {name}: volume is in use - [{}]", .users.join(", "))]
pub(crate) struct InUse {
    name: VolumeName,
    users: Vec<String>,
}

impl Store {
    /// Returns where the content of the volume `name` lies, there or not.
    pub(crate) fn volume_data(&self, name: &VolumeName) -> PathBuf {
        layout::volume_data(&self.layout.volumes(), name)
    }

    /// Returns the directory that volumes lie in, for [`layout::volume_data`].
    pub(crate) fn volumes_directory(&self) -> PathBuf {
        self.layout.volumes()
    }

    /// Gives the container its volumes, and makes those that are not there.
    pub(crate) fn claim_volumes(&self, container: &str, claims: &[Claim]) -> Result<()> {
        let _shared = self.shared()?;
        let text = claims.iter().fold(String::new(), |mut text, claim| {
            let word = if claim.anonymous {
                "anonymous"
            } else {
                "named"
            };
            writeln!(text, "{word} {}", claim.name).expect("writing to a string cannot fail");
            text
        });
        // First: from here on a remover, who waits for our lock, leaves them alone.
        fs::write(
            layout::container_volumes(&self.layout.container(container)),
            text,
        )?;
        for claim in claims {
            let record = VolumeRecord::new(claim.labels.clone(), claim.anonymous);
            self.make_volume(&claim.name, &record)?;
        }
        Ok(())
    }

    /// Makes a volume; that it is there already is fine.
    pub(crate) fn create_volume(&self, name: &VolumeName, record: &VolumeRecord) -> Result<()> {
        let _shared = self.shared()?;
        self.make_volume(name, record)
    }

    /// The caller holds the store's lock, shared.
    fn make_volume(&self, name: &VolumeName, record: &VolumeRecord) -> Result<()> {
        let volume = self.layout.volume(name);
        if volume.exists() {
            return Ok(());
        }
        let volumes = self.layout.volumes();
        // None in a store that was made before there were volumes.
        match fs::create_dir(&volumes) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let stage = Stage::create(self)?;
        let born = stage.directory("volume")?;
        let data = layout::data_of_volume(&born);
        fs::create_dir(&data)?;
        // Whatever the umask is: the container's users go in.
        fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755))?;
        let text = serde_json::to_vec(record).context("writing down the volume")?;
        let path = layout::volume_record(&born);
        if record.is_anonymous() {
            fs::write(path, text)?;
        } else {
            write_synced(&path, &text)?;
        }
        match fs::rename(&born, &volume) {
            // Another process made it meanwhile.
            Err(_) if volume.exists() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) if record.is_anonymous() => Ok(()),
            Ok(()) => Ok(sync_directory(&volumes)?),
        }
    }

    /// Gives a volume that is empty what the image has at its place, `content`, and waits for who does so already.
    ///
    /// The copy is complete before the first of it can be seen in the volume; who dies while it is moved there is
    /// followed by the next one. `durable`: it is on disk before. The container that this is for has claimed the volume.
    pub(crate) fn fill_volume(
        &self,
        name: &VolumeName,
        content: Option<&OwnedFd>,
        durable: bool,
    ) -> Result<()> {
        let volume = self.layout.volume(name);
        let owned = fs::File::open(&volume)?;
        lock(&owned, &volume)?;
        let data = open(&layout::data_of_volume(&volume))?;
        let arrived = layout::volume_arrived(&volume);
        if arrived.exists() {
            return settle(&arrived, &data);
        }
        let Some(content) = content else {
            return Ok(());
        };
        if !copy::names(&data)?.is_empty() {
            return Ok(());
        }
        let stage = {
            let _shared = self.shared()?;
            Stage::create(self)?
        };
        let [copied, links] = [stage.directory("copy")?, stage.directory("links")?];
        let target = open(&copied)?;
        copy::tree(content, &target, open(&links)?.as_fd())?;
        // Before anything is seen: else files would count a link too many while the stage is there.
        remove_tree(&links)?;
        if durable && !copy::names(&target)?.is_empty() {
            stage.sync()?;
        }
        fs::rename(&copied, &arrived)?;
        settle(&arrived, &data)
    }

    /// Returns all volumes, sorted by name.
    pub(crate) fn volumes(&self) -> Result<Vec<(VolumeName, VolumeRecord)>> {
        let mut volumes = Vec::new();
        let entries = match fs::read_dir(self.layout.volumes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(volumes),
            other => other?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.parse().ok());
            if let Some(name) = name
                && let Some(record) = self.volume(&name)?
            {
                volumes.push((name, record));
            }
        }
        volumes.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(volumes)
    }

    /// Returns what is known of the volume `name`; `None` if it is not there.
    ///
    /// A volume is a directory: one whose record is damaged is there as well, with labels that nobody knows any more, and is
    /// removed only by who names it or asks for those with names.
    pub(crate) fn volume(&self, name: &VolumeName) -> Result<Option<VolumeRecord>> {
        let volume = self.layout.volume(name);
        let bytes = read_if_there(&layout::volume_record(&volume));
        let bytes = bytes.ok().flatten().unwrap_or_default();
        if let Ok(record) = serde_json::from_slice(&bytes) {
            return Ok(Some(record));
        }
        match fs::metadata(&volume) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
            Ok(found) => Ok(Some(VolumeRecord {
                created: found.modified()?.into(),
                labels: BTreeMap::new(),
            })),
        }
    }

    /// Tells whether what is known of a volume can be read.
    pub(crate) fn is_volume_whole(&self, name: &VolumeName) -> bool {
        let path = layout::volume_record(&self.layout.volume(name));
        let bytes = read_if_there(&path).ok().flatten().unwrap_or_default();
        serde_json::from_slice::<VolumeRecord>(&bytes).is_ok()
    }

    /// Returns how many bytes the files of a volume take, as far as they can be counted: containers change it meanwhile.
    pub(crate) fn volume_size(&self, name: &VolumeName) -> u64 {
        size_below(self.volume_data(name))
    }

    /// Returns how many bytes the changes of container `id` take, likewise.
    pub(crate) fn container_size(&self, id: &str) -> u64 {
        size_below(layout::container_upper(&self.layout.container(id)))
    }

    /// Removes a volume that no container uses: [`NotFound`] if it is not there, [`InUse`] if one does.
    pub(crate) fn remove_volume(&self, name: &VolumeName) -> Result<()> {
        if self.remove_unused(std::slice::from_ref(name))?.is_empty() {
            if self.volume(name)?.is_none() {
                return Err(NotFound::volume(name.as_str()).into());
            }
            let users = self.volume_users()?.of(name);
            let name = name.clone();
            return Err(InUse { name, users }.into());
        }
        Ok(())
    }

    /// Removes those of the volumes that are there and that no container uses, and returns which these were.
    pub(crate) fn remove_unused(&self, names: &[VolumeName]) -> Result<Vec<VolumeName>> {
        // Most of the work is done before the lock is taken, which keeps everybody out.
        let mut users = self.volume_users()?;
        let lock = self.exclusive()?;
        self.settle_users(&lock, &mut users)?;
        let mut removed = users.unused(names.iter());
        let mut trash = Trash::default();
        let mut failed = Ok(());
        removed.retain(
            |name| match trash.take(self, &lock, &self.layout.volume(name)) {
                Ok(was_there) => was_there,
                Err(error) => {
                    failed = Err(error);
                    false
                }
            },
        );
        drop(lock);
        trash.remove()?;
        failed.map(|()| removed)
    }

    /// Removes those of the container's volumes that were made for it alone and that no other uses.
    pub(crate) fn remove_anonymous_volumes(&self, container: &str) -> Result<()> {
        // One of which nobody can tell what it has takes nothing along.
        let mut anonymous = self.uses(container).unwrap_or_default();
        anonymous.retain(|volume| volume.anonymous);
        if anonymous.is_empty() {
            return Ok(());
        }
        let mut users = self.volume_users()?;
        let lock = self.exclusive()?;
        self.settle_users(&lock, &mut users)?;
        let mut trash = Trash::default();
        for UsedVolume { name, .. } in anonymous {
            if users.of(&name).iter().all(|user| user == container) {
                trash.take(self, &lock, &self.layout.volume(&name))?;
            }
        }
        drop(lock);
        trash.remove()
    }
}

/// Moves what has arrived to where it belongs; what a container made there meanwhile stays.
fn settle(arrived: &Path, data: &OwnedFd) -> Result<()> {
    let from = open(arrived)?;
    // As long as its times are the image's.
    let stat = rustix::fs::fstat(&from)?;
    for name in copy::names(&from)? {
        match renameat_with(&from, &name, data, &name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("moving `{}` into the volume", name.display()));
            }
        }
    }
    attributes::copy(&from, data)?;
    copy::metadata(data.as_fd(), OsStr::new("."), &stat)?;
    drop(from);
    remove_tree(arrived)
}

fn open(directory: &Path) -> Result<OwnedFd> {
    let (directory, _) = fs::File::open(directory)?.into_parts();
    Ok(directory.into())
}
/// Returns how many bytes the files below `directory` have, without the blocks they lie in.
fn size_below(directory: PathBuf) -> u64 {
    let (mut size, mut directories) = (0, vec![directory]);
    while let Some(directory) = directories.pop() {
        // What is gone or too deep to be named takes nothing.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => size += metadata.size() / metadata.nlink().max(1),
                Err(_) => {}
            }
        }
    }
    size
}
