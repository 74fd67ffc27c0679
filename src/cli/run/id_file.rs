//! `--cidfile`: where the ID of a new container is written for others.

use crate::cli::failure::Refusal;
use crate::sys::caller;
use anyhow::{Context, Result};
use fs_err as fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// `--cidfile`: taken before anything is done, and removed again if no container comes to be.
pub(super) struct IdFile {
    path: PathBuf,
    file: fs::File,
    is_written: bool,
}

impl IdFile {
    pub(super) fn create(path: &Path) -> Result<Self> {
        match caller::as_caller(|| fs::File::create_new(path)) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
                is_written: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Refusal::new(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))
            .into()),
            Err(error) => Err(error).context("creating the container ID file"),
        }
    }

    pub(super) fn write(&mut self, id: &str) -> Result<()> {
        self.is_written = true;
        Ok(self.file.write_all(id.as_bytes())?)
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.is_written {
            // What is in the way is told when the next run finds it.
            fs::remove_file(&self.path).ok();
        }
    }
}
