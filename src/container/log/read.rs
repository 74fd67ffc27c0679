//! Reading a log, also while it is written and rotated.

use crate::container::log::{Entry, file};
use anyhow::{Context, Result};
use fs_err as fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many old files are looked for; `--log-opt max-file` is at most this.
pub(crate) const MAX_FILES: u32 = 1000;

/// A log, from its oldest entry on.
pub(crate) struct Reader {
    directory: PathBuf,
    file: Option<BufReader<fs::File>>,
    /// The beginning of an entry whose end is not written yet.
    begun: Vec<u8>,
}

impl Reader {
    pub(crate) fn open(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            file: None,
            begun: Vec::new(),
        }
    }

    /// Returns the next entry; `None` where the log ends for now.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entry()? {
                return Ok(Some(entry));
            }
            let Some(next) = self.newer()? else {
                return Ok(None);
            };
            // Once there is a newer file nothing is written to this one: what came since the look above is the last of it.
            if let Some(entry) = self.entry()? {
                return Ok(Some(entry));
            }
            self.begun.clear();
            self.file = Some(BufReader::new(next));
        }
    }

    /// Reads an entry of the file that is open.
    fn entry(&mut self) -> Result<Option<Entry>> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        file.read_until(b'\n', &mut self.begun)
            .context("reading the log")?;
        if !self.begun.ends_with(b"\n") {
            return Ok(None);
        }
        let entry = serde_json::from_slice(&self.begun).context("reading the log")?;
        self.begun.clear();
        Ok(Some(entry))
    }

    /// Opens the file after the one that is open: the oldest if that is none, or is gone.
    fn newer(&self) -> Result<Option<fs::File>> {
        loop {
            let place = self.place()?;
            let next = match place {
                Some(0) => return Ok(None),
                Some(age) => Some(age - 1),
                None => self.oldest()?,
            };
            let Some(next) = next else {
                return Ok(None);
            };
            match fs::File::open(file(&self.directory, next)) {
                // A rotation in between would have made it another file than the next.
                Ok(file) if self.place()? == place => return Ok(Some(file)),
                Ok(_) => {}
                // Where a rotation is on its way the next file comes to be in a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns how many rotations ago the open file was written. Files only grow older, so that looking from the
    /// newest on finds it wherever it goes meanwhile.
    fn place(&self) -> Result<Option<u32>> {
        let Some(open) = &self.file else {
            return Ok(None);
        };
        let ours = identity(&open.get_ref().metadata()?);
        let files = self.files()?;
        let ours = files.iter().find(|(_, identity)| *identity == ours);
        Ok(ours.map(|(age, _)| *age))
    }

    fn oldest(&self) -> Result<Option<u32>> {
        Ok(self.files()?.last().map(|(age, _)| *age))
    }

    /// Returns the files that are there, the newest first, each with its place in the order and which file it is.
    fn files(&self) -> Result<Vec<(u32, (u64, u64))>> {
        let mut files = Vec::new();
        let mut missing = 0;
        for age in 0..MAX_FILES {
            match fs::metadata(file(&self.directory, age)) {
                Ok(found) => {
                    missing = 0;
                    files.push((age, identity(&found)));
                }
                // In the middle of a rotation one name is free.
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
                Err(error) => return Err(error.into()),
            }
            if missing > 1 {
                break;
            }
        }
        Ok(files)
    }
}

fn identity(file: &std::fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
