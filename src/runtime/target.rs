//! Paths inside a container's root, resolved by the kernel and never beyond it.

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

/// What a path must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// A root directory, under which paths are resolved: symlinks and `..` stay inside, and the links
/// of `/proc/PID/fd` are not followed (openat2(2), `RESOLVE_IN_ROOT`, `RESOLVE_NO_MAGICLINKS`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root<'a>(pub(crate) BorrowedFd<'a>);

impl Root<'_> {
    /// Opens what `path` names, for mounting on it (`O_PATH`).
    pub(crate) fn open(self, path: &Path) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, ResolveFlags::empty())
    }

    fn open_with(self, path: &Path, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // An empty path is an error to the kernel; relative to the root, `/` is `.`.
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        // EAGAIN: something was renamed on the way, and `..` could not be vouched for.
        loop {
            match openat2(
                self.0,
                path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Opens the directory `path`, on the way to which there must be no symlink at all: the
    /// kernel's own file systems belong where everybody looks for them. Creates it if missing.
    pub(crate) fn plain_directory(self, path: &Path) -> Result<OwnedFd> {
        match self.open_with(path, ResolveFlags::NO_SYMLINKS) {
            Ok(found) => expect_kind(found, path, Kind::Directory),
            Err(Errno::NOENT) => self.create(path, Kind::Directory),
            Err(Errno::LOOP) => bail!(
                "`{}` in the image is a symlink; it must be a directory",
                path.display()
            ),
            Err(error) => {
                Err(error).with_context(|| format!("opening `{}` in the image", path.display()))
            }
        }
    }

    /// Opens `path`, making it and the directories above it (0755, root's) where they are missing.
    pub(crate) fn create(self, path: &Path, kind: Kind) -> Result<OwnedFd> {
        let context = || format!("opening `{}` in the container", path.display());
        match self.open(path) {
            Ok(found) => return expect_kind(found, path, kind),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(context),
        }
        let mut parent = self.open(Path::new("/")).with_context(context)?;
        let mut so_far = std::path::PathBuf::from("/");
        let mut names = path.components().peekable();
        while let Some(component) = names.next() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    bail!("`{}` has a `..`", path.display());
                }
                continue;
            };
            so_far.push(name);
            let kind = if names.peek().is_some() {
                Kind::Directory
            } else {
                kind
            };
            parent = match self.open(&so_far) {
                Err(Errno::NOENT) => make(parent.as_fd(), Path::new(name), kind)
                    .with_context(|| format!("making `{}` in the container", so_far.display()))?,
                found => expect_kind(found.with_context(context)?, &so_far, kind)?,
            };
        }
        Ok(parent)
    }
}

/// Makes `name` in `parent`, where it must not be yet.
fn make(parent: BorrowedFd<'_>, name: &Path, kind: Kind) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match kind {
        Kind::Directory => {
            mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            openat(
                parent,
                name,
                flags | OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
        }
        Kind::File => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            openat(parent, name, flags, Mode::from_raw_mode(0o644))
        }
    }
}

fn expect_kind(found: OwnedFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    let is_directory = FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Directory;
    match (kind, is_directory) {
        (Kind::Directory, false) => bail!("Cannot mkdir: {} is not a directory", path.display()),
        (Kind::File, true) => bail!(
            "`{}` in the container is a directory, not a file",
            path.display()
        ),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_missing_is_made_inside_and_links_do_not_lead_out() {
        let directory = tempfile::tempdir().unwrap();
        let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
        fs_err::create_dir(&inside).unwrap();
        fs_err::create_dir(&outside).unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../out", inside.join("relative")).unwrap();
        let descriptor = crate::runtime::rootfs::open_directory(&inside).unwrap();
        let root = Root(descriptor.as_fd());
        root.create(Path::new("/a/b/c"), Kind::Directory).unwrap();
        root.create(Path::new("/a/b/f"), Kind::File).unwrap();
        assert!(inside.join("a/b/c").is_dir() && inside.join("a/b/f").is_file());
        // Both links point to paths that do not exist below the root.
        assert!(
            root.create(Path::new("/absolute/x"), Kind::Directory)
                .is_err()
        );
        assert!(
            root.create(Path::new("/relative/x"), Kind::Directory)
                .is_err()
        );
        assert_eq!(outside.read_dir().unwrap().count(), 0);
        let error = root.plain_directory(Path::new("/relative")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/relative` in the image is a symlink; it must be a directory"
        );
        let error = root
            .create(Path::new("/a/b/f"), Kind::Directory)
            .unwrap_err();
        assert_eq!(error.to_string(), "Cannot mkdir: /a/b/f is not a directory");
    }
}
