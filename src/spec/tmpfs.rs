//! What of a tmpfs depends on whose container it is in, and on what it covers.

use crate::options::Content;
use crate::spec::gather::Wanted;
use crate::spec::host::Host;
use crate::spec::point::MountPoint;
use crate::spec::tree;
use crate::spec::user::{Kind, check_mapped};
use anyhow::Result;
use std::os::fd::BorrowedFd;

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

/// Looks for the modes of the image's directories that tmpfs cover: what is private stays so, however often the container
/// starts.
pub(super) fn find_covered(
    wanted: &mut [Wanted],
    mounted: &[MountPoint],
    root: BorrowedFd<'_>,
) -> Result<()> {
    for Wanted {
        options, covered, ..
    } in wanted
    {
        if !matches!(options.content, Content::Tmpfs(_)) {
            continue;
        }
        let before = mounted.iter().find(|point| point.target == options.target);
        *covered = if let Some(point) = before {
            point.covered
        } else {
            let found = tree::find(root, &options.target)?;
            let found = found.filter(|entry| !entry.is_file());
            found.map(|directory| directory.mode())
        };
    }
    Ok(())
}

/// Returns the option by which a tmpfs has the mode of what it covers, unless another is asked for.
pub(super) fn mode(options: &[String], covered: Option<u32>) -> Option<String> {
    let mut options = options.iter();
    let is_asked = options.any(|option| option.starts_with("mode="));
    let mode = covered.filter(|_| !is_asked);
    mode.map(|mode| format!("mode={mode:o}"))
}
