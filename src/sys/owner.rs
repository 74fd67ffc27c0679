//! `owner`: hands a tree of files to somebody.

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, openat,
    openat2,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Makes `path`, and all that is in it if it is a directory, belong to this user and group.
///
/// A symlink that `path` itself is is followed, none in it is: those change hands themselves. What is mounted in it stays
/// as it is. One descriptor is open for each directory on the way down.
pub(crate) fn give(path: &Path, user: Uid, group: Gid) -> io::Result<()> {
    let top = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mut open: Vec<Dir> = give_one(&top, user, group)?.into_iter().collect();
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match find(directory.fd()?, name) {
            // Mounted there, or gone by now.
            Err(Errno::XDEV | Errno::NOENT) => {}
            found => open.extend(give_one(&found?, user, group)?),
        }
    }
    Ok(())
}

/// Opens what has the name, a symlink too, and nothing that it leads to.
fn find(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match openat2(directory, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Hands over what is open, and returns it to be read if it is a directory.
fn give_one(file: &OwnedFd, user: Uid, group: Gid) -> io::Result<Option<Dir>> {
    let found = fstat(file)?;
    // A change would clear the set-user-ID bit for nothing.
    if (found.st_uid, found.st_gid) != (user.as_raw(), group.as_raw()) {
        chownat(
            file.as_fd(),
            "",
            Some(user),
            Some(group),
            AtFlags::EMPTY_PATH,
        )?;
    }
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(file, ".", flags, Mode::empty())?;
    Ok(Some(Dir::new(directory)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::process::Command;

    /// Who has a file; of a symlink, the symlink.
    fn owner(path: &Path) -> (u32, u32) {
        let found = fs_err::symlink_metadata(path).unwrap();
        (found.uid(), found.gid())
    }

    #[test]
    fn links_change_hands_and_what_they_lead_to_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        fs_err::create_dir_all(tree.join("a/b")).unwrap();
        fs_err::create_dir_all(temp.path().join("canary")).unwrap();
        fs_err::write(temp.path().join("canary/file"), "").unwrap();
        fs_err::write(tree.join("a/b/file"), "").unwrap();
        symlink("../../canary", tree.join("a/link")).unwrap();
        symlink(&tree, temp.path().join("named")).unwrap();
        let (user, group) = (Uid::from_raw(1234), Gid::from_raw(5678));
        give(&temp.path().join("named"), user, group).unwrap();
        for name in ["", "a", "a/b", "a/b/file", "a/link"] {
            assert_eq!(owner(&tree.join(name)), (1234, 5678), "{name}");
        }
        for name in ["canary", "canary/file", "named"] {
            assert_eq!(owner(&temp.path().join(name)), (0, 0), "{name}");
        }
    }

    #[test]
    fn what_is_mounted_in_it_stays_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let below = temp.path().join("below");
        fs_err::create_dir(&below).unwrap();
        let mount = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let status = command.args(arguments).arg(&below).status();
            assert!(status.unwrap().success());
        };
        mount("mount", &["-t", "tmpfs", "none"]);
        let given = give(temp.path(), Uid::from_raw(1), Gid::from_raw(1));
        let seen = owner(&below);
        mount("umount", &[]);
        given.unwrap();
        assert_eq!(seen, (0, 0));
        assert_eq!(owner(temp.path()), (1, 1));
    }
}
