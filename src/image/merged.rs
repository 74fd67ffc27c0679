//! What stands at the paths that layers imply, seen as the layers are laid on each other one by one.

use crate::store::LayerMeta;
use crate::sys::attributes;
use anyhow::{Context, Result};
use fs_err as fs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What is seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Nothing,
    Directory {
        /// The directory in a layer whose owner, mode, times and attributes hold.
        holds: PathBuf,
        /// The one in the topmost layer that has the path: overlayfs shows that one's.
        shown: PathBuf,
        /// Whiteouts in it are seen as names of nothing: overlayfs takes them out where it merges directories, and this
        /// is the only one.
        ghosts: bool,
    },
    /// A symbolic link, in this layer.
    Link(PathBuf),
    /// Something else, in this layer.
    Other(PathBuf),
}

/// A directory that a layer implies and that must not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misfit {
    /// What the layer has in it belongs where the symbolic link below leads to.
    Moved { path: PathBuf, link: PathBuf },
    /// It holds nothing but whiteouts of what never was; perhaps it hides a file.
    Bare {
        path: PathBuf,
        hides: Option<PathBuf>,
    },
}

/// A directory that shows other metadata than holds, or ghosts: it must be in the fix-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) path: PathBuf,
    /// The directory to take it from.
    pub(super) holds: PathBuf,
}

/// The paths that some layer implies, and what is seen there.
#[derive(Debug)]
pub(super) struct Merged {
    /// Parents first.
    paths: BTreeMap<PathBuf, Seen>,
}

impl Merged {
    /// Begins with nothing laid; `metas` are those of all layers, base first.
    pub(super) fn of<'a>(metas: impl Iterator<Item = &'a LayerMeta>) -> Self {
        let mut paths = BTreeMap::new();
        for (number, meta) in metas.enumerate() {
            // There is nothing below the base for its directories to take after.
            let implied = if number == 0 {
                &meta.bare
            } else {
                &meta.implied
            };
            let needed = implied.iter().chain(&meta.with_whiteouts);
            let needed = needed.flat_map(|path| path.ancestors());
            let needed = needed.filter(|path| !path.as_os_str().is_empty());
            paths.extend(needed.map(|path| (path.to_owned(), Seen::Nothing)));
        }
        Self { paths }
    }

    /// Lays a layer on those below; returns the directories that it should not have.
    pub(super) fn lay(&mut self, layer: &Path, meta: &LayerMeta) -> Result<Vec<Misfit>> {
        let implied: HashSet<&Path> = meta.implied.iter().map(PathBuf::as_path).collect();
        let bare: HashSet<&Path> = meta.bare.iter().map(PathBuf::as_path).collect();
        let with_whiteouts: HashSet<&Path> =
            meta.with_whiteouts.iter().map(PathBuf::as_path).collect();
        let mut misfits = Vec::new();
        self.lay_with(layer, &with_whiteouts, |path, before| {
            if !implied.contains(path) {
                return None;
            }
            match before {
                Seen::Directory { holds, .. } => return Some(holds.clone()),
                Seen::Link(link) => misfits.push(Misfit::Moved {
                    path: path.to_owned(),
                    link: link.clone(),
                }),
                Seen::Nothing | Seen::Other(_) if bare.contains(path) => {
                    let hides = match before {
                        Seen::Other(file) => Some(file.clone()),
                        _ => None,
                    };
                    let path = path.to_owned();
                    misfits.push(Misfit::Bare { path, hides });
                }
                Seen::Nothing | Seen::Other(_) => {}
            }
            None
        })?;
        // What is below one of them goes with it.
        let all: BTreeSet<PathBuf> = misfits
            .iter()
            .map(|misfit| misfit.path().to_owned())
            .collect();
        misfits.retain(|misfit| {
            let mut above = misfit.path().ancestors().skip(1);
            !above.any(|path| all.contains(path))
        });
        Ok(misfits)
    }

    /// Lays a directory that implies nothing: what it says is so.
    pub(super) fn lay_fixup(&mut self, directory: &Path) -> Result<()> {
        self.lay_with(directory, &HashSet::new(), |_, _| None)
    }

    /// Returns the directories that would show another owner, mode, time or attributes than they should.
    pub(super) fn stale(&self) -> Result<Vec<Stale>> {
        let mut stale = Vec::new();
        for (path, seen) in &self.paths {
            let Seen::Directory {
                holds,
                shown,
                ghosts,
            } = seen
            else {
                continue;
            };
            if *ghosts || holds != shown && !is_alike(holds, shown)? {
                let (path, holds) = (path.clone(), holds.clone());
                stale.push(Stale { path, holds });
            }
        }
        Ok(stale)
    }

    /// `inherited` returns the directory whose metadata holds for one of the layer, if it is not its own.
    fn lay_with(
        &mut self,
        layer: &Path,
        with_whiteouts: &HashSet<&Path>,
        mut inherited: impl FnMut(&Path, &Seen) -> Option<PathBuf>,
    ) -> Result<()> {
        // Directories of this layer; and those where nothing of the layers below is seen.
        let (mut present, mut hiding) = (HashSet::new(), HashSet::new());
        let mut now: BTreeMap<PathBuf, Seen> = BTreeMap::new();
        for (path, before) in &self.paths {
            let parent = path.parent().unwrap_or(Path::new(""));
            let is_top = parent.as_os_str().is_empty();
            let has_parent = is_top || matches!(now.get(parent), Some(Seen::Directory { .. }));
            let before = if has_parent && !hiding.contains(parent) {
                before.clone()
            } else {
                Seen::Nothing
            };
            let own = layer.join(path);
            // Only below directories that were seen to be some: no symbolic link is followed.
            let found = if is_top || present.contains(parent) {
                found(&own)?
            } else {
                None
            };
            let seen = match found {
                None => before,
                Some(Found::Directory { opaque }) => {
                    present.insert(path.as_path());
                    let is_alone = opaque || !matches!(before, Seen::Directory { .. });
                    if is_alone {
                        hiding.insert(path.as_path());
                    }
                    let holds = inherited(path, &before).unwrap_or_else(|| own.clone());
                    // A layer that is there twice is mounted once, and merged with no other self.
                    let was_ghost = matches!(&before, Seen::Directory { shown, ghosts: true, .. } if *shown == own);
                    let ghosts = (is_alone || was_ghost) && with_whiteouts.contains(&**path);
                    Seen::Directory {
                        holds,
                        shown: own,
                        ghosts,
                    }
                }
                Some(Found::Whiteout) => Seen::Nothing,
                Some(Found::Link) => Seen::Link(own),
                Some(Found::Other) => Seen::Other(own),
            };
            now.insert(path.clone(), seen);
        }
        self.paths = now;
        Ok(())
    }
}

