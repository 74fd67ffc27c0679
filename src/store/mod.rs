//! The store: layers, images and containers on disk, as `cache/README.md` describes them.
//!
//! It knows digests, tags and directories, and no image types: what a record *means* is `image`'s matter.
//! To the store, a record holds whatever digests occur in its text.

mod chains;
mod containers;
#[cfg(test)]
pub(crate) mod crash;
mod create;
mod escape;
mod layout;
mod lock;
mod members;
mod names;
mod needs;
mod networks;
mod objects;
mod owners;
mod partial;
mod probe;
mod publish;
mod references;
mod remove;
mod stage;
mod sweep;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod trash;
#[cfg(test)]
mod trouble;
mod volume_name;
mod volumes;

pub(crate) use chains::StagedChain;
pub(crate) use layout::{container_config, container_state, container_upper, volume_data};
pub(crate) use lock::{Exclusive, Shared};
pub(crate) use members::Word;
pub(crate) use names::NameInUse;
pub(crate) use needs::UsedVolume;
pub(crate) use networks::{ActiveEndpoints, NetworkRecord, Pool};
pub(crate) use objects::{LayerMeta, LayerPaths, PreparedRecord, read_if_there};
pub(crate) use owners::Owner;
pub(crate) use partial::{Partial, Progress, Segments};
pub(crate) use probe::Facts;
pub(crate) use publish::{Publication, StagedLayer, Went};
pub(crate) use stage::Stage;
pub(crate) use volume_name::VolumeName;
pub(crate) use volumes::{Claim, InUse, VolumeRecord};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use layout::Layout;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use thiserror::Error;

/// Something in the store is not what it was when it was written. Pulling the image again puts it right.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) String);

/// A record in the store cannot be read, and no pull brings it back.
#[derive(Debug, Error)]
#[error("{what}")]
pub(crate) struct Unreadable {
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) cure: String,
}

/// What the user named is not there. The words are Docker's.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", self.text())]
pub(crate) struct NotFound {
    kind: &'static str,
    name: String,
}

impl NotFound {
    pub(crate) fn image(name: &str) -> Self {
        let name = name.to_owned();
        Self {
            kind: "image",
            name,
        }
    }

    pub(crate) fn container(name: &str) -> Self {
        let name = name.to_owned();
        let kind = "container";
        Self { kind, name }
    }

    pub(crate) fn volume(name: &str) -> Self {
        let name = name.to_owned();
        let kind = "volume";
        Self { kind, name }
    }

    pub(crate) fn network(name: &str) -> Self {
        let name = name.to_owned();
        let kind = "network";
        Self { kind, name }
    }

    fn text(&self) -> String {
        match (self.kind, &self.name) {
            ("network", name) => format!("network {name} not found"),
            (kind, name) => format!("No such {kind}: {name}"),
        }
    }

    /// Returns where to look for what is here.
    pub(crate) fn hint(&self) -> &'static str {
        match self.kind {
            "volume" => "`ddock volume ls` lists what is here",
            "network" => "`ddock network ls` lists what is here",
            _ => "`ddock images` and `ddock ps -a` list what is here",
        }
    }
}

/// Returns the one of `ids` that `begins` with what the user typed; `None` if none does. Several are an error,
/// never a guess.
pub(crate) fn unique<T>(
    ids: Vec<T>,
    typed: &str,
    begins: impl Fn(&T) -> bool,
) -> Result<Option<T>> {
    let mut found = ids.into_iter().filter(begins);
    let first = found.next();
    ensure!(
        found.next().is_none(),
        "multiple IDs found with provided prefix: {typed}"
    );
    Ok(first)
}

/// A store, open.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    layout: Layout,
}

