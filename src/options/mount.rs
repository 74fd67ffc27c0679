//! A mount that somebody asks for, whichever flag or image it comes from; what is common to the flags' syntaxes.

use crate::options::idmap::Idmap;
use crate::store::VolumeName;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Something to mount in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MountOptions {
    /// Where: absolute, plain, neither `/` nor in `/proc`.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    /// `U`: its files become the container's user's, for good.
    pub(crate) given: bool,
    /// Mount flags beyond that: `noexec` and the like.
    pub(crate) flags: Vec<String>,
    /// The options of a `-v` as typed, which `inspect` repeats.
    pub(crate) mode: String,
    pub(crate) content: Content,
}

/// What there is to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    Bind(Bind),
    Volume(Volume),
    /// A new file system in memory, with these mount options.
    Tmpfs(Vec<String>),
    Image(ImageMount),
}

/// A path of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bind {
    /// Neither symlinks nor `..` are resolved; one that starts with a dot is as seen from the caller's directory, until
    /// [`MountOptions::settle`] made it absolute.
    pub(crate) source: PathBuf,
    pub(crate) propagation: Propagation,
    pub(crate) below: Below,
    pub(crate) idmap: Option<Idmap>,
    /// A source that is missing becomes an empty directory.
    pub(crate) make: bool,
}

/// What becomes of mounts below the source of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Volume {
    /// None if nobody gave one: then it goes with the container.
    pub(crate) name: Option<VolumeName>,
    /// An empty one gets what the image has at its place.
    pub(crate) copy: bool,
    /// What of it is seen: a path without a `..`.
    pub(crate) subpath: Option<PathBuf>,
    /// For when it has to be made.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Another image, read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageMount {
    pub(crate) name: String,
    pub(crate) subpath: Option<PathBuf>,
}

impl Volume {
    pub(crate) fn anonymous() -> Self {
        Self {
            name: None,
            copy: true,
            subpath: None,
            labels: BTreeMap::new(),
        }
    }

    pub(crate) fn named(name: VolumeName) -> Self {
        Self {
            name: Some(name),
            ..Self::anonymous()
        }
    }
}

impl MountOptions {
    /// Makes a source that starts with a dot absolute, as seen from the caller's `directory`; none if that was deleted.
    pub(crate) fn settle(&mut self, directory: Option<&Path>) -> Result<()> {
        if let Content::Bind(bind) = &mut self.content
            && bind
                .source
                .to_str()
                .is_some_and(|source| source.starts_with('.'))
        {
            bind.source = absolute(&bind.source, directory)?;
        }
        Ok(())
    }

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

/// How mounts spread between a source and the container (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Propagation {
    Private,
    #[default]
    Rprivate,
    Shared,
    Rshared,
    Slave,
    Rslave,
}

impl Propagation {
    /// Returns the mount option.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Rprivate => "rprivate",
            Self::Shared => "shared",
            Self::Rshared => "rshared",
            Self::Slave => "slave",
            Self::Rslave => "rslave",
        }
    }

    /// Tells whether mounts spread both ways.
    pub(crate) fn is_shared(self) -> bool {
        matches!(self, Self::Shared | Self::Rshared)
    }

    /// Tells whether mounts of the host spread into the container, and none back.
    pub(crate) fn is_slave(self) -> bool {
        matches!(self, Self::Slave | Self::Rslave)
    }
}

impl FromStr for Propagation {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "private" => Self::Private,
            "rprivate" => Self::Rprivate,
            "shared" => Self::Shared,
            "rshared" => Self::Rshared,
            "slave" => Self::Slave,
            "rslave" => Self::Rslave,
            _ => bail!("invalid propagation mode: {word}"),
        })
    }
}

/// Returns a mount's target as a plain absolute path, or says why nothing can be mounted there.
pub(crate) fn target(typed: &Path) -> Result<PathBuf> {
    ensure!(
        typed.is_absolute(),
        "invalid mount path: '{}' mount path must be absolute",
        typed.display()
    );
    let path = clean(typed);
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

/// Returns an absolute path without `.` and `..`, which are resolved by the letter, as Docker does it.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Returns a source that starts with a dot as seen from the caller's directory.
fn absolute(source: &Path, directory: Option<&Path>) -> Result<PathBuf> {
    let directory = directory.context("the current directory was deleted")?;
    // Collecting drops the dots that stand for nothing. `..` is for the kernel: what is before it may be a symlink.
    Ok(directory.join(source).components().collect())
}

/// Refuses two mounts at one place.
pub(crate) fn refuse_duplicates(mounts: &[MountOptions]) -> Result<()> {
    for (index, mount) in mounts.iter().enumerate() {
        let path = &mount.target;
        ensure!(
            mounts[..index].iter().all(|other| other.target != *path),
            "Duplicate mount point: {}",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::volume_flag::parse;

    #[test]
    fn sources_become_absolute() {
        for (source, expected) in [
            ("/a/../b/", "/a/../b/"),
            ("./a", "/here/a"),
            (".", "/here"),
            ("..", "/here/.."),
            ("../a/./b", "/here/../a/b"),
            (".hidden", "/here/.hidden"),
        ] {
            let mut mount = parse(&format!("{source}:/t")).unwrap();
            mount.settle(Some(Path::new("/here"))).unwrap();
            match mount.content {
                Content::Bind(bind) => assert_eq!(bind.source, Path::new(expected), "{source}"),
                other => panic!("{other:?}"),
            }
        }
        let mut relative = parse("./a:/t").unwrap();
        assert!(relative.settle(None).is_err());
        let mut absolute = parse("/a:/t").unwrap();
        assert!(absolute.settle(None).is_ok());
    }

    #[test]
    fn impossible_targets_are_refused() {
        for (typed, error) in [
            ("/", "invalid specification: destination can't be '/'"),
            ("/a/..", "invalid specification: destination can't be '/'"),
            (
                "/proc",
                "nothing can be mounted at `/proc`: `/proc` is the container's own",
            ),
            (
                "/x/../proc/sys",
                "nothing can be mounted at `/proc/sys`: `/proc` is the container's own",
            ),
            ("t", "invalid mount path: 't' mount path must be absolute"),
        ] {
            let refused = target(Path::new(typed)).unwrap_err();
            assert_eq!(refused.to_string(), error, "{typed}");
        }
    }

    #[test]
    fn two_mounts_at_one_place_are_refused() {
        let volume = |text| parse(text).unwrap();
        let tmpfs = || crate::options::tmpfs::parse("/x").unwrap();
        for mounts in [
            [volume("/tmp:/x"), volume("/var:/y/../x/")],
            [volume("/tmp:/x"), tmpfs()],
            [tmpfs(), tmpfs()],
        ] {
            let error = refuse_duplicates(&mounts).unwrap_err();
            assert_eq!(error.to_string(), "Duplicate mount point: /x");
        }
        refuse_duplicates(&[volume("/tmp:/x"), volume("/tmp:/y")]).unwrap();
    }

    #[test]
    fn dots_are_resolved_by_the_letter() {
        for (path, expected) in [
            ("/", "/"),
            ("//a/./b/", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/b/../..", "/"),
        ] {
            assert_eq!(clean(Path::new(path)).as_os_str(), expected, "{path}");
        }
    }
}
