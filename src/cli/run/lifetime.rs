//! What is done around a container's command, as the flags of `ddock run` ask for it.

use crate::cli::failure::Refusal;
use crate::container::{Log, Stop};
use crate::sys::{caller, file};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a container lives, its streams aside.
#[derive(Debug)]
pub(super) struct Lifetime {
    /// `--cidfile`
    pub(super) cidfile: Option<PathBuf>,
    /// `--init`
    pub(super) init: bool,
    /// `--preserve-fds` and `--preserve-fd`, by number.
    pub(super) handed: BTreeSet<RawFd>,
    pub(super) log: Log,
    pub(super) stop: Stop,
    /// `--timeout`
    pub(super) timeout: Option<Duration>,
    pub(super) labels: Labels,
    /// `--annotation`, in order.
    pub(super) annotations: Vec<String>,
    /// `--replace`
    pub(super) replace: bool,
}

/// `--label-file` and `--label`, each in order.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) files: Vec<PathBuf>,
    pub(super) given: Vec<String>,
}

impl Labels {
    /// Returns the labels, where those on the command line count before those of files.
    pub(super) fn read(&self) -> Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for path in &self.files {
            let text = file::read_given_to_string(path).context("reading labels")?;
            let lines = text.lines().map(str::trim_start);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            labels.extend(pairs("label", lines)?);
        }
        labels.extend(pairs("label", self.given.iter().map(String::as_str))?);
        Ok(labels)
    }
}

/// Returns `KEY[=VALUE]` texts as pairs.
pub(super) fn pairs<'a>(
    what: &str,
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.trim().is_empty() {
            bail!("invalid {what} '{text}': empty name");
        }
        pairs.insert(key.to_owned(), value.to_owned());
    }
    Ok(pairs)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_command_line_count_before_those_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("labels");
        fs::write(&file, "# comment\n\n  a=1\nb = x \nc\n").unwrap();
        let labels = Labels {
            files: vec![file],
            given: vec!["a=2=3".to_owned(), "d".to_owned()],
        };
        let labels: Vec<_> = labels.read().unwrap().into_iter().collect();
        let expected = [("a", "2=3"), ("b ", " x "), ("c", ""), ("d", "")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(labels, expected);
        let error = pairs("label", ["=x"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid label '=x': empty name");
    }
}
