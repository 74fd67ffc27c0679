//! `tree`: removes directory trees, of any depth and with any modes, and nothing else.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;

/// Size of the buffer for directory entries: some 1,000 names a system call.
const ENTRIES_SIZE: usize = 32 << 10;

/// A directory's device and inode.
type Identity = (u64, u64);

/// Removes `name` in `parent`, with all it holds if it is a directory. What does not exist is no error.
///
/// No symbolic link is followed and no mount is crossed. Two descriptors are open at a time, however deep the
/// tree: an image can hold trees that `std::fs::remove_dir_all` cannot remove for lack of descriptors.
/// Directories that their owner may not write to are made writable first.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        // POSIX says EPERM, Linux EISDIR (unlink(2)).
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(unless_missing(other)?),
    }
    let Some((top, identity)) = open(parent, name)? else {
        return Ok(());
    };
    remove_contents(top, identity)?;
    let removed = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    Ok(unless_missing(removed)?)
}

/// Empties `directory`, walking down into what is not empty and up again by `..`.
fn remove_contents(mut directory: OwnedFd, mut here: Identity) -> io::Result<()> {
    // Where to go back to: the directory above, and the name there of the one below it.
    let mut above: Vec<(Identity, CString)> = Vec::new();
    let mut buffer = Vec::<u8>::with_capacity(ENTRIES_SIZE);
    loop {
        if let Some(name) = remove_shallow(&directory, buffer.spare_capacity_mut())? {
            if let Some((below, identity)) = open(directory.as_fd(), &name)? {
                above.push((here, name));
                (directory, here) = (below, identity);
            } else {
                rewind(&directory)?;
            }
            continue;
        }
        let Some((expected, name)) = above.pop() else {
            return Ok(());
        };
        let up = rustix::fs::openat(&directory, "..", FLAGS, Mode::empty())?;
        if identity(&rustix::fs::fstat(&up)?) != expected {
            return Err(io::Error::other(
                "a directory was moved while it was removed",
            ));
        }
        unless_missing(rustix::fs::unlinkat(&up, &name, AtFlags::REMOVEDIR))?;
        (directory, here) = (up, expected);
    }
}

/// Removes what can be removed from `directory` at once, until it is empty or a directory in it is not; returns its name.
fn remove_shallow(
    directory: &OwnedFd,
    buffer: &mut [MaybeUninit<u8>],
) -> io::Result<Option<CString>> {
    let mut entries = RawDir::new(directory, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = entry.file_type() == FileType::Directory
            || match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => true,
                other => {
                    unless_missing(other)?;
                    false
                }
            };
        if is_directory {
            match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
                other => unless_missing(other)?,
            }
        }
    }
    Ok(None)
}

/// Back to the start: entries behind a directory that was not empty were read, not removed.
fn rewind(directory: &OwnedFd) -> io::Result<()> {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    Ok(())
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory for reading and makes sure that its owner may remove what is in it; `None` if it is gone.
fn open<N: rustix::path::Arg + Copy>(
    parent: BorrowedFd<'_>,
    name: N,
) -> io::Result<Option<(OwnedFd, Identity)>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = |flags| rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve);
    let opened = match open(FLAGS) {
        Err(Errno::ACCESS) => {
            // Nothing can be changed through an O_PATH descriptor but by its name in /proc.
            let handle = open(OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
            rustix::fs::chmod(path, Mode::RWXU)?;
            open(FLAGS)
        }
        other => other,
    };
    let directory = match opened {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&directory)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    Ok(Some((directory, identity(&stat))))
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn unless_missing(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    fn open_path(path: &Path) -> OwnedFd {
        rustix::fs::open(path, FLAGS, Mode::empty()).unwrap()
    }

    fn remove_in(parent: &Path, name: &str) -> io::Result<()> {
        remove(open_path(parent).as_fd(), OsStr::new(name))
    }

    #[test]
    fn what_is_missing_is_removed_already() {
        let temp = tempfile::tempdir().unwrap();
        remove_in(temp.path(), "nothing").unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let canary = temp.path().join("canary");
        fs_err::create_dir(&canary).unwrap();
        fs_err::write(canary.join("file"), "").unwrap();
        let tree = temp.path().join("tree");
        fs_err::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&canary, tree.join("a/link")).unwrap();
        symlink("../../canary", tree.join("a/b/link")).unwrap();
        symlink(&canary, temp.path().join("link")).unwrap();
        remove_in(temp.path(), "tree").unwrap();
        remove_in(temp.path(), "link").unwrap();
        assert!(canary.join("file").exists());
        assert!(!tree.exists());
        assert!(!temp.path().join("link").is_symlink());
    }

    #[test]
    fn trees_deeper_than_the_descriptor_limit_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let mut here = open_path(temp.path());
        for _ in 0..2500 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", FLAGS, Mode::empty()).unwrap();
        }
        remove_in(temp.path(), "d").unwrap();
        assert!(!temp.path().join("d").exists());
    }

    #[test]
    fn wide_trees_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        for at in 0..1500 {
            let directory = temp.path().join(format!("tree/{at}/below"));
            fs_err::create_dir_all(&directory).unwrap();
            fs_err::write(directory.join("file"), "").unwrap();
        }
        remove_in(temp.path(), "tree").unwrap();
        assert!(!temp.path().join("tree").exists());
    }

    #[test]
    fn directories_without_permissions_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let closed = temp.path().join("closed");
        fs_err::create_dir_all(closed.join("a/b")).unwrap();
        for path in ["a/b", "a", "."] {
            let mode = std::fs::Permissions::from_mode(0o000);
            fs_err::set_permissions(closed.join(path), mode).unwrap();
        }
        remove_in(temp.path(), "closed").unwrap();
        assert!(!closed.exists());
    }
}
