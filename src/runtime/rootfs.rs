//! A container's root: the layers of its image under a writable directory, merged by overlayfs.

use anyhow::{Context, Result};
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, futimens, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::{chdir, fchdir};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The directories that make a container's root.
#[derive(Debug)]
pub(crate) struct Rootfs {
    /// The layers, base first, each one once.
    pub(crate) lower: Vec<PathBuf>,
    /// Where changes go.
    pub(crate) upper: PathBuf,
    /// Overlayfs's own, on the file system of `upper`, empty.
    pub(crate) work: PathBuf,
    /// The changes go with the container: nothing needs to be synced.
    pub(crate) discarded: bool,
    /// Inside a user namespace, where overlayfs keeps its attributes under `user.`.
    pub(crate) user_attributes: bool,
}

impl Rootfs {
    /// Gives the upper directory the owner, mode and times of `directory`: it is what the container sees as `/`.
    pub(crate) fn adopt_root(&self, directory: &Path) -> Result<()> {
        let context = || format!("copying the owner and mode of `{}`", directory.display());
        let of = rustix::fs::stat(directory).with_context(context)?;
        let upper = open(
            &self.upper,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .with_context(context)?;
        fchown(
            &upper,
            Some(Uid::from_raw(of.st_uid)),
            Some(Gid::from_raw(of.st_gid)),
        )
        .with_context(context)?;
        // After the owner: changing that clears bits of the mode.
        fchmod(&upper, Mode::from_raw_mode(of.st_mode)).with_context(context)?;
        let time = |seconds, nanoseconds: u64| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.cast_signed(),
        };
        let times = Timestamps {
            last_access: time(of.st_atime, of.st_atime_nsec),
            last_modification: time(of.st_mtime, of.st_mtime_nsec),
        };
        futimens(&upper, &times).with_context(context)
    }

    /// Merges the directories into a mount that is attached nowhere: it goes with the descriptor.
    ///
    /// They are named as seen from `base`, because the container's mount table shows the names.
    /// Every option that the kernel's configuration could decide is set (overlayfs.rst).
    pub(crate) fn assemble(&self, base: &Path) -> Result<OwnedFd> {
        let before = open_directory(Path::new("."))?;
        chdir(base).with_context(|| format!("entering `{}`", base.display()))?;
        let assembled = self.assemble_from(base);
        fchdir(before).context("returning to the working directory")?;
        assembled
    }

    fn assemble_from(&self, base: &Path) -> Result<OwnedFd> {
        let overlay =
            fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("opening overlayfs")?;
        let set = |key: &str, value: &Path| {
            fsconfig_set_string(&overlay, key, value)
                .with_context(|| format!("setting overlayfs {key} to `{}`", value.display()))
                .map_err(|error| explained(error, overlay.as_fd()))
        };
        let from_base = |path: &Path| path.strip_prefix(base).unwrap_or(path).to_owned();
        set("source", Path::new("overlay"))?;
        let lower: Vec<_> = self.lower.iter().map(|layer| from_base(layer)).collect();
        set_lower(overlay.as_fd(), &lower)?;
        set("upperdir", &from_base(&self.upper))?;
        set("workdir", &from_base(&self.work))?;
        for key in ["index", "metacopy", "xino", "nfs_export"] {
            set(key, Path::new("off"))?;
        }
        // `off` may still follow what a layer brought, as the kernel is configured.
        set("redirect_dir", Path::new("nofollow"))?;
        let flags = [
            ("volatile", self.discarded),
            ("userxattr", self.user_attributes),
        ];
        for (flag, _) in flags.iter().filter(|(_, is_set)| *is_set) {
            fsconfig_set_flag(&overlay, *flag)
                .with_context(|| format!("setting overlayfs {flag}"))?;
        }
        fsconfig_create(&overlay)
            .context("merging the layers with overlayfs")
            .map_err(|error| explained(error, overlay.as_fd()))?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        fsmount(&overlay, flags, MountAttrFlags::empty()).context("mounting the merged layers")
    }
}

/// Overlayfs wants the top layer first; this is where the order turns.
fn set_lower(overlay: BorrowedFd<'_>, layers: &[PathBuf]) -> Result<()> {
    for layer in layers.iter().rev() {
        match fsconfig_set_string(overlay, "lowerdir+", layer) {
            // Before Linux 6.5 there is no `lowerdir+`.
            Err(Errno::INVAL) => return set_lower_at_once(overlay, layers),
            other => other
                .with_context(|| format!("adding the layer `{}`", layer.display()))
                .map_err(|error| explained(error, overlay))?,
        }
    }
    Ok(())
}

/// All layers in one string, of which the kernel takes 256 bytes: they are named by their
/// descriptors, seen from `/proc/self/fd`, which makes three or four bytes a layer.
fn set_lower_at_once(overlay: BorrowedFd<'_>, layers: &[PathBuf]) -> Result<()> {
    let layers = layers.iter().rev().map(|layer| open_directory(layer));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = layers
        .iter()
        .map(|layer| layer.as_raw_fd().to_string())
        .collect();
    let before = open_directory(Path::new("."))?;
    chdir("/proc/self/fd").context("entering /proc/self/fd")?;
    let set = fsconfig_set_string(overlay, "lowerdir", names.join(":"))
        .with_context(|| format!("merging {} layers on this kernel", layers.len()))
        .map_err(|error| explained(error, overlay));
    fchdir(before).context("returning from /proc/self/fd")?;
    set
}

/// Adds what a file system itself says of a failure, which it leaves to be read from the descriptor.
pub(crate) fn explained(error: anyhow::Error, context: BorrowedFd<'_>) -> anyhow::Error {
    let mut text = [0; 512];
    match rustix::io::read(context, &mut text) {
        Ok(length) if length > 0 => {
            let said = String::from_utf8_lossy(&text[..length]);
            error.context(said.trim_start_matches("e ").trim().to_owned())
        }
        _ => error,
    }
}

/// Opens the directory `path` without entering it.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("opening `{}`", path.display()))
}
