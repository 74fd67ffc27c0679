//! Entries into files: every parent resolved below the root by the kernel, no last component followed, metadata never by path.

mod link;

use crate::unpack::archive::{Archive, Entry, Kind};
use crate::unpack::name::{self, Target};
use crate::unpack::pax::Time;
use crate::unpack::place::{Place, timestamps};
use crate::unpack::recipe::Recording;
use crate::unpack::sparse::Map;
use crate::unpack::tree::{Directory, IMPLIED_MODE, Lower, Metadata, Tree};
use crate::unpack::{Bodies, Options, Owners, Skipped, attributes, content};
use anyhow::{Context, Result, bail, ensure};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::BufRead;

/// Mode bits that a change of owner takes away, so that they are set after it (chown(2)).
const SPECIAL_BITS: u32 = 0o7000;

/// The kernel's device numbers have 12 and 20 bits (`linux/kdev_t.h`).
const MAX_MAJOR: i64 = 0xfff;
const MAX_MINOR: i64 = 0xf_ffff;

/// What is known of a layer once its files are written.
pub(crate) struct Written {
    pub(crate) size: u64,
    pub(crate) entries: u64,
    pub(crate) implied: Vec<Vec<u8>>,
    pub(crate) bare: Vec<Vec<u8>>,
    pub(crate) with_whiteouts: BTreeSet<Vec<u8>>,
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) opaque_root: bool,
    pub(crate) skipped: BTreeSet<Skipped>,
}

/// Writes entries below one root.
pub(crate) struct Writer<'a> {
    tree: Tree,
    options: &'a Options,
    bodies: Bodies,
    /// The owner of what this process makes.
    uid: Uid,
    gid: Gid,
    written: Written,
}

impl<'a> Writer<'a> {
    /// Begins in `root`, an empty directory that nobody else uses. The thread's umask must be 0.
    pub(crate) fn new(root: OwnedFd, options: &'a Options, bodies: Bodies) -> Result<Self> {
        let uid = rustix::process::geteuid();
        let gid = rustix::process::getegid();
        // A set-group-ID bit, inherited from where the root was made, would hand its group on to all below.
        rustix::fs::fchown(&root, Some(uid), Some(gid)).context("owning the layer's root")?;
        rustix::fs::fchmod(&root, Mode::RWXU).context("owning the layer's root")?;
        let recording = match &bodies {
            Bodies::Written(recording) => recording.clone(),
            Bodies::LeftOut => Recording::default(),
        };
        Ok(Self {
            tree: Tree::new(root, options.limits.directory_memory, recording),
            options,
            bodies,
            uid,
            gid,
            written: Written {
                size: 0,
                entries: 0,
                implied: Vec::new(),
                bare: Vec::new(),
                with_whiteouts: BTreeSet::new(),
                links: Vec::new(),
                opaque_root: false,
                skipped: BTreeSet::new(),
            },
        })
    }

    /// Writes one entry, its body read from `archive`.
    pub(crate) fn write(
        &mut self,
        archive: &mut Archive<impl BufRead>,
        entry: &Entry,
    ) -> Result<()> {
        self.written.entries += 1;
        let path = match name::target(&entry.name)? {
            Target::Path(path) => path,
            Target::Whiteout(path) => return self.tree.whiteout(&path),
            Target::Opaque(path) => return self.tree.make_opaque(&path),
            Target::Aufs => {
                self.written.skipped.insert(Skipped::Aufs);
                return Ok(());
            }
        };
        let metadata = metadata(entry)?;
        let is_directory = matches!(entry.kind, Kind::Directory);
        ensure!(
            is_directory || !path.is_empty(),
            "the layer's root must be a directory"
        );
        let (parent, name) = name::split(&path);
        let parent = self.tree.directory(parent)?;
        let place = Place { parent, name };
        match &entry.kind {
            Kind::Directory => self.directory(&place, entry, metadata),
            Kind::File { size, map } => {
                self.written.size = self.written.size.saturating_add(*size);
                self.file(&place, archive, entry, (*size, map.as_ref()), metadata)
            }
            Kind::Symlink { target } => self.symlink(&place, entry, target, metadata),
            Kind::HardLink { target } => self.hard_link(&place, target),
            Kind::CharacterDevice { major: 0, minor: 0 } => {
                bail!("the character device 0:0 would be a whiteout")
            }
            Kind::CharacterDevice { major, minor } => {
                let device = device(*major, *minor)?;
                self.node(&place, entry, FileType::CharacterDevice, device, metadata)
            }
            Kind::BlockDevice { major, minor } => {
                let device = device(*major, *minor)?;
                self.node(&place, entry, FileType::BlockDevice, device, metadata)
            }
            Kind::Fifo => self.node(&place, entry, FileType::Fifo, 0, metadata),
        }
    }

