//! Looks into the image's tree: the kernel resolves every path inside its root.

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Most bytes of `/etc/passwd` or `/etc/group` that are read: an image is not trusted to end.
const FILE_LIMIT: u64 = 10 << 20;

/// How often a walk is tried again that another process's rename disturbed (openat2(2), EAGAIN).
const ATTEMPTS: usize = 128;

/// What a path of the tree names.
#[derive(Debug)]
pub(crate) struct Entry {
    file: OwnedFd,
    kind: FileType,
    mode: Mode,
}

impl Entry {
    /// Returns true for what is there and is not a directory.
    pub(crate) fn is_file(&self) -> bool {
        self.kind != FileType::Directory
    }

    /// Returns its permissions, with the sticky bit and its like.
    pub(crate) fn mode(&self) -> u32 {
        self.mode.as_raw_mode()
    }

    /// Returns a descriptor of it, which nothing can be read from (`O_PATH`).
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.file
    }
}

/// Returns what `path` leads to, symlinks followed inside the root, or none if nothing is there.
pub(crate) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Option<Entry>> {
    // O_PATH touches nothing: opening a device or a pipe of the image could act on the host, or block.
    let open = || {
        openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    };
    let found = (0..ATTEMPTS)
        .map(|_| open())
        .find(|result| !matches!(result, Err(Errno::AGAIN | Errno::INTR)))
        .unwrap_or(Err(Errno::AGAIN));
    let inside = || format!("looking for `{}` in the image", path.display());
    let file = match found {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).with_context(inside),
    };
    let mode = fstat(&file).with_context(inside)?.st_mode;
    Ok(Some(Entry {
        file,
        kind: FileType::from_raw_mode(mode),
        mode: Mode::from_raw_mode(mode),
    }))
}

/// Returns the text of a file, empty if it is not there; refuses what is no regular file or is larger than 10 MiB.
pub(crate) fn read(root: BorrowedFd<'_>, path: &Path) -> Result<String> {
    let Some(entry) = find(root, path)? else {
        return Ok(String::new());
    };
    ensure!(
        entry.kind == FileType::RegularFile,
        "`{}` of the image is not a regular file",
        path.display()
    );
    // The descriptor's own name in /proc opens the very file that was looked at.
    let file = fs_err::File::open(format!("/proc/self/fd/{}", entry.file.as_raw_fd()))?;
    // As large as it says, and the byte that tells the end: one read for most.
    let size = fstat(&entry.file)?
        .st_size
        .clamp(0, FILE_LIMIT.cast_signed());
    let mut content = Vec::with_capacity(usize::try_from(size)? + 1);
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut content)
        .with_context(|| format!("reading `{}` of the image", path.display()))?;
    ensure!(
        content.len() as u64 <= FILE_LIMIT,
        "`{}` of the image is larger than 10 MiB",
        path.display()
    );
    Ok(String::from_utf8_lossy(&content).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, OFlags, mknodat, open};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    fn image() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("etc")).unwrap();
        let root = open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, root)
    }

    fn passwd(root: &OwnedFd) -> Result<String> {
        read(root.as_fd(), Path::new("/etc/passwd"))
    }

    #[test]
    fn what_is_not_there_is_empty() {
        let (_dir, root) = image();
        assert_eq!(passwd(&root).unwrap(), "");
    }

    #[test]
    fn symlinks_stay_inside() {
        let (dir, root) = image();
        fs_err::write(dir.path().join("users"), "inside").unwrap();
        for target in ["/users", "../users", "../../../../../users"] {
            let link = dir.path().join("etc/passwd");
            symlink(target, &link).unwrap();
            assert_eq!(passwd(&root).unwrap(), "inside", "{target}");
            fs_err::remove_file(link).unwrap();
        }
        // The host has this file, the image has not.
        symlink("/etc/hostname", dir.path().join("etc/passwd")).unwrap();
        assert_eq!(passwd(&root).unwrap(), "");
    }

    #[test]
    fn loops_are_errors() {
        let (dir, root) = image();
        symlink("passwd", dir.path().join("etc/passwd")).unwrap();
        assert!(passwd(&root).is_err());
    }

    #[test]
    fn only_regular_files_are_read() {
        let (dir, root) = image();
        let path = dir.path().join("etc/passwd");
        let error = "`/etc/passwd` of the image is not a regular file";

        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(passwd(&root).unwrap_err().to_string(), error);
        fs_err::remove_file(&path).unwrap();

        fs_err::create_dir(&path).unwrap();
        assert_eq!(passwd(&root).unwrap_err().to_string(), error);
    }

    #[test]
    fn endless_files_are_refused() {
        let (dir, root) = image();
        let file = fs_err::File::create(dir.path().join("etc/passwd")).unwrap();
        file.set_len(FILE_LIMIT).unwrap();
        assert!(passwd(&root).is_ok());
        file.set_len(FILE_LIMIT + 1).unwrap();
        assert!(passwd(&root).is_err());
    }
}
