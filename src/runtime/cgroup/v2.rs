//! Cgroup v2: one directory with every limit, and a BPF program for devices.

use super::devices::{self, DeviceRule};
use super::limit::{self, Limits, Setting, Unenforceable};
use super::{Cgroup, Hierarchy, ROOT, make, unavailable};
use crate::sys::bpf;
use anyhow::{Context as _, Result};
use rustix::fs::{Access, access};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// Makes the directory and writes every limit. What was made is in `cgroup` also on failure.
pub(super) fn fill(cgroup: &mut Cgroup, limits: &Limits) -> Result<()> {
    let settings = settings(limits);
    let directory = match place(&cgroup.id) {
        Ok(directory) => directory,
        Err(error) => {
            let cure =
                "run it as root, or as `systemd-run --user --scope ddock …`, or without this limit";
            if let Some(setting) = settings.first() {
                return Err(setting.refused(&error, Some(cure)).into());
            }
            return unavailable(error).map_err(Into::into);
        }
    };
    cgroup.hierarchies.push(Hierarchy {
        name: String::new(),
        directory: directory.clone(),
    });
    for setting in settings {
        apply(cgroup, &directory, &setting)?;
    }
    if devices::restrict(&limits.devices) {
        cgroup.guards_devices = guard_devices(&directory, &limits.devices)?;
    }
    Ok(())
}

/// Returns what to write. Swap is counted on its own here.
fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::from_iter(Setting::pids(limits.pids));
    if let Some(memory) = limits.memory {
        settings.push(Setting::new("memory", "memory.max", &memory));
        if let Some(swap) = limits.swap.and_then(|swap| u64::try_from(swap).ok()) {
            settings.push(Setting::new(
                "memory",
                "memory.swap.max",
                &swap.saturating_sub(memory),
            ));
        }
    }
    if let Some(cpu) = limits.cpu.filter(|cpu| cpu.quota > 0) {
        settings.push(Setting::new(
            "cpu",
            "cpu.max",
            &format!("{} {}", cpu.quota, cpu.period),
        ));
    }
    settings
}

/// Returns the directories under which `ddock/<id>` may be: the root for those who may write there,
/// beside this process's own cgroup for the others. It cannot be below that: a cgroup that has
/// processes gives no controllers to its children (cgroup-v2.rst, "No Internal Process Constraint").
pub(super) fn bases() -> io::Result<Vec<PathBuf>> {
    let own = fs_err::read_to_string("/proc/self/cgroup")?;
    let root = Path::new(ROOT);
    Ok(std::iter::once(root.to_owned())
        .chain(beside(&own).map(|own| root.join(own)))
        .collect())
}

/// Returns the cgroup above the one that `/proc/self/cgroup` tells, relative to the root; `None` for the root itself.
fn beside(own: &str) -> Option<&Path> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Path::new(path)
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
}

/// Makes the container's directory.
fn place(id: &str) -> io::Result<PathBuf> {
    let refused = match make(Path::new(ROOT), id) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            error
        }
        made => return made,
    };
    match bases()?.get(1) {
        // A process moves only if the cgroup above both places may be written (cgroup-v2.rst, "Delegation Containment").
        Some(base) if access(base.join("cgroup.procs"), Access::WRITE_OK).is_ok() => make(base, id),
        _ => Err(refused),
    }
}

fn apply(cgroup: &mut Cgroup, directory: &Path, setting: &Setting) -> Result<(), Unenforceable> {
    let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    let mut written = setting.write(directory);
    if written.as_ref().is_err_and(is_missing) {
        enable(directory, setting)?;
        written = setting.write(directory);
    }
    if setting.file == "memory.swap.max" && written.as_ref().is_err_and(is_missing) {
        cgroup.notices.extend(limit::swap_notice());
        return Ok(());
    }
    setting.check(written)
}

/// Hands the controller of `setting` down to `directory`. Done when a file is missing, so once after a boot; it
/// is never taken back. `ddock` has it as well as the cgroup above, so that nobody takes it away from there (EBUSY).
fn enable(directory: &Path, setting: &Setting) -> Result<(), Unenforceable> {
    for above in [2, 1] {
        let above = directory
            .ancestors()
            .nth(above)
            .expect("it is BASE/ddock/ID");
        let path = above.join("cgroup.subtree_control");
        limit::overwrite(&path, &format!("+{}", setting.controller)).map_err(|error| {
            let cure = match error.kind() {
                ErrorKind::ResourceBusy => {
                    Some("move the processes of that cgroup into a child of it first")
                }
                ErrorKind::NotFound => Some(
                    "the controller must be in `cgroup.controllers` there: see `man 7 cgroups`",
                ),
                _ => None,
            };
            setting.refused(&error, cure)
        })?;
    }
    Ok(())
}

/// Attaches the rules; returns whether they are in force, which they are not without the right to load BPF programs.
fn guard_devices(directory: &Path, rules: &[DeviceRule]) -> Result<bool> {
    let cgroup = fs_err::File::open(directory)?;
    let attached = bpf::load_device_program(&devices::program(rules))
        .and_then(|program| bpf::attach_device_program(cgroup.as_fd(), program.as_fd()));
    match attached {
        // Not EACCES, which is the verifier's word.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
        attached => attached
            .map(|()| true)
            .context("attaching the device rules as a BPF program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroup::{Cpu, Pids};

    #[test]
    fn swap_is_what_exceeds_memory() {
        let limits = |swap| Limits {
            memory: Some(100),
            swap,
            cpu: Some(Cpu {
                quota: 50_000,
                period: 100_000,
            }),
            pids: Pids::AtMost(7),
            devices: Vec::new(),
        };
        for (swap, expected) in [
            (None, None),
            (Some(-1), None),
            (Some(300), Some("200")),
            (Some(100), Some("0")),
        ] {
            let settings = settings(&limits(swap));
            let found = settings
                .iter()
                .find(|setting| setting.file == "memory.swap.max");
            assert_eq!(found.map(|setting| setting.value.as_str()), expected);
            assert_eq!(settings.last().unwrap().value, "50000 100000");
        }
    }

    #[test]
    fn a_place_beside_the_own_cgroup_is_found() {
        for (own, expected) in [
            ("0::/\n", None),
            ("0::/a\n", None),
            ("0::/a/b\n", Some("a")),
            ("1:cpu:/x/y\n0::/user.slice/a b/c\n", Some("user.slice/a b")),
            ("1:cpu:/\n", None),
        ] {
            assert_eq!(beside(own), expected.map(Path::new), "{own:?}");
        }
    }
}
