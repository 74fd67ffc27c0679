//! A mount that somebody asks for, whichever flag or image it comes from.

use crate::spec::idmap::Idmap;
use crate::spec::tree;
use crate::store::VolumeName;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Something to mount in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Where: absolute, plain, neither `/` nor in `/proc`.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    /// `U`: its files become the container's user's, for good.
    pub(crate) given: bool,
    /// Mount flags beyond that: `noexec` and the like.
    pub(crate) flags: Vec<&'static str>,
    /// The options of a `-v` as typed, which `inspect` repeats.
    pub(crate) mode: String,
    pub(crate) content: Content,
}

/// What there is to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Bind(Bind),
    Volume(Volume),
    /// A new file system in memory, with these mount options.
    Tmpfs(Vec<String>),
    Image(Image),
}

/// A path of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Absolute; neither symlinks nor `..` are resolved.
    pub(crate) source: PathBuf,
    pub(crate) propagation: &'static str,
    pub(crate) below: Below,
    pub(crate) idmap: Option<Idmap>,
    /// A source that is missing becomes an empty directory.
    pub(crate) make: bool,
}

/// What becomes of mounts below the source of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Below {
    /// They are seen, read-only if the bind is.
    #[default]
    Alike,
    /// They are seen as they are, also if the bind is read-only.
    Writable,
    /// They are not seen.
    Absent,
}

/// A directory of the store that outlives the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) name: VolumeName,
    /// Made because nobody gave a name.
    pub(crate) anonymous: bool,
    /// An empty one gets what the image has at its place.
    pub(crate) copy: bool,
    /// What of it is seen: a path without a `..`.
    pub(crate) subpath: Option<PathBuf>,
    /// For when it has to be made.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Another image, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) subpath: Option<PathBuf>,
}

/// A mount as a container's record keeps it, and as `--volumes-from` takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`
    pub(crate) kind: String,
    /// Volumes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume: Option<VolumeName>,
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) mode: String,
    pub(crate) read_only: bool,
    /// Binds only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) propagation: String,
    /// Binds only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idmap: Option<Idmap>,
}

impl Volume {
    pub(crate) fn anonymous() -> Self {
        Self {
            anonymous: true,
            ..Self::named(VolumeName::random())
        }
    }

    pub(crate) fn named(name: VolumeName) -> Self {
        Self {
            name,
            anonymous: false,
            copy: true,
            subpath: None,
            labels: BTreeMap::new(),
        }
    }
}

impl Wanted {
    /// Returns what can be written to and has no other options.
    pub(crate) fn plain(target: PathBuf, content: Content) -> Self {
        Self {
            target,
            read_only: false,
            given: false,
            flags: Vec::new(),
            mode: String::new(),
            content,
        }
    }
}

/// What a mount itself can be told, and what each is about: of each kind one holds.
pub(crate) const FLAGS: [(&str, &str); 8] = [
    ("ro", "write"),
    ("rw", "write"),
    ("exec", "exec"),
    ("noexec", "exec"),
    ("suid", "suid"),
    ("nosuid", "suid"),
    ("dev", "dev"),
    ("nodev", "dev"),
];

/// Why there is one of both at most.
pub(crate) const GIVEN_AND_MAPPED: &str = "`U` makes the files the container's user's for good, and `idmap` shows them as \
    somebody else's: there can be one of both";

/// Every way that mounts can spread (`mount_namespaces(7)`).
pub(crate) const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// Returns the propagation that `word` is.
pub(crate) fn propagation(word: &str) -> Option<&'static str> {
    PROPAGATIONS.into_iter().find(|known| *known == word)
}

/// Returns a mount's target as a plain absolute path, or says why nothing can be mounted there.
pub(crate) fn target(typed: &Path) -> Result<PathBuf> {
    ensure!(
        typed.is_absolute(),
        "invalid mount path: '{}' mount path must be absolute",
        typed.display()
    );
    let path = tree::clean(typed);
    ensure!(
        path != Path::new("/"),
        "invalid specification: destination can't be '/'"
    );
    ensure!(
        !path.starts_with("/proc"),
        "nothing can be mounted at `{}`: `/proc` is the container's own",
        path.display()
    );
    Ok(path)
}

/// Returns a source that starts with a dot as seen from the caller's directory.
pub(crate) fn absolute(source: &str, directory: Option<&Path>) -> Result<PathBuf> {
    use anyhow::Context as _;
    if !source.starts_with('.') {
        return Ok(source.into());
    }
    let directory = directory.context("the current directory was deleted")?;
    // Collecting drops the dots that stand for nothing. `..` is for the kernel: what is before it may be a symlink.
    Ok(directory.join(source).components().collect())
}
