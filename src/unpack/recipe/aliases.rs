//! What was kept for the recipe and is also among the layer's files, by another name: there is no need to keep it, and it
//! would be one more hard link than the layer says.

use crate::unpack::{name, walk};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;

/// Bytes of paths that are remembered. A layer that needs more of them was made for that.
const MAX_MEMORY: usize = 64 << 20;

/// Removes what is in `kept` and in `layer`. Returns for each file removed the path it had in `kept` and the one in `layer`.
pub(crate) fn unlink(
    kept: &OwnedFd,
    layer: &OwnedFd,
) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut doubles: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
    let mut memory = 0;
    walk::links(kept, |path, stat| {
        memory += path.len() + size_of::<Vec<u8>>();
        if memory > MAX_MEMORY {
            return Err(Errno::NOMEM);
        }
        doubles.entry(stat.st_ino).or_default().push(path);
        Ok(())
    })?;
    let mut aliases = Vec::new();
    if doubles.is_empty() {
        return Ok(aliases);
    }
    walk::links(layer, |path, stat| {
        for double in doubles.remove(&stat.st_ino).unwrap_or_default() {
            let (parent, name) = name::split(&double);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = if parent.is_empty() { b"." } else { parent };
            let parent = rustix::fs::openat2(kept, parent, flags, Mode::empty(), walk::INSIDE)?;
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            aliases.push((double, path.clone()));
        }
        Ok(())
    })?;
    Ok(aliases)
}