impl Store {
    /// Opens the store at `root`, and creates it at first use.
    ///
    /// `mapping` says who owns the files of containers here (`sys::userns::Mapping`). A store
    /// made under another one is refused. Creating probes the file system and needs the rights that
    /// running has: an ordinary user does it inside their user namespace (see [`Store::exists`]).
    pub(crate) fn open(root: &Path, mapping: &str) -> Result<Self> {
        let root = std::path::absolute(root).context("finding the store")?;
        let layout = Layout::at_root(&root);
        let store = Self { layout };
        if !store.is_there(mapping)? {
            create::create(&root, &store.layout, mapping)
                .with_context(|| format!("creating the store `{}`", root.display()))?;
            ensure!(store.is_there(mapping)?, "the store was removed at once");
        }
        Ok(store)
    }

    /// Tells whether there is a store at `root`, so that opening it needs no more rights than reading.
    pub(crate) fn exists(root: &Path) -> Result<bool> {
        match Layout::at_root(root).mapping().try_exists() {
            // `HOME=/dev/null`, or a file where a directory of the user's would be.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
            found => found.with_context(|| format!("looking for a store in `{}`", root.display())),
        }
    }

    /// Returns the mapping that the store at `root` was made under; `None` if there is no store.
    pub(crate) fn mapping(root: &Path) -> Result<Option<String>> {
        let text = read_if_there(&Layout::at_root(root).mapping())?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).trim_end().to_owned()))
    }

    /// Returns the directory that everything lies in.
    pub(crate) fn directory(&self) -> &Path {
        self.layout.version()
    }

    /// Returns the directory that the store is in, `--root`.
    pub(crate) fn root(&self) -> &Path {
        stage::parent(self.layout.version())
    }

    /// Returns what was found of the file system when the store was created.
    pub(crate) fn facts(&self) -> Result<Facts> {
        let facts = read_if_there(&self.layout.facts()).ok().flatten();
        if let Ok(facts) = serde_json::from_slice(&facts.unwrap_or_default()) {
            return Ok(facts);
        }
        // What was written down when the store was made is damaged.
        let mapping = read_if_there(&self.layout.mapping())?.unwrap_or_default();
        let mapping = String::from_utf8_lossy(&mapping);
        Facts::of(&self.layout, mapping.trim_end())
    }

    /// Returns the bytes that this user may still write here; `None` if the file system does not say.
    pub(crate) fn free_space(&self) -> Result<Option<u64>> {
        let facts = rustix::fs::statvfs(self.directory()).context("asking for free space")?;
        Ok((facts.f_blocks > 0).then_some(facts.f_bavail.saturating_mul(facts.f_frsize)))
    }

    /// Checks that the store is ours to use; false if there is none.
    fn is_there(&self, mapping: &str) -> Result<bool> {
        let directory = self.layout.version();
        let metadata = match fs::metadata(directory) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        ensure!(
            metadata.uid() == rustix::process::geteuid().as_raw(),
            "the store `{}` belongs to another user (ID {})",
            directory.display(),
            metadata.uid()
        );
        // Programs with set-user-ID in it must not be reachable for others (CVE-2021-41091).
        ensure!(
            metadata.mode().trailing_zeros() >= 6,
            "the store `{}` is open to other users (mode {:04o}): it must be 0700",
            directory.display(),
            metadata.mode() & 0o7777
        );
        let path = self.layout.mapping();
        let found = read_if_there(&path)?
            .with_context(|| format!("`{}` is no ddock store", directory.display()))?;
        let found = String::from_utf8_lossy(&found);
        let words = ["root", "single", "ranges"];
        if !words.iter().any(|word| found.starts_with(word)) {
            return Err(Unreadable {
                what: format!(
                    "`{}` is damaged: it does not say who owns the files here",
                    path.display()
                ),
                cure: format!(
                    "if this user made the store, and `/etc/subuid` was then what it is now, \
                     `echo '{mapping}' >'{}'` puts it right",
                    path.display()
                ),
            }
            .into());
        }
        ensure!(
            found.trim_end() == mapping,
            "the store `{}` was made for the ID mapping `{}`, and this is `{mapping}`: use another --root",
            directory.display(),
            found.trim_end()
        );
        Ok(true)
    }
}
