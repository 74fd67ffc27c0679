//! Walking through a tree that is not trusted: every directory opened below the root by the kernel, no link followed.

use crate::unpack::name;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;

/// Bytes for directory entries: some 1,000 names a system call.
const ENTRIES_SIZE: usize = 32 << 10;

/// How a path of a layer is opened, so that it leads nowhere else.
pub(crate) const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens something for reading so that its time of access stays what the layer says. Who does not own it may not ask for
/// that (open(2), `O_NOATIME`); a file that was given away is to be read all the same.
pub(crate) fn untouched(
    open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

/// An open directory and the names in it.
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) names: BTreeSet<Vec<u8>>,
}

/// Opens the directory at `path` below `root`, which is the empty path, and reads the names in it.
pub(crate) fn open(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<Directory> {
    let path = if path.is_empty() { b"." } else { path };
    let fd = untouched(|flags| {
        let flags = flags | OFlags::DIRECTORY;
        rustix::fs::openat2(root, path, flags, Mode::empty(), INSIDE)
    })?;
    let mut buffer = Vec::with_capacity(ENTRIES_SIZE);
    let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
    let mut names = BTreeSet::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(Directory { fd, names })
}

/// Calls `visit` for each regular file below `root` that has several names, once a name.
pub(crate) fn links(
    root: &OwnedFd,
    mut visit: impl FnMut(Vec<u8>, &Stat) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mut rest = vec![Vec::new()];
    while let Some(path) = rest.pop() {
        let directory = open(root, &path)?;
        for name in &directory.names {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(&directory.fd, name.as_slice(), flags)?;
            let path = name::join(&path, name);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => rest.push(path),
                FileType::RegularFile if stat.st_nlink > 1 => visit(path, &stat)?,
                _ => {}
            }
        }
    }
    Ok(())
}