impl Misfit {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Moved { path, .. } | Self::Bare { path, .. } => path,
        }
    }
}

/// What one layer has at a path.
enum Found {
    Directory { opaque: bool },
    Link,
    Whiteout,
    Other,
}

fn found(path: &Path) -> Result<Option<Found>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = metadata.file_type();
    Ok(Some(if kind.is_dir() {
        let opaque = is_opaque(path)?;
        Found::Directory { opaque }
    } else if kind.is_symlink() {
        Found::Link
    } else if kind.is_char_device() && metadata.rdev() == 0 {
        Found::Whiteout
    } else {
        Found::Other
    }))
}

/// Tells whether overlayfs shows nothing of lower directories in this one. An image cannot bring either attribute.
pub(super) fn is_opaque(directory: &Path) -> Result<bool> {
    for attribute in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        match rustix::fs::lgetxattr(directory, attribute, &mut [0_u8; 8][..]) {
            Ok(_) => return Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("reading `{attribute}` of `{}`", directory.display())
                });
            }
        }
    }
    Ok(false)
}

fn is_alike(one: &Path, other: &Path) -> Result<bool> {
    let facts = |path: &Path| -> Result<_> {
        let directory = open_directory(path)?;
        let stat = rustix::fs::fstat(&directory)?;
        let attributes = attributes::read(&directory)
            .with_context(|| format!("reading the attributes of `{}`", path.display()))?;
        let times = (stat.st_mtime, stat.st_mtime_nsec);
        Ok((stat.st_uid, stat.st_gid, stat.st_mode, times, attributes))
    };
    Ok(facts(one)? == facts(other)?)
}

/// Opens a directory of a layer by its path in the store.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("opening `{}`", path.display()))
}
