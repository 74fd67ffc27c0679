//! Unpacking: a layer's tar stream into a directory, exactly and safely.
//!
//! One thread inflates ([`stream`]), one hashes ([`pipe`]), one reads the tar ([`archive`]) and writes files ([`write`]).
//! The result is an overlayfs lower directory: whiteouts and opaque directories are overlayfs's own. What depends
//! on the layers below is reported and left to whoever joins them.

mod archive;
mod attributes;
mod check;
mod compare;
mod content;
mod header;
mod name;
mod pax;
mod pipe;
mod place;
pub(crate) mod recipe;
mod room;
mod sparse;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod write;

pub(crate) use archive::{Archive, Kind};
pub(crate) use check::{Fault, Finding, check, compare_trees};
pub(crate) use recipe::{Rebuild, Recipe};

use crate::digest::Digest;
use anyhow::{Context, Result};
use pipe::Outlet;
use recipe::{Recording, Tap};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::io::Read;
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};
use write::{Writer, Written};

/// How to unpack: what depends on the store and on who runs this.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) owners: Owners,
    pub(crate) overlay: OverlayAttributes,
    pub(crate) limits: Limits,
}

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Whose the layer says.
    Kept,
    /// Everything is this process's own: its user namespace has no other ID.
    Squashed,
}

/// The namespace of extended attributes that overlayfs is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverlayAttributes {
    /// `trusted.overlay.*`: needs root on the host.
    Trusted,
    /// `user.overlay.*`, for mounts with the option `userxattr`.
    User,
}

/// What a layer may demand before it is taken for an attack.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Headers in the tar. The largest layers seen in practice have a tenth of the default.
    pub(crate) entries: u64,
    /// Bytes of memory for the names and metadata of directories and whiteouts.
    pub(crate) directory_memory: usize,
    /// Bytes of the uncompressed tar, if there is to be a limit other than the disk.
    pub(crate) tar_size: Option<u64>,
    /// So many times its compressed size a layer may unpack to, once that is more than [`COMMON`].
    pub(crate) ratio: u64,
    /// Bytes that are to stay free on the file system, if it is not to be the usual part of it.
    pub(crate) reserve: Option<u64>,
}

/// Bytes that any layer may unpack to: images are tested with files of zeros, which compress a thousandfold.
const COMMON: u64 = 1 << 30;

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            directory_memory: 128 << 20,
            tar_size: None,
            // Programs compress to a third, logs to a thirtieth.
            ratio: 100,
            reserve: None,
        }
    }
}

impl Limits {
    /// Returns what holds for a layer of so many compressed bytes.
    pub(crate) fn of_compressed(&self, size: u64) -> Self {
        let ratio = COMMON.max(size.saturating_mul(self.ratio));
        let tar_size = self.tar_size.map_or(ratio, |most| most.min(ratio));
        Self {
            tar_size: Some(tar_size),
            ..self.clone()
        }
    }
}

/// What a layer turned out to be.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The digest of the uncompressed tar, to the last byte of the stream.
    pub(crate) diff_id: Digest,
    pub(crate) tar_size: u64,
    /// Bytes of file content, holes and repeated entries included; hard links count once.
    pub(crate) size: u64,
    pub(crate) entries: u64,
    /// Directories that the layer needs and does not list, parents first; the empty path is the root. A lower
    /// layer's owner, mode, times and attributes hold for them; here they are root's, 0755, of 1970.
    pub(crate) implied: Vec<Vec<u8>>,
    /// Those of them that the layer needs for whiteouts alone: they are not to be seen where no lower layer has them.
    pub(crate) bare: Vec<Vec<u8>>,
    /// Directories with whiteouts in them: overlayfs shows these as names of nothing where no other layer has the directory.
    pub(crate) with_whiteouts: BTreeSet<Vec<u8>>,
    /// Hard links to files that the layer does not have and a lower one may, each with its target. Nothing
    /// stands in their places yet.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Nothing of the layers below is to be seen. overlayfs cannot be told so by the root itself.
    pub(crate) opaque_root: bool,
    pub(crate) skipped: BTreeSet<Skipped>,
}

/// A kind of thing that was left out, each worth one note to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skipped {
    Device,
    OverlayAttribute,
    HostAttribute,
    UnsupportedAttribute,
    Aufs,
}

