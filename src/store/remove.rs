//! A store as a whole: given to other IDs while it is empty, and removed.

use crate::store::Store;
use crate::store::create::{REMOVED, clear_removed};
use crate::store::layout::Layout;
use crate::store::lock::{lock, random_name};
use crate::store::stage::sync_directory;
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use std::io;
use std::path::Path;

impl Store {
    /// Makes `mapping` the store's own, if nothing is in it yet that belongs to the IDs of another; tells whether it did.
    pub(crate) fn adopt(&self, mapping: &str) -> Result<bool> {
        let _exclusive = self.exclusive()?;
        for directory in self.layout.owned() {
            match fs::read_dir(directory) {
                Ok(mut entries) => {
                    if entries.next().is_some() {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.write_durably(&self.layout.mapping(), format!("{mapping}\n").as_bytes())?;
        Ok(true)
    }

    /// Removes the store at `root`, whose containers have ended, and what is left of others that were removed before; then
    /// `root` itself if nothing else is in it.
    ///
    /// In one step there is no store any more. What cannot be removed after that is an error, and in nobody's way.
    pub(crate) fn remove(root: &Path) -> Result<()> {
        let layout = Layout::at_root(root);
        let directory = fs::File::open(root)?;
        lock(&directory, root)?;
        if layout.version().try_exists()? {
            ensure!(
                layout.mapping().try_exists()?,
                "`{}` is no ddock store",
                layout.version().display()
            );
            let store = Self { layout };
            let _exclusive = store.exclusive()?;
            let hidden = root.join(format!("{REMOVED}{}", random_name()));
            fs::rename(store.layout.version(), hidden)?;
            sync_directory(root)?;
        }
        clear_removed(root)?;
        // Somebody else's files, or a place where something is mounted, may stay.
        fs::remove_dir(root).ok();
        Ok(())
    }

    /// Tells whether there is a store at `root`, or something left of one, or in the place of one.
    pub(crate) fn remains(root: &Path) -> Result<bool> {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.context("looking for the store")?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let is_removed = name.as_encoded_bytes().starts_with(REMOVED.as_bytes());
            if is_removed || Layout::at_root(root).version().ends_with(&name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