    /// Gives every directory its final owner, mode and times, now that nothing changes them any more.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.written.links = self.tree.take_links();
        self.written.with_whiteouts = self.tree.with_whiteouts();
        while let Some((path, directory)) = self.tree.pop() {
            let parent = name::split(&path).0;
            let is_root = path.is_empty();
            let is_new = directory.lower == Lower::Replaced || !is_root && self.tree.hides(parent);
            self.finish_directory(&path, &directory)
                .with_context(|| format!("finishing the directory `{}`", name::shown(&path)))?;
            if is_root {
                self.written.opaque_root = directory.lower != Lower::Merged;
            }
            if directory.listed.is_none() && !is_new {
                if !directory.occupied {
                    self.written.bare.push(path.clone());
                }
                self.written.implied.push(path);
            }
        }
        self.written.implied.reverse();
        self.written.bare.reverse();
        Ok(self.written)
    }

    fn finish_directory(&mut self, path: &[u8], directory: &Directory) -> Result<()> {
        let metadata = directory.listed.unwrap_or(Metadata {
            uid: 0,
            gid: 0,
            mode: IMPLIED_MODE,
            mtime: Time::default(),
        });
        if path.is_empty() {
            // Without a mark when it is opaque: overlayfs does not look for one there.
            let root = self.tree.root();
            self.set_owner_and_mode(root, metadata, directory.mode)?;
            return Ok(rustix::fs::futimens(root, &timestamps(metadata))?);
        }
        let (parent, name) = name::split(path);
        let parent = self.tree.known(parent)?;
        let place = Place { parent, name };
        if directory.lower == Lower::Merged && directory.mode == metadata.mode {
            self.set_owner(&place, metadata)?;
            return place.set_times(metadata);
        }
        let fd = place.open_directory()?;
        self.set_owner_and_mode(fd.as_fd(), metadata, directory.mode)?;
        if directory.lower != Lower::Merged {
            attributes::mark_opaque(&fd, self.options.overlay)?;
        }
        Ok(rustix::fs::futimens(&fd, &timestamps(metadata))?)
    }

    fn directory(&mut self, place: &Place<'_>, entry: &Entry, metadata: Metadata) -> Result<()> {
        let directory = if place.name.is_empty() {
            self.tree.root_directory()
        } else {
            self.tree.add(&place.parent, place.name, metadata.mode)?
        };
        let is_repeated = directory.listed.replace(metadata).is_some();
        if entry.attributes.is_empty() && !is_repeated {
            return Ok(());
        }
        let fd = place.open_directory()?;
        if is_repeated {
            attributes::clear(&fd)?;
        }
        attributes::set(&fd, &entry.attributes, &mut self.written.skipped)
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        archive: &mut Archive<impl BufRead>,
        entry: &Entry,
        (size, map): (u64, Option<&Map>),
        metadata: Metadata,
    ) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = metadata.mode & !SPECIAL_BITS;
        let file = self.make(place, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode))
        })?;
        match &self.bodies {
            Bodies::Written(recording) => {
                let begin = |offset| recording.begin(&place.parent.path, place.name, offset);
                content::write(archive, &file, map, begin)?;
                recording.end();
            }
            Bodies::LeftOut => rustix::fs::ftruncate(&file, size).context("sizing it")?,
        }
        self.set_owner_and_mode(file.as_fd(), metadata, mode)?;
        attributes::set(&file, &entry.attributes, &mut self.written.skipped)?;
        Ok(rustix::fs::futimens(&file, &timestamps(metadata))?)
    }

    fn symlink(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        target: &[u8],
        metadata: Metadata,
    ) -> Result<()> {
        ensure!(!target.is_empty(), "it is a symbolic link to nothing");
        self.make(place, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)
        })?;
        attributes::skip(&entry.attributes, &mut self.written.skipped);
        self.set_owner(place, metadata)?;
        place.set_times(metadata)
    }

    fn node(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        kind: FileType,
        device: u64,
        metadata: Metadata,
    ) -> Result<()> {
        let made = Mode::from_raw_mode(metadata.mode & !SPECIAL_BITS);
        let result = self.make(place, |parent, name| {
            rustix::fs::mknodat(parent, name, kind, made, device)
        });
        let is_refused = |error: &anyhow::Error| error.downcast_ref() == Some(&Errno::PERM);
        if kind != FileType::Fifo && result.as_ref().is_err_and(is_refused) {
            self.written.skipped.insert(Skipped::Device);
            return Ok(());
        }
        result?;
        attributes::skip(&entry.attributes, &mut self.written.skipped);
        self.set_owner(place, metadata)?;
        if metadata.mode & SPECIAL_BITS != 0 {
            place.set_mode(metadata.mode)?;
        }
        place.set_times(metadata)
    }

    /// Makes something new at `place`, removing what stands there.
    fn make<T>(
        &mut self,
        place: &Place<'_>,
        create: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T> {
        self.tree.forget_link(&place.parent, place.name);
        let create = || create(place.parent.fd.as_fd(), place.name);
        match create() {
            Err(Errno::EXIST) => {
                self.tree.clear(&place.parent, place.name)?;
                Ok(create()?)
            }
            other => Ok(other?),
        }
    }

    /// Returns the owner to be set, if it is not the one that everything has from the start.
    fn owner(&self, metadata: Metadata) -> Option<(Uid, Gid)> {
        let owner = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        (self.options.owners == Owners::Kept && owner != (self.uid, self.gid)).then_some(owner)
    }

    fn set_owner(&self, place: &Place<'_>, metadata: Metadata) -> Result<()> {
        let Some((uid, gid)) = self.owner(metadata) else {
            return Ok(());
        };
        let (parent, name) = (&place.parent.fd, place.name);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
            .with_context(|| format!("giving it to {uid}:{gid}"))
    }

    /// Sets the owner and then the mode, if `made` is not it already.
    fn set_owner_and_mode(&self, fd: BorrowedFd<'_>, metadata: Metadata, made: u32) -> Result<()> {
        if let Some((uid, gid)) = self.owner(metadata) {
            rustix::fs::fchown(fd, Some(uid), Some(gid))
                .with_context(|| format!("giving it to {uid}:{gid}"))?;
        }
        if made != metadata.mode {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.mode))
                .context("setting its mode")?;
        }
        Ok(())
    }
}

fn metadata(entry: &Entry) -> Result<Metadata> {
    // The last number means "no change" to chown(2).
    let id = |id: i64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    Ok(Metadata {
        uid: id(entry.uid).with_context(|| format!("its owner {} is no user ID", entry.uid))?,
        gid: id(entry.gid).with_context(|| format!("its group {} is no group ID", entry.gid))?,
        mode: entry.mode,
        mtime: entry.mtime,
    })
}

fn device(major: i64, minor: i64) -> Result<u64> {
    let part = |number: i64, max| (0..=max).contains(&number).then_some(number);
    let numbers = part(major, MAX_MAJOR).zip(part(minor, MAX_MINOR));
    let numbers = numbers.and_then(|(a, b)| u32::try_from(a).ok().zip(u32::try_from(b).ok()));
    let (major, minor) =
        numbers.with_context(|| format!("there is no device number {major}:{minor}"))?;
    Ok(rustix::fs::makedev(major, minor))
}
