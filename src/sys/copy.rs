//! `copy`: files and trees as they are: owners, modes, times, attributes, holes and hard links.

use crate::sys::{attributes, times};
use anyhow::{Context, Result, ensure};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// A name in an open directory.
pub(crate) type Place<'a> = (BorrowedFd<'a>, &'a OsStr);

/// Copies what is no directory and has this `stat` to a name that nothing has.
pub(crate) fn entry(from: Place<'_>, to: Place<'_>, stat: &Stat) -> Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from.0, from.1, OFlags::RDONLY | flags, Mode::empty())?;
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags;
            let file = rustix::fs::openat(to.0, to.1, new, Mode::RUSR)?;
            content(&source, &file, stat.st_size)?;
            // Before the attributes: a change of owner takes a file's capabilities.
            rustix::fs::fchown(
                &file,
                Some(Uid::from_raw(stat.st_uid)),
                Some(Gid::from_raw(stat.st_gid)),
            )?;
            attributes::copy(&source, &file)?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from.0, from.1, Vec::new())?;
            rustix::fs::symlinkat(link, to.0, to.1)?;
        }
        kind => rustix::fs::mknodat(to.0, to.1, kind, Mode::empty(), stat.st_rdev)?,
    }
    metadata(to.0, to.1, stat)
}

/// Sets the owner, then the mode, because a change of owner takes bits away, then the times.
pub(crate) fn metadata(parent: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let now = rustix::fs::fstat(&file)?;
    if (now.st_uid, now.st_gid) != (stat.st_uid, stat.st_gid) {
        let flags = AtFlags::EMPTY_PATH;
        rustix::fs::chownat(&file, "", Some(owner.0), Some(owner.1), flags)?;
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // Before Linux 6.6 only its name in /proc lets the mode be changed of what cannot be opened.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::chmod(path, Mode::from_raw_mode(stat.st_mode))?;
    }
    let times = times::of(stat);
    Ok(rustix::fs::utimensat(
        parent,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Copies what is data; holes stay holes.
fn content(from: &OwnedFd, to: &OwnedFd, size: i64) -> Result<()> {
    rustix::fs::ftruncate(to, size.cast_unsigned())?;
    let mut end = 0;
    while let Some(start) = match rustix::fs::seek(from, SeekFrom::Data(end)) {
        Ok(start) => Some(start),
        Err(Errno::NXIO) => None,
        Err(error) => return Err(error.into()),
    } {
        end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        let mut at = start;
        let mut buffer = vec![0; 256 << 10];
        while at < end {
            let length = buffer
                .len()
                .min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let length = rustix::io::pread(from, &mut buffer[..length], at)?;
            ensure!(length > 0, "the file became shorter");
            let written = rustix::io::pwrite(to, &buffer[..length], at)?;
            at += written as u64;
        }
    }
    Ok(())
}

/// A directory and the one that it is copied to.
struct Pair {
    from: OwnedFd,
    to: OwnedFd,
}

/// The directory above the ones that are copied: where to return to, and what is left to do there.
struct Above {
    identity: [Identity; 2],
    pending: Vec<OsString>,
}

/// A directory's device and inode.
type Identity = (u64, u64);

/// Copies all that is in the directory `from` into the empty directory `to`, and `from`'s own owner, mode, times and attributes.
///
/// `links` is an empty directory on the file system of `to`: files with several names are kept there meanwhile, and stay.
/// No symbolic link is followed. Neither tree may be changed by others. Few descriptors are open at a time, however deep the tree.
pub(crate) fn tree(from: &OwnedFd, to: &OwnedFd, links: BorrowedFd<'_>) -> Result<()> {
    let mut links = Links {
        directory: links,
        known: HashMap::new(),
    };
    let mut here = Pair {
        from: open(from.as_fd(), OsStr::new("."))?,
        to: open(to.as_fd(), OsStr::new("."))?,
    };
    let mut above: Vec<Above> = Vec::new();
    let mut pending = here.copy_files(&mut links)?;
    loop {
        if let Some(name) = pending.pop() {
            let below = here.enter(&name).with_context(|| copying(&name))?;
            above.push(Above {
                identity: here.identity()?,
                pending,
            });
            here = below;
            pending = here.copy_files(&mut links)?;
            continue;
        }
        attributes::copy(&here.from, &here.to)?;
        let stat = rustix::fs::fstat(&here.from)?;
        let Some(level) = above.pop() else {
            return metadata(here.to.as_fd(), OsStr::new("."), &stat);
        };
        // By its descriptor and last: nothing is added to it any more.
        metadata(here.to.as_fd(), OsStr::new("."), &stat)?;
        here = here.leave(level.identity)?;
        pending = level.pending;
    }
}

/// Files with several names, each under a number of its own.
struct Links<'a> {
    directory: BorrowedFd<'a>,
    known: HashMap<Identity, OsString>,
}

impl Pair {
    /// Copies all but directories; returns the names of those.
    fn copy_files(&self, links: &mut Links<'_>) -> Result<Vec<OsString>> {
        let mut directories = Vec::new();
        for name in names(&self.from)? {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(&self.from, &name, flags)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                directories.push(name);
                continue;
            }
            let (from, to) = (
                (self.from.as_fd(), name.as_os_str()),
                (self.to.as_fd(), name.as_os_str()),
            );
            if stat.st_nlink > 1 {
                links.link(from, to, &stat)
            } else {
                entry(from, to, &stat)
            }
            .with_context(|| copying(&name))?;
        }
        Ok(directories)
    }

    /// Makes the directory `name` and goes into both.
    fn enter(&self, name: &OsStr) -> Result<Self> {
        rustix::fs::mkdirat(&self.to, name, Mode::RWXU)?;
        Ok(Self {
            from: open(self.from.as_fd(), name)?,
            to: open(self.to.as_fd(), name)?,
        })
    }

    fn leave(&self, expected: [Identity; 2]) -> Result<Self> {
        let up = OsStr::new("..");
        let above = Self {
            from: open(self.from.as_fd(), up)?,
            to: open(self.to.as_fd(), up)?,
        };
        ensure!(
            above.identity()? == expected,
            "a directory was moved while it was copied"
        );
        Ok(above)
    }

    fn identity(&self) -> Result<[Identity; 2]> {
        let of = |directory: &OwnedFd| {
            rustix::fs::fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
        };
        Ok([of(&self.from)?, of(&self.to)?])
    }
}

impl Links<'_> {
    /// Copies the file if this is its first name, and links it.
    fn link(&mut self, from: Place<'_>, to: Place<'_>, stat: &Stat) -> Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        let kept = if let Some(kept) = self.known.get(&identity) {
            kept.clone()
        } else {
            let kept = OsString::from(self.known.len().to_string());
            entry(from, (self.directory, &kept), stat)?;
            self.known.insert(identity, kept.clone());
            kept
        };
        let (parent, name) = to;
        Ok(rustix::fs::linkat(
            self.directory,
            &kept,
            parent,
            name,
            AtFlags::empty(),
        )?)
    }
}

