//! Cgroup v1 and hybrid: one directory under each hierarchy that has something to enforce.

use super::devices::{self, DeviceRule};
use super::limit::{self, Limits, Setting, Unenforceable};
use super::{Cgroup, Hierarchy, ROOT, make, unavailable};
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The controllers that we may join.
pub(super) const CONTROLLERS: [&str; 4] = ["pids", "devices", "memory", "cpu"];

/// Makes the directories and writes every limit. What was made is in `cgroup` also on failure.
pub(super) fn fill(cgroup: &mut Cgroup, limits: &Limits) -> Result<()> {
    // Joined in any case: it is how a container's processes are found, and kept from forking while they are killed.
    join(cgroup, "pids").map(drop).or_else(unavailable)?;
    for setting in settings(limits) {
        apply(cgroup, &setting)?;
    }
    if devices::restrict(&limits.devices) {
        match join(cgroup, "devices") {
            Ok(directory) => cgroup.guards_devices = guard_devices(&directory, &limits.devices)?,
            Err(error) => unavailable(error)?,
        }
    }
    Ok(())
}

/// Returns what to write, in the order that the kernel needs: memory before memory and swap together,
/// which may never be less; the period before the quota, which is checked against it.
fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::from_iter(Setting::pids(limits.pids));
    if let Some(memory) = limits.memory {
        settings.push(Setting::new("memory", "memory.limit_in_bytes", &memory));
        if let Some(swap) = limits.swap.filter(|swap| *swap >= 0) {
            settings.push(Setting::new("memory", "memory.memsw.limit_in_bytes", &swap));
        }
    }
    if let Some(cpu) = limits.cpu.filter(|cpu| cpu.quota > 0) {
        settings.push(Setting::new("cpu", "cpu.cfs_period_us", &cpu.period));
        settings.push(Setting::new("cpu", "cpu.cfs_quota_us", &cpu.quota));
    }
    settings
}

fn apply(cgroup: &mut Cgroup, setting: &Setting) -> Result<(), Unenforceable> {
    let directory = join(cgroup, setting.controller).map_err(|error| {
        let cure = match error.kind() {
            ErrorKind::NotFound => "mount the controller's hierarchy below /sys/fs/cgroup, if the kernel has it (/proc/cgroups)",
            _ => "run it as root, or without this limit",
        };
        setting.refused(&error, Some(cure))
    })?;
    let written = setting.write(&directory);
    if setting.file == "memory.memsw.limit_in_bytes" && is_missing(&written) {
        cgroup.notices.extend(limit::swap_notice());
        return Ok(());
    }
    setting.check(written)
}

fn is_missing(written: &io::Result<String>) -> bool {
    matches!(written, Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Returns the container's directory in the hierarchy of `controller`, which is made if this is its first use.
fn join(cgroup: &mut Cgroup, controller: &'static str) -> io::Result<PathBuf> {
    let mut joined = cgroup.hierarchies.iter();
    if let Some(joined) =
        joined.find(|joined| joined.name.split(',').any(|name| name == controller))
    {
        return Ok(joined.directory.clone());
    }
    let name = hierarchy(controller)?;
    let directory = make(&Path::new(ROOT).join(&name), &cgroup.id)?;
    cgroup.hierarchies.push(Hierarchy {
        name,
        directory: directory.clone(),
    });
    Ok(directory)
}

/// Returns the name of the directory where the hierarchy of `controller` is mounted: its own name, or,
/// where several controllers share one, what the symlink of that name leads to (`cpu` to `cpu,cpuacct`).
pub(super) fn hierarchy(controller: &'static str) -> io::Result<String> {
    match rustix::fs::readlink(Path::new(ROOT).join(controller), Vec::new()) {
        Ok(target) => {
            let target = target.into_string().map_err(io::Error::other)?;
            Ok(target
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or(&target)
                .to_owned())
        }
        // Not a symlink; or not there, which making a directory in it will say with its path.
        Err(Errno::INVAL | Errno::NOENT) => Ok(controller.to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the rules; returns whether they are in force, which they are not without `CAP_SYS_ADMIN` in the first user namespace.
fn guard_devices(directory: &Path, rules: &[DeviceRule]) -> Result<bool> {
    let open = |name| {
        fs_err::File::options()
            .write(true)
            .open(directory.join(name))
    };
    let (mut allow, mut deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in rules {
        let file = if rule.allow { &mut allow } else { &mut deny };
        for line in devices::lines(rule) {
            match file.write_all(line.as_bytes()) {
                Ok(()) => {}
                // The cgroup above has no such device to give, and an allowance is no limit. As on v2, every level must allow.
                Err(error) if error.kind() == ErrorKind::PermissionDenied && rule.allow => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
                Err(error) => {
                    return Err(error).with_context(|| format!("writing the device rule `{line}`"));
                }
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroup::{Cpu, Pids};

    #[test]
    fn limits_become_writes_in_the_order_the_kernel_needs() {
        let limits = Limits {
            memory: Some(1 << 24),
            swap: Some(1 << 25),
            cpu: Some(Cpu {
                quota: 50_000,
                period: 100_000,
            }),
            pids: Pids::AtMost(10),
            devices: Vec::new(),
        };
        let written: Vec<_> = settings(&limits)
            .iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect();
        assert_eq!(
            written,
            [
                "pids.max=10",
                "memory.limit_in_bytes=16777216",
                "memory.memsw.limit_in_bytes=33554432",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
            ]
        );
    }

    #[test]
    fn no_limit_is_never_written() {
        let limits = Limits {
            swap: Some(-1),
            cpu: Some(Cpu {
                quota: -1,
                period: 100_000,
            }),
            ..Limits::default()
        };
        assert_eq!(settings(&limits), []);
    }
}
