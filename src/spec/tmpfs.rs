//! What of a tmpfs depends on whose container it is in, and on what it covers.

use crate::spec::host::Host;
use crate::spec::tree;
use crate::spec::user::{Kind, check_mapped};
use anyhow::Result;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Refuses to make a tmpfs the property of who is not there in an ordinary user's container: the kernel says no more of it
/// than that a value is wrong.
pub(super) fn refuse_unmapped(options: &[String], host: &Host) -> Result<()> {
    let Some(mapping) = host.mapping else {
        return Ok(());
    };
    for option in options {
        let (kind, id) = match option.split_once('=') {
            Some(("uid", id)) => (Kind::User, id),
            Some(("gid", id)) => (Kind::Group, id),
            _ => continue,
        };
        // What is no number the kernel refuses.
        if let Ok(id) = id.parse() {
            check_mapped(kind, id, mapping)?;
        }
    }
    Ok(())
}

/// Returns the mode of the image's directory that a tmpfs covers, unless another is asked for: what is private stays so.
pub(super) fn covered_mode(
    options: &[String],
    target: &Path,
    root: BorrowedFd<'_>,
) -> Result<Option<String>> {
    if options.iter().any(|option| option.starts_with("mode=")) {
        return Ok(None);
    }
    let found = tree::find(root, target)?.filter(|entry| !entry.is_file());
    Ok(found.map(|directory| format!("mode={:o}", directory.mode())))
}
