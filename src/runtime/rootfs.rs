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
    pub(crate) fn assemble(&self, base: &Path) -> Result<OwnedFd> {
        let before = open_directory(Path::new("."))?;
        let mut assembled = self.assemble_from(base);
        if assembled.as_ref().is_err_and(is_invalid) {
            assembled = self.assemble_on_old_kernel();
        }
        fchdir(before).context("returning to the working directory")?;
        assembled
    }

    fn assemble_from(&self, base: &Path) -> Result<OwnedFd> {
        chdir(base).with_context(|| format!("entering `{}`", base.display()))?;
        let from_base = |path: &Path| path.strip_prefix(base).unwrap_or(path).to_owned();
        // Overlayfs wants the top layer first; this is where the order turns.
        let lower = self.lower.iter().rev();
        let lower = lower.map(|layer| ("lowerdir+", from_base(layer)));
        self.merge(
            lower.collect(),
            from_base(&self.upper),
            from_base(&self.work),
        )
    }

    /// Before Linux 6.5 there is no `lowerdir+`, which shows only when all is merged. All layers go in
    /// one string, of which the kernel takes 256 bytes: they are named by their descriptors, seen from
    /// `/proc/self/fd`, which makes three or four bytes a layer. The names are looked up at the very end.
    fn assemble_on_old_kernel(&self) -> Result<OwnedFd> {
        let open = |path: &PathBuf| open_directory(path);
        let layers: Vec<_> = self.lower.iter().rev().map(open).collect::<Result<_>>()?;
        let (upper, work) = (open(&self.upper)?, open(&self.work)?);
        let name = |directory: &OwnedFd| directory.as_raw_fd().to_string();
        let lower = layers.iter().map(name).collect::<Vec<_>>().join(":");
        chdir("/proc/self/fd").context("entering /proc/self/fd")?;
        let lower = vec![("lowerdir", lower.into())];
        self.merge(lower, name(&upper).into(), name(&work).into())
            .with_context(|| format!("merging {} layers on this kernel", layers.len()))
    }

    /// Every option that the kernel's configuration could decide is set (overlayfs.rst).
    fn merge(
        &self,
        lower: Vec<(&'static str, PathBuf)>,
        upper: PathBuf,
        work: PathBuf,
    ) -> Result<OwnedFd> {
        let overlay =
            fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("opening overlayfs")?;
        let mut options = vec![("source", PathBuf::from("overlay"))];
        options.extend(lower);
        options.extend([("upperdir", upper), ("workdir", work)]);
        options.extend(["index", "metacopy", "xino", "nfs_export"].map(|key| (key, "off".into())));
        // `off` may still follow what a layer brought, as the kernel is configured.
        options.push(("redirect_dir", "nofollow".into()));
        for (key, value) in &options {
            fsconfig_set_string(&overlay, *key, value)
                .with_context(|| format!("setting overlayfs {key} to `{}`", value.display()))
                .map_err(|error| explained(error, overlay.as_fd()))?;
        }
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

fn is_invalid(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref() == Some(&Errno::INVAL)
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