impl Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device nodes, which only root can make",
            Self::OverlayAttribute => "extended attributes that would speak to overlayfs",
            Self::HostAttribute => "extended attributes that are the host's to set",
            Self::UnsupportedAttribute => "extended attributes that cannot be set here",
            Self::Aufs => "files that AUFS kept for itself",
        })
    }
}

/// Unpacks the layer that `stream` holds, gzip, zstd or neither, into `root`: an empty directory that nobody
/// else uses. Writes its `recipe` if that is wanted, which with what is in `root` makes the tar again; what is kept for it
/// must be on the same file system. Nothing else is touched, whatever the layer says. After an error `root` holds a part of
/// the layer, and is to be removed.
///
/// The cause of an error is in its chain: an [`std::io::Error`] from `stream`, a [`rustix::io::Errno`] from
/// the file system.
pub(crate) fn layer(
    stream: &mut dyn Read,
    root: &Path,
    recipe: Option<Recipe<'_>>,
    options: &Options,
) -> Result<Unpacked> {
    let tar: Opener<'_> = Box::new(move || stream::inflate(stream));
    unpack(tar, root, options, &|| {
        let recording = recipe.map(Recording::start).transpose()?;
        Ok(Bodies::Written(recording.unwrap_or_default()))
    })
}

/// What becomes of what a layer's files hold.
enum Bodies {
    /// The files get it.
    Written(Recording),
    /// Files have their size and nothing in them.
    LeftOut,
}

/// What opens an uncompressed tar.
type Opener<'a> = Box<dyn FnOnce() -> Result<Box<dyn Read + 'a>> + 'a>;

/// Unpacks what `tar` opens. `bodies` is called in the thread that writes.
fn unpack(
    tar: Opener<'_>,
    root: &Path,
    options: &Options,
    bodies: &(dyn Fn() -> Result<Bodies> + Sync),
) -> Result<Unpacked> {
    let (inlet, [to_write, to_hash]) = pipe::pipe();
    let (pumped, written, diff_id) = thread::scope(|scope| -> Result<_> {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let writer =
            named("unpack").spawn_scoped(scope, || write(to_write, root, options, bodies()?))?;
        let hasher = named("hash").spawn_scoped(scope, || to_hash.hash())?;
        let has_room = || room::check(root, options.limits.reserve);
        let pumped =
            tar().and_then(|mut tar| inlet.pump(&mut tar, options.limits.tar_size, &has_room));
        Ok((pumped, join(writer), join(hasher)))
    })?;
    // A stream that breaks off looks like a short tar to the others: its own error says why.
    let tar_size = pumped?;
    let written = written?;
    let tar_size = tar_size.expect("a writer without an error read to the end");
    Ok(unpacked(diff_id?, tar_size, written))
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    let ended = thread.join();
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn unpacked(diff_id: Digest, tar_size: u64, written: Written) -> Unpacked {
    Unpacked {
        diff_id,
        tar_size,
        size: written.size,
        entries: written.entries,
        implied: written.implied,
        bare: written.bare,
        with_whiteouts: written.with_whiteouts,
        links: written.links,
        opaque_root: written.opaque_root,
        skipped: written.skipped,
    }
}

fn write(outlet: Outlet, root: &Path, options: &Options, bodies: Bodies) -> Result<Written> {
    // Threads share one umask until they say otherwise (unshare(2)); with one of 0, files are made with the
    // right mode and need no second call.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).context("leaving the process's umask")?;
    rustix::process::umask(Mode::empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())
        .with_context(|| format!("opening {}", root.display()))?;
    let recording = match &bodies {
        Bodies::Written(recording) => recording.clone(),
        Bodies::LeftOut => Recording::default(),
    };
    let files = root.try_clone().context("duplicating a descriptor")?;
    let mut writer = Writer::new(root, options, bodies)?;
    let tap = Tap::new(outlet, recording.clone());
    let mut archive = Archive::new(tap, options.limits.entries);
    while let Some(entry) = archive.next()? {
        writer
            .write(&mut archive, &entry)
            .with_context(|| format!("layer entry `{}`", name::shown(&entry.name)))?;
    }
    archive.drain()?;
    let written = writer.finish()?;
    recording.finish(&files)?;
    Ok(written)
}
