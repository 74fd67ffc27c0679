//! Where processes that serve a container are counted: what they use of the processors, the container caused.
//!
//! Only that. On v1 the hierarchies of `cpu` and `cpuset` are entered and no other, so that the limits of memory and
//! processes are the container's alone, its processes are all that a freezer or a list of them finds, and nothing of
//! the container's can kill who serves it. On v2 there is one directory for everything: there they are in one beside the
//! container's, with the same limits of processors, so that both together have twice of it at most.

use super::{Cgroup, Version, end, setting, unavailable};
use anyhow::{Context as _, Result};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What limits processors on v2 (cgroup-v2.rst), and what it says without a limit.
const LIMITS: [(&str, &str); 3] = [
    ("cpu.max", "max 100000"),
    ("cpu.weight", "100"),
    ("cpuset.cpus", ""),
];

impl Cgroup {
    /// Opens the way in for processes that serve the container: files in which each writes `0`, having one thread. There
    /// are none where its processors are not limited.
    pub(crate) fn servants_entrance(&self) -> Result<Vec<OwnedFd>> {
        let file = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        let mut directories = Vec::new();
        for joined in &self.hierarchies {
            match self.version {
                Version::V1 if counts_processors(&joined.name) => {
                    directories.push(joined.directory.clone());
                }
                Version::V1 => {}
                Version::V2 => {
                    directories.extend(make_beside(&joined.directory).with_context(|| {
                        format!("limiting who serves `{}`", joined.directory.display())
                    })?);
                }
            }
        }
        let open = |directory: &PathBuf| {
            let path = directory.join(file);
            let file = fs_err::OpenOptions::new().write(true).open(path)?;
            Ok(file.into_file().into())
        };
        directories.iter().map(open).collect()
    }

    /// Kills who serves the container still, and removes what was made for them.
    pub(super) fn remove_servants(&self, patience: Duration) -> Result<()> {
        for joined in &self.hierarchies {
            match self.version {
                Version::V1 if counts_processors(&joined.name) => {
                    end::kill(&joined.directory, &self.path, patience)?;
                }
                Version::V1 => {}
                Version::V2 => {
                    let beside = beside(&joined.directory);
                    if beside.is_dir() {
                        end::kill(&beside, &self.path, patience)?;
                        end::remove(&beside, patience)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Tells whether a v1 hierarchy, its controllers separated by commas, limits processors.
fn counts_processors(hierarchy: &str) -> bool {
    hierarchy
        .split(',')
        .any(|it| ["cpu", "cpuset"].contains(&it))
}

fn beside(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push("-servants");
    name.into()
}

/// Makes the directory beside a v2 cgroup, if that limits processors.
fn make_beside(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut limits = Vec::new();
    for (file, free) in LIMITS {
        // Without the controller there is no limit either.
        let value = fs_err::read_to_string(directory.join(file)).unwrap_or_default();
        if !value.trim().is_empty() && value.trim() != free {
            limits.push((file, value.trim().to_owned()));
        }
    }
    if limits.is_empty() {
        return Ok(None);
    }
    let beside = beside(directory);
    match super::make_directory(&beside) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return unavailable(error).map(|()| None),
        Ok(()) => {}
    }
    for (file, value) in limits {
        setting::overwrite(&beside.join(file), &value)?;
    }
    Ok(Some(beside))
}