/// Returns the names in a directory.
pub(crate) fn names(directory: &OwnedFd) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn open(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn copying(name: &OsStr) -> String {
    format!("copying `{}`", name.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, XattrFlags};
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    fn open_path(path: &Path) -> OwnedFd {
        open(CWD, path.as_os_str()).unwrap()
    }

    fn copied(make: impl Fn(&Path)) -> tempfile::TempDir {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let [from, to, links] = ["from", "to", "links"].map(|name| temp.path().join(name));
        for path in [&from, &to, &links] {
            fs_err::create_dir(path).unwrap();
        }
        make(&from);
        tree(
            &open_path(&from),
            &open_path(&to),
            open_path(&links).as_fd(),
        )
        .unwrap();
        fs_err::remove_dir_all(links).unwrap();
        temp
    }

    #[test]
    fn a_tree_is_copied_exactly() {
        let temp = copied(|from| {
            fs_err::create_dir_all(from.join("d/e")).unwrap();
            fs_err::write(from.join("d/f"), "text").unwrap();
            fs_err::hard_link(from.join("d/f"), from.join("d/e/g")).unwrap();
            symlink("/etc/shadow", from.join("l")).unwrap();
            rustix::fs::mknodat(CWD, from.join("p"), FileType::Fifo, Mode::RUSR, 0).unwrap();
            let sparse = fs_err::File::create(from.join("s")).unwrap();
            sparse.file().write_all_at(b"end", 64 << 20).unwrap();
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(from.join("d/f"), "user.x", b"y", flags).unwrap();
            std::os::unix::fs::chown(from.join("d/f"), Some(7), Some(8)).unwrap();
            std::os::unix::fs::chown(from.join("d"), Some(9), Some(10)).unwrap();
            let mode = |path: &str, mode| {
                let mode = std::fs::Permissions::from_mode(mode);
                fs_err::set_permissions(from.join(path), mode).unwrap();
            };
            mode("d/f", 0o4711);
            mode("d/e", 0o000);
            mode("d", 0o2750);
            mode("", 0o1733);
            let past = std::time::SystemTime::UNIX_EPOCH;
            fs_err::File::open(from.join("d"))
                .unwrap()
                .file()
                .set_modified(past)
                .unwrap();
        });
        let at = |place: &str, path: &str| {
            fs_err::symlink_metadata(temp.path().join(place).join(path)).unwrap()
        };
        for path in ["", "d", "d/e", "d/f", "d/e/g", "l", "p", "s"] {
            let (from, to) = (at("from", path), at("to", path));
            let of = |m: &std::fs::Metadata| {
                (
                    m.mode(),
                    m.uid(),
                    m.gid(),
                    m.mtime(),
                    m.mtime_nsec(),
                    m.nlink(),
                )
            };
            assert_eq!(of(&from), of(&to), "{path}");
            assert!(m_size(&from) == m_size(&to), "{path}");
        }
        assert_eq!(at("to", "d/f").ino(), at("to", "d/e/g").ino());
        assert_eq!(fs_err::read(temp.path().join("to/d/f")).unwrap(), b"text");
        assert!(at("to", "s").blocks() <= at("from", "s").blocks());
        let mut value = [0; 8];
        let length =
            rustix::fs::getxattr(temp.path().join("to/d/f"), "user.x", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y");
    }

    fn m_size(metadata: &std::fs::Metadata) -> u64 {
        if metadata.is_dir() { 0 } else { metadata.len() }
    }

    #[test]
    fn trees_deeper_than_the_descriptor_limit_are_copied() {
        let temp = copied(|from| {
            let mut here = open_path(from);
            for _ in 0..1500 {
                rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
                here = open(here.as_fd(), OsStr::new("d")).unwrap();
            }
            rustix::fs::mkdirat(&here, "end", Mode::RWXU).unwrap();
        });
        let mut here = open_path(&temp.path().join("to"));
        for _ in 0..1500 {
            here = open(here.as_fd(), OsStr::new("d")).unwrap();
        }
        assert_eq!(names(&here).unwrap(), ["end"]);
        drop(here);
        let top = open_path(temp.path());
        for name in ["from", "to"] {
            crate::sys::tree::remove(top.as_fd(), OsStr::new(name)).unwrap();
        }
    }
}
