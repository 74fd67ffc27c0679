//! Paths inside a container's root, resolved by the kernel and never beyond it.

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{
    FileType, FsWord, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2,
    readlinkat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// How many symlinks a path may lead through (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;

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

    /// Opens the directory `path`, which must be there.
    pub(crate) fn directory(self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let found = self.open(path)?;
        let kind = FileType::from_raw_mode(fstat(&found)?.st_mode);
        if kind == FileType::Directory {
            Ok(found)
        } else {
            Err(Errno::NOTDIR)
        }
    }

    /// Opens the directory `path`, on the way to which there must be no symlink at all: the
    /// kernel's own file systems belong where everybody looks for them. Creates it if missing.
    pub(crate) fn plain_directory(self, path: &Path) -> Result<OwnedFd> {
        match self.open_with(path, ResolveFlags::NO_SYMLINKS) {
            Ok(found) => expect_kind(found, path, Kind::Directory),
            Err(Errno::NOENT) => match self.make_last(path, Kind::Directory) {
                Some(made) => Ok(made),
                None => self.create(path, Kind::Directory),
            },
            Err(Errno::LOOP) => bail!(
                "`{}` in the image is a symlink; it must be a directory",
                path.display()
            ),
            Err(error) => {
                Err(error).with_context(|| format!("opening `{}` in the image", path.display()))
            }
        }
    }

    /// Makes what is missing of `path` if that is its last name only, as it mostly is; a symlink is not followed.
    fn make_last(self, path: &Path, kind: Kind) -> Option<OwnedFd> {
        let (above, name) = (path.parent()?, path.file_name()?);
        let parent = self.open(above).ok()?; // what went wrong is found out on the long way
        make(parent.as_fd(), Path::new(name), kind).ok()
    }

    /// Opens a file of the kernel's own file system of type `magic`, on the way to which there must be no symlink.
    pub(crate) fn kernels_file(self, path: &Path, magic: FsWord) -> Result<OwnedFd> {
        let found = self.open_with(path, ResolveFlags::NO_SYMLINKS);
        let found = found.with_context(|| format!("opening `{}`", path.display()))?;
        ensure!(
            fstatfs(&found)?.f_type == magic,
            "`{}` in the container is not the kernel's",
            path.display()
        );
        expect_kind(found, path, Kind::File)
    }

    /// Opens `path`, making it and the directories above it (0755, root's) where they are missing;
    /// what a symlink leads to, too, inside.
    pub(crate) fn create(self, path: &Path, kind: Kind) -> Result<OwnedFd> {
        let context = || format!("opening `{}` in the container", path.display());
        match self.open(path) {
            Ok(found) => return expect_kind(found, path, kind),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(context),
        }
        if let Some(made) = self.make_last(path, kind) {
            return Ok(made);
        }
        let mut parent = self.open(Path::new("/")).with_context(context)?;
        let mut so_far = PathBuf::from("/");
        let mut rest = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let kind = if rest.is_empty() {
                kind
            } else {
                Kind::Directory
            };
            match self.open(&so_far.join(&name)) {
                Ok(found) => parent = expect_kind(found, path, kind)?,
                Err(Errno::NOENT) => match readlinkat(&parent, &name, Vec::new()) {
                    // What it leads to is missing: that is to be made instead.
                    Ok(target) => {
                        links += 1;
                        ensure!(
                            links <= MAX_LINKS,
                            "`{}` in the container leads through too many symlinks",
                            path.display()
                        );
                        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                        if target.is_absolute() {
                            so_far = PathBuf::from("/");
                            parent = self.open(&so_far).with_context(context)?;
                        }
                        let mut expanded = names(&target);
                        expanded.append(&mut rest);
                        rest = expanded;
                        continue;
                    }
                    Err(Errno::NOENT) => {
                        parent =
                            make(parent.as_fd(), Path::new(&name), kind).with_context(|| {
                                format!(
                                    "making `{}` in the container",
                                    so_far.join(&name).display()
                                )
                            })?;
                    }
                    Err(error) => return Err(error).with_context(context),
                },
                Err(error) => return Err(error).with_context(context),
            }
            so_far.push(name);
        }
        Ok(parent)
    }
}

/// The names on the way along `path`, `..` among them: the kernel knows best where that leads.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
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
        // Both links point to what is missing below the root, and it is made there.
        root.create(Path::new("/absolute/x"), Kind::Directory)
            .unwrap();
        root.create(Path::new("/relative/../relative/y"), Kind::File)
            .unwrap();
        let absolute = outside.strip_prefix("/").unwrap();
        assert!(inside.join(absolute).join("x").is_dir() && inside.join("out/y").is_file());
        assert_eq!(outside.read_dir().unwrap().count(), 0);
        symlink("b", inside.join("a/b/loop")).unwrap();
        symlink("loop", inside.join("a/b/b")).unwrap();
        assert!(root.create(Path::new("/a/b/loop/x"), Kind::File).is_err());
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
