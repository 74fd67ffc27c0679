//! Where the store is when nobody says.

use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

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
