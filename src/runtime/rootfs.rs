//! A container's root: the layers of its image under a writable directory, merged by overlayfs.

use crate::runtime::mounts::{clone_of, explained};
use crate::sys::times;
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, futimens, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    open_tree,
};
use rustix::process::{chdir, fchdir};
use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes that fsconfig(2) takes of a string, its end included.
const FSCONFIG_SIZE: usize = 256;

/// Lower directories that overlayfs takes (`OVL_MAX_STACK` in fs/overlayfs/params.h).
const MOST_LAYERS: usize = 500;

/// Every option that the kernel's configuration could decide (overlayfs.rst).
const OPTIONS: [(&str, &str); 5] = [
    ("index", "off"),
    ("metacopy", "off"),
    ("xino", "off"),
    ("nfs_export", "off"),
    // `off` may still follow what a layer brought, as the kernel is configured.
    ("redirect_dir", "nofollow"),
];

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
        let times = times::of(&of);
        futimens(&upper, &times).with_context(context)
    }

    /// Merges the directories into a mount that is attached nowhere: it goes with the descriptor.
    ///
    /// They are named as seen from `base`, because the container's mount table shows the names.
    pub(crate) fn assemble(&self, base: &Path) -> Result<OwnedFd> {
        ensure!(
            self.lower.len() <= MOST_LAYERS,
            "the image has {} layers: the kernel merges at most {MOST_LAYERS}",
            self.lower.len()
        );
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let before = match open(".", flags, Mode::empty()) {
            // The caller may be where this user may not go: there is no way back, and a thread goes instead.
            Err(Errno::ACCESS) => {
                return in_thread(|| {
                    unshare(CloneFlags::CLONE_FS).context("parting working directories")?;
                    self.assemble_elsewhere(base)
                });
            }
            before => before.context("opening the working directory")?,
        };
        let assembled = self.assemble_elsewhere(base);
        fchdir(before).context("returning to the working directory")?;
        assembled
    }

    /// Leaves the working directory behind.
    fn assemble_elsewhere(&self, base: &Path) -> Result<OwnedFd> {
        let assembled = self.assemble_from(base);
        if assembled.as_ref().is_err_and(is_invalid) {
            return self.assemble_on_old_kernel();
        }
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

    /// Before Linux 6.5 there is no `lowerdir+`, which shows only when all is merged. All layers go in one string: of 256
    /// bytes by fsconfig(2), of nearly a page by mount(2).
    fn assemble_on_old_kernel(&self) -> Result<OwnedFd> {
        let context = || format!("merging {} layers on this kernel", self.lower.len());
        let handles = Handles::open(self)?;
        if handles.lower().len() < FSCONFIG_SIZE {
            let lower = vec![("lowerdir", handles.lower().into())];
            let [upper, work] = [&handles.upper, &handles.work].map(name);
            return self
                .merge(lower, upper.into(), work.into())
                .with_context(context);
        }
        // A thread has a mount namespace of its own if it likes: nobody else sees the mount, which must lie somewhere.
        in_thread(|| self.mount_apart()).with_context(context)
    }

    /// Mounts the overlay by mount(2) in a mount namespace of this thread's own, and takes it from there.
    fn mount_apart(&self) -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context("making mounts private")?;
        // Not before: the layers must be of this mount namespace.
        let handles = Handles::open(self)?;
        let [upper, work] = [&handles.upper, &handles.work].map(name);
        let lower = handles.lower();
        let mut data = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        for (key, value) in OPTIONS {
            write!(data, ",{key}={value}").expect("writing to a string cannot fail");
        }
        for (flag, _) in self.flags().iter().filter(|(_, is_set)| *is_set) {
            write!(data, ",{flag}").expect("writing to a string cannot fail");
        }
        let data = CString::new(data).context("the options have no NUL")?;
        let (place, flags) = (&self.upper, MountFlags::empty());
        mount("overlay", place, "overlay", flags, Some(&*data)).context("mounting them")?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, place, flags).context("taking the mount")
    }

    /// Flags of overlayfs, and whether they are set.
    fn flags(&self) -> [(&'static str, bool); 2] {
        [
            ("volatile", self.discarded),
            ("userxattr", self.user_attributes),
        ]
    }

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
        options.extend(OPTIONS.map(|(key, value)| (key, value.into())));
        for (key, value) in &options {
            fsconfig_set_string(&overlay, *key, value)
                .with_context(|| format!("setting overlayfs {key} to `{}`", value.display()))
                .map_err(|error| explained(error, overlay.as_fd()))?;
        }
        for (flag, _) in self.flags().iter().filter(|(_, is_set)| *is_set) {
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

/// Calls `make` in a thread, which has ended when this returns.
fn in_thread<T: Send>(make: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, make)?;
        let result = thread.join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The directories, open, and named by their descriptors as seen from `/proc/self/fd`, which is the working directory:
/// that makes three or four bytes a layer, and a page is enough for as many as the kernel takes.
struct Handles {
    layers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

impl Handles {
    fn open(rootfs: &Rootfs) -> Result<Self> {
        let layers = rootfs.lower.iter().rev().map(|path| open_directory(path));
        let handles = Self {
            layers: layers.collect::<Result<_>>()?,
            upper: open_directory(&rootfs.upper)?,
            work: open_directory(&rootfs.work)?,
        };
        // The names are looked up at the very end.
        chdir("/proc/self/fd").context("entering /proc/self/fd")?;
        Ok(handles)
    }

    /// Returns the value of `lowerdir`, top first.
    fn lower(&self) -> String {
        self.layers.iter().map(name).collect::<Vec<_>>().join(":")
    }
}

fn name(directory: &OwnedFd) -> String {
    directory.as_raw_fd().to_string()
}

fn is_invalid(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref() == Some(&Errno::INVAL)
}

/// Opens the directory `path` without entering it.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("opening `{}`", path.display()))
}

/// Clones the mount of the host's directory `path`, with what is mounted below, as it is seen from this mount namespace.
/// It must be the directory `held`, which was opened in another one.
pub(crate) fn take_directory(path: &Path, held: BorrowedFd<'_>) -> Result<OwnedFd> {
    let directory = open_directory(path)?;
    let identity = |of: BorrowedFd<'_>| fstat(of).map(|stat| (stat.st_dev, stat.st_ino));
    ensure!(
        identity(directory.as_fd())? == identity(held)?,
        "`{}` is another directory by now",
        path.display()
    );
    clone_of(directory.as_fd(), true)
        .with_context(|| format!("taking `{}` for the root", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes `count` layers with a file each.
    fn rootfs(directory: &Path, count: usize) -> Rootfs {
        let make = |name: String| {
            let path = directory.join(name);
            fs_err::create_dir_all(&path).unwrap();
            path
        };
        let layer = |number: usize| {
            let path = make(format!("layers/{number}"));
            fs_err::write(path.join(number.to_string()), "").unwrap();
            path
        };
        Rootfs {
            lower: (0..count).map(layer).collect(),
            upper: make("upper".to_owned()),
            work: make("work".to_owned()),
            discarded: true,
            user_attributes: false,
        }
    }

    #[test]
    fn five_hundred_layers_are_merged_on_every_kernel() {
        let way: [fn(&Rootfs, &Path) -> Result<OwnedFd>; 2] = [
            |rootfs, base| rootfs.assemble(base),
            |rootfs, _| rootfs.assemble_on_old_kernel(),
        ];
        for (number, assemble) in way.into_iter().enumerate() {
            for count in [1, 40, 500] {
                let directory = tempfile::tempdir_in("/dev/shm").unwrap();
                let rootfs = rootfs(directory.path(), count);
                let mount = assemble(&rootfs, directory.path()).unwrap();
                let mount = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
                assert_eq!(
                    fs_err::read_dir(&mount).unwrap().count(),
                    count,
                    "way {number}"
                );
                fs_err::write(mount.join("new"), "").unwrap();
                assert!(rootfs.upper.join("new").exists());
                let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
                assert!(
                    !mounts.contains(directory.path().to_str().unwrap()),
                    "{mounts}"
                );
            }
        }
    }

    #[test]
    fn more_layers_than_the_kernel_takes_are_an_error_that_says_so() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let rootfs = rootfs(directory.path(), 501);
        let error = format!("{:#}", rootfs.assemble(directory.path()).unwrap_err());
        assert!(
            error.contains("501 layers") && error.contains("500"),
            "{error}"
        );
    }
}
