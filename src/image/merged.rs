//! What stands at the paths that layers imply, seen as the layers are laid on each other one by one.
//!
//! A layer is asked about the paths that it can have: what it costs to lay it grows with what is in it, not with what all
//! the others imply.

use crate::image::effort::Effort;
use crate::store::LayerMeta;
use crate::sys::attributes;
use anyhow::{Context, Result};
use fs_err as fs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// So many names in a directory are asked for one by one. For more it is read: usually it has fewer of them than all the
/// other layers together.
const FEW: usize = 64;

/// What is seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
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
pub(super) struct Merged<'a> {
    effort: &'a Effort<'a>,
    /// By directory, the names in it that some layer implies.
    watched: HashMap<PathBuf, BTreeSet<OsString>>,
    /// What is seen at watched paths; nothing at those that are missing.
    seen: BTreeMap<PathBuf, Seen>,
    /// Among these are all directories that do not show what holds.
    doubtful: BTreeSet<PathBuf>,
}

impl<'a> Merged<'a> {
    /// Begins with nothing laid; `metas` are those of all layers, base first.
    pub(super) fn of<'b>(
        metas: impl Iterator<Item = &'b LayerMeta>,
        effort: &'a Effort<'a>,
    ) -> Result<Self> {
        let mut watched: HashMap<PathBuf, BTreeSet<OsString>> = HashMap::new();
        for (number, meta) in metas.enumerate() {
            // There is nothing below the base for its directories to take after.
            let implied = if number == 0 {
                &meta.bare
            } else {
                &meta.implied
            };
            for path in implied.iter().chain(&meta.with_whiteouts) {
                for path in path.ancestors() {
                    effort.look(path)?;
                    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
                        break;
                    };
                    let names = watched.entry(parent.to_owned()).or_default();
                    if !names.insert(name.to_owned()) {
                        // Those above it are there since it is.
                        break;
                    }
                }
            }
        }
        Ok(Self {
            effort,
            watched,
            seen: BTreeMap::new(),
            doubtful: BTreeSet::new(),
        })
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
                Some(Seen::Directory { holds, .. }) => return Some(holds.clone()),
                Some(Seen::Link(link)) => misfits.push(Misfit::Moved {
                    path: path.to_owned(),
                    link: link.clone(),
                }),
                None | Some(Seen::Other(_)) if bare.contains(path) => {
                    let hides = match before {
                        Some(Seen::Other(file)) => Some(file.clone()),
                        _ => None,
                    };
                    let path = path.to_owned();
                    misfits.push(Misfit::Bare { path, hides });
                }
                None | Some(Seen::Other(_)) => {}
            }
            None
        })?;
        // Parents first.
        misfits.sort_by(|one, other| one.path().cmp(other.path()));
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
    pub(super) fn stale(&mut self) -> Result<Vec<Stale>> {
        let mut stale = Vec::new();
        for path in std::mem::take(&mut self.doubtful) {
            let Some(Seen::Directory {
                holds,
                shown,
                ghosts,
            }) = self.seen.get_mut(&path)
            else {
                continue;
            };
            if !*ghosts && holds != shown {
                self.effort.look(&path)?;
                if is_alike(holds, shown)? {
                    // So that nobody asks again.
                    holds.clone_from(shown);
                }
            }
            if *ghosts || holds != shown {
                let holds = holds.clone();
                self.doubtful.insert(path.clone());
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
        mut inherited: impl FnMut(&Path, Option<&Seen>) -> Option<PathBuf>,
    ) -> Result<()> {
        // Those of the layer: no symbolic link is followed, and none is in the way.
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for path in self.candidates(layer, &directory)? {
                self.effort.look(&path)?;
                let own = layer.join(&path);
                let Some(found) = found(&own)? else {
                    continue;
                };
                let before = self.seen.remove(&path);
                let was_directory = matches!(before, Some(Seen::Directory { .. }));
                let merges = was_directory && matches!(found, Found::Directory { opaque: false });
                if was_directory && !merges {
                    self.forget_below(&path);
                }
                let seen = match found {
                    Found::Directory { .. } => {
                        let holds = inherited(&path, before.as_ref());
                        let holds = holds.unwrap_or_else(|| own.clone());
                        // A layer that is there twice is mounted once, and merged with no other self.
                        let was_ghost = matches!(&before, Some(Seen::Directory { shown, ghosts: true, .. }) if *shown == own);
                        let ghosts = (!merges || was_ghost) && with_whiteouts.contains(&*path);
                        if ghosts || holds != own {
                            self.doubtful.insert(path.clone());
                        }
                        directories.push(path.clone());
                        Seen::Directory {
                            holds,
                            shown: own,
                            ghosts,
                        }
                    }
                    Found::Whiteout => continue,
                    Found::Link => Seen::Link(own),
                    Found::Other => Seen::Other(own),
                };
                self.seen.insert(path, seen);
            }
        }
        Ok(())
    }

    /// Returns the watched paths in a directory of the layer, without those that it cannot have.
    fn candidates(&self, layer: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
        let Some(watched) = self.watched.get(directory) else {
            return Ok(Vec::new());
        };
        if watched.len() <= FEW {
            return Ok(watched.iter().map(|name| directory.join(name)).collect());
        }
        let mut candidates = Vec::new();
        for entry in fs::read_dir(layer.join(directory))? {
            self.effort.take(1)?;
            let name = entry?.file_name();
            if watched.contains(&name) {
                candidates.push(directory.join(name));
            }
        }
        Ok(candidates)
    }

    /// Forgets what was seen below `path`: it is hidden from now on.
    fn forget_below(&mut self, path: &Path) {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let after = self.seen.range::<Path, _>(after).map(|(path, _)| path);
        let below = after.take_while(|seen| seen.starts_with(path));
        let below: Vec<PathBuf> = below.cloned().collect();
        for path in below {
            self.seen.remove(&path);
        }
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
