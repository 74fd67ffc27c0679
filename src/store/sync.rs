//! Syncing: what was written to a tree, on disk.

use crate::sys::writeback;
use anyhow::{Context as _, Result};
use fs_err as fs;
use std::path::{Path, PathBuf};

/// Files and directories of the largest tree whose parts are synced one by one.
///
/// syncfs(2) writes a tree of any size in one go, and with it what all others wrote to the file system: it was seen to take
/// 8 s for 2 MB beside somebody who writes an archive. fsync(2) waits for the one file, and costs a commit of the journal
/// each: 14 ms on a slow ext4, but 1 ms when all pages are written before the first one, whose commit then takes the others
/// along. So 50 files take 0.2 s, whether somebody else writes or not (syncfs 0.01 and 0.7 s), and 1,000 would take 1.0 s, and
/// 8 s beside a writer (syncfs 0.04 and 0.5 s).
const FEW: usize = 64;

/// Writes a tree to disk, its directories too.
pub(super) fn tree(top: &Path) -> Result<()> {
    let Some(paths) = few(top)? else {
        return rustix::fs::syncfs(fs::File::open(top)?)
            .with_context(|| format!("syncing the file system of `{}`", top.display()));
    };
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let file = fs::File::open(path)?;
        writeback::write_pages(&file, false);
        files.push(file);
    }
    for file in &files {
        writeback::write_pages(file, true);
    }
    for file in files {
        file.sync_all()?;
    }
    Ok(())
}

/// Returns the regular files and directories of a tree, a directory after what is in it; `None` if there are many.
fn few(top: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if !fs::symlink_metadata(&path)?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Links, devices and sockets hold nothing: they are names in their directory.
            if kind.is_dir() || kind.is_file() {
                found.push(entry.path());
            }
            if found.len() > FEW {
                return Ok(None);
            }
        }
    }
    found.reverse();
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_tree_is_synced_file_by_file_from_below() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        fs_err::os::unix::fs::symlink("nowhere", top.join("link")).unwrap();
        let names = ["a/b/file", "a/b", "a", ""].map(|name| top.join(name));
        assert_eq!(few(top).unwrap().unwrap(), names);
        tree(top).unwrap();
        for number in 0..FEW {
            fs::write(top.join(number.to_string()), "").unwrap();
        }
        assert_eq!(few(top).unwrap(), None);
        tree(top).unwrap();
    }
}
