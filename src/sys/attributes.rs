//! `attributes`: the extended attributes of a file that belong to an image, as they lie in the store.

use rustix::fd::AsFd;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Bytes of the longest list of names and of the largest value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LARGEST: usize = 65_536;

/// Returns the attributes of an open file or directory, without those of the host and of overlayfs.
pub(crate) fn read(file: impl AsFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut names = vec![0; LARGEST];
    let length = match rustix::fs::flistxattr(&file, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(found),
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if !is_of_image(name) {
            continue;
        }
        let mut value = vec![0; LARGEST];
        let length = rustix::fs::fgetxattr(&file, name, &mut value)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// Gives `to` the attributes that `from` has, and leaves it no others of an image.
pub(crate) fn copy(from: impl AsFd, to: impl AsFd) -> rustix::io::Result<()> {
    let (wanted, there) = (read(from)?, read(&to)?);
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        rustix::fs::fremovexattr(&to, &name[..])?;
    }
    for (name, value) in &wanted {
        rustix::fs::fsetxattr(&to, &name[..], value, XattrFlags::empty())?;
    }
    Ok(())
}

fn is_of_image(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}
