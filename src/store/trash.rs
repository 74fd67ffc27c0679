//! Trash: what leaves the store, out of sight under the lock and removed once that is given up.

use crate::store::Store;
use crate::store::lock::{Exclusive, missing_is_fine, random_name};
use crate::store::stage::Stage;
use anyhow::Result;
use fs_err as fs;
use std::io;
use std::path::Path;

/// What was moved away. That takes no room, or nobody could make any on a full disk: the first directory is itself the one
/// in `tmp/` that the others are moved into.
#[derive(Default)]
pub(super) struct Trash(Option<Stage>);

impl Trash {
    /// Moves a file or a directory of the store's away; false if it is not there. A file that comes before any directory is
    /// removed: such are small.
    pub(super) fn take(&mut self, store: &Store, _: &Exclusive, path: &Path) -> Result<bool> {
        let Some(heap) = &self.0 else {
            let metadata = match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                metadata => metadata?,
            };
            if metadata.is_dir() {
                self.0 = Some(Stage::of(store, path)?);
            } else {
                fs::remove_file(path).or_else(missing_is_fine)?;
            }
            return Ok(true);
        };
        match fs::rename(path, heap.path(&random_name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            moved => Ok(moved.map(|()| true)?),
        }
    }

    /// Removes all of it, for callers to whom it matters that this worked.
    pub(super) fn remove(self) -> Result<()> {
        self.0.map_or(Ok(()), Stage::remove)
    }
}
