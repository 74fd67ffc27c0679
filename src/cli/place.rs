//! Which store a command works on, and as whom.

use crate::store::Store;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use std::env;
use std::path::{Path, PathBuf};

/// Returns where the store is when nobody says: the system's as root, else the user's data directory
/// (XDG Base Directory Specification: a path that is not absolute is ignored).
pub(crate) fn default_root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/ddock"));
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("ddock"))
        .context("no place for the store: neither --root, DDOCK_ROOT nor HOME is set")
}

/// Enters the user namespace that owns the store's files, if there is one, and opens the store at
/// `root`; makes it if it is not there. This process must have one thread still.
pub(crate) fn enter(root: &Path) -> Result<(Store, Mapping)> {
    let mapping = Mapping::of_caller();
    mapping.enter()?;
    Ok((Store::open(root, &mapping.to_string())?, mapping))
}

/// As [`enter`], but makes no store: `None` if there is none.
pub(crate) fn enter_existing(root: &Path) -> Result<Option<Store>> {
    Ok(enter_existing_mapped(root)?.map(|(store, _)| store))
}

/// As [`enter_existing`], and says as whom.
pub(crate) fn enter_existing_mapped(root: &Path) -> Result<Option<(Store, Mapping)>> {
    if Store::exists(root)? {
        enter(root).map(Some)
    } else {
        Ok(None)
    }
}

/// Opens the store at `root` for reading what this user may read; `None` if there is none.
pub(crate) fn existing(root: &Path) -> Result<Option<Store>> {
    if Store::exists(root)? {
        Store::open(root, &Mapping::of_caller().to_string()).map(Some)
    } else {
        Ok(None)
    }
}
