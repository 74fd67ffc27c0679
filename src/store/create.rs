//! Creating a store: complete in a directory beside it, then renamed, so that there is never half a store.

use crate::store::layout::{Layout, VERSION};
use crate::store::lock::{lock, random_name};
use crate::store::stage::{remove_tree, sync_directory};
use crate::store::{Facts, probe};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use rustix::fs::Mode;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What a store in the making is called. One that is found under the root's lock has lost its maker.
const UNFINISHED: &str = ".unfinished-";

/// What a store is called that is being removed, and what stays of it if that does not come to its end.
pub(super) const REMOVED: &str = ".removed-";

/// Creates the store that `layout` describes in `root`, or waits for another process that does.
pub(super) fn create(root: &Path, layout: &Layout, mapping: &str) -> Result<()> {
    // Not fs_err's: the directory must be closed to others from the first moment on.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .with_context(|| format!("creating directory `{}`", root.display()))?;
    let directory = fs::File::open(root)?;
    lock(&directory, root)?;
    if layout.version().exists() {
        return Ok(());
    }
    clear(root)?;
    // What belongs to IDs that the user has no more is in nobody's way; `system reset` told of it.
    clear_removed(root).ok();
    let unfinished = root.join(format!("{UNFINISHED}{}", random_name()));
    rustix::fs::mkdir(&unfinished, Mode::RWXU)
        .with_context(|| format!("creating directory `{}`", unfinished.display()))?;
    let created = fill(&unfinished, mapping).and_then(|()| {
        fs::rename(&unfinished, layout.version())?;
        Ok(sync_directory(root)?)
    });
    if created.is_err() {
        // The first error is the one to tell.
        remove_tree(&unfinished).ok();
    }
    created
}

/// Removes what is left in `root` of stores that were removed; tries all before it fails.
pub(super) fn clear_removed(root: &Path) -> Result<()> {
    let mut result = Ok(());
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(REMOVED.as_bytes()) {
            result = result.and(remove_tree(&path));
        }
    }
    result
}

/// Removes what creators that died left, and refuses a directory that a newer ddock works in.
fn clear(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        if name.starts_with(UNFINISHED) {
            remove_tree(&path)?;
        }
        let version = name
            .strip_prefix('v')
            .and_then(|number| number.parse::<u32>().ok());
        ensure!(
            version.is_none_or(|version| version < VERSION),
            "`{}` was made by a newer ddock: update ddock or use another --root",
            path.display()
        );
    }
    Ok(())
}

fn fill(directory: &Path, mapping: &str) -> Result<()> {
    let layout = Layout::in_directory(directory);
    for path in layout.directories() {
        fs::create_dir(path)?;
    }
    let facts: Facts = probe::probe(&layout, mapping)?;
    let facts = serde_json::to_vec_pretty(&facts).context("writing down what was found")?;
    fs::write(layout.facts(), facts)?;
    fs::write(layout.lock(), "")?;
    fs::write(layout.mapping(), format!("{mapping}\n"))?;
    let handle = fs::File::open(directory)?;
    rustix::fs::syncfs(&handle).context("syncing the store")
}
