//! Mounts that show files as others' than they are on the disk (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`).

use crate::runtime::config::{IdMapping, Mount};
use crate::runtime::options::{Bind, Options};
use crate::sys::kernel::map_mount;
use crate::sys::userns;
use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use rustix::fs::{fstat, major, minor};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Whose the files are: a user namespace with these maps, which no process is in.
#[derive(Debug)]
pub(crate) struct Idmap {
    namespace: OwnedFd,
    /// Whether it goes for the mounts below too.
    recursive: bool,
}

impl Idmap {
    /// Returns what a mount of the spec asks for, if it does.
    pub(super) fn of(mount: &Mount, options: &Options) -> Result<Option<Self>> {
        let (users, groups) = (&mount.uid_mappings, &mount.gid_mappings);
        if users.is_empty() && groups.is_empty() && options.idmap.is_none() {
            return Ok(None);
        }
        let target = mount.destination.display();
        ensure!(
            !users.is_empty() && !groups.is_empty(),
            "the mount at `{target}` needs both uidMappings and gidMappings"
        );
        ensure!(
            options.bind.is_some(),
            "the mount at `{target}` cannot have uidMappings: only binds can"
        );
        let namespace = userns::mapped(&lines(users), &lines(groups))
            .with_context(|| format!("mapping the owners of what is mounted at `{target}`"))?;
        Ok(Some(Self {
            namespace,
            recursive: options.idmap == Some(Bind::Recursive),
        }))
    }

    /// Changes a cloned mount that is attached nowhere yet, as the kernel wants it. `/proc` is the host's.
    pub(crate) fn apply(&self, tree: BorrowedFd<'_>) -> Result<()> {
        let refused = match map_mount(tree, self.recursive, self.namespace.as_fd()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match refused.raw_os_error() {
            // All or none: if the top alone can be mapped, something below cannot.
            Some(libc::EINVAL)
                if self.recursive && map_mount(tree, false, self.namespace.as_fd()).is_ok() =>
            {
                bail!(
                    "a file system that is mounted below it cannot show files as others' (no idmapped mounts): \
                     `bind` beside `idmap` leaves out what is below"
                )
            }
            Some(libc::EINVAL) => bail!(
                "the file system `{}` cannot show files as others' (no idmapped mounts on this kernel)",
                file_system(tree)?
            ),
            Some(libc::EPERM) => bail!(
                "the kernel does not let owners be mapped on this `{}`: it is mapped already, or belongs to a user namespace",
                file_system(tree)?
            ),
            _ => Err(refused).context("mapping the owners of files"),
        }
    }
}

/// Returns ranges as `uid_map` has them: what is on the disk is the inside there.
fn lines(mappings: &[IdMapping]) -> String {
    let line = |it: &IdMapping| format!("{} {} {}\n", it.container, it.host, it.size);
    mappings.iter().map(line).collect()
}

/// Returns the kind of file system, by its device: a mount that is attached nowhere is in no table, its source is.
fn file_system(tree: BorrowedFd<'_>) -> io::Result<String> {
    let device = fstat(tree)?.st_dev;
    let device = format!("{}:{}", major(device), minor(device));
    let table = fs_err::read_to_string("/proc/self/mountinfo")?;
    let kind = table.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let is_it = mount.split(' ').nth(2) == Some(&device);
        is_it.then(|| file_system.split(' ').next().unwrap_or_default())
    });
    Ok(kind.unwrap_or("unknown").to_owned())
}
