//! Cgroup v1 and hybrid: one directory under each hierarchy that has something to enforce.

use super::devices::{self, DeviceRule};
use super::limit::{Cpu, Io, Limits, Memory, ThrottleKind};
use super::setting::{self, Missing, Setting, Unenforceable};
use super::{Cgroup, Hierarchy, ROOT, make, unavailable};
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The controllers that we may join.
pub(super) const CONTROLLERS: [&str; 7] = [
    "pids", "devices", "memory", "cpu", "cpuacct", "cpuset", "blkio",
];

/// Those that a program wants to see all together before it believes any of them: Java takes a machine's memory and
/// processors for its own otherwise, limits or not (`CgroupSubsystemFactory::determine_type` in its source).
const BELIEVED_TOGETHER: [&str; 4] = ["memory", "cpu", "cpuacct", "cpuset"];

/// Makes the directories and writes every limit. What was made is in `cgroup` also on failure.
pub(super) fn fill(cgroup: &mut Cgroup, limits: &Limits) -> Result<()> {
    // Joined in any case: it is how a container's processes are found, and kept from forking while they are killed.
    join(cgroup, "pids").map(drop).or_else(unavailable)?;
    for setting in settings(limits) {
        apply(cgroup, setting)?;
    }
    let is_limited = |controller: &&str| cgroup.joined(controller).is_some();
    if BELIEVED_TOGETHER.iter().any(is_limited) {
        for controller in BELIEVED_TOGETHER {
            join(cgroup, controller).map(drop).or_else(unavailable)?;
        }
    }
    if limits.memory.waits_at_limit && limits.memory.limit.is_none() {
        cgroup.notices.push(
            "OOM killer is disabled for the container, but no memory limit is set, \
             this can result in the system running out of resources."
                .to_owned(),
        );
    }
    if devices::restrict(&limits.devices) {
        match join(cgroup, "devices") {
            Ok(directory) => cgroup.guards_devices = guard_devices(&directory, &limits.devices)?,
            Err(error) => unavailable(error)?,
        }
    }
    Ok(())
}

/// Returns what to write, in the order that the kernel needs.
fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::from_iter(Setting::pids(limits.pids));
    memory(&limits.memory, &mut settings);
    cpu(&limits.cpu, &mut settings);
    io(&limits.io, &mut settings);
    settings
}

fn memory(memory: &Memory, settings: &mut Vec<Setting>) {
    // Before memory and swap together, which may never be less.
    settings.extend(
        memory
            .limit
            .map(|limit| Setting::bytes("memory.limit_in_bytes", limit)),
    );
    let swap = memory.swap.and_then(|swap| u64::try_from(swap).ok());
    settings.extend(swap.map(|swap| {
        Setting::bytes("memory.memsw.limit_in_bytes", swap)
            .called("swap")
            .if_missing(Missing::SwapUncounted)
    }));
    settings.extend(
        memory
            .reservation
            .map(|bytes| Setting::bytes("memory.soft_limit_in_bytes", bytes)),
    );
    settings.extend(
        memory
            .swappiness
            .map(|swappiness| Setting::new("memory", "memory.swappiness", &swappiness)),
    );
    if memory.waits_at_limit {
        settings.push(Setting::line("memory", "memory.oom_control", &1));
    }
}

fn cpu(cpu: &Cpu, settings: &mut Vec<Setting>) {
    let mut set = |file, value: Option<String>| {
        settings.extend(value.map(|value| Setting::new("cpu", file, &value)));
    };
    set("cpu.shares", cpu.shares.map(|shares| shares.to_string()));
    // Before the quota, which is checked against it.
    set("cpu.cfs_period_us", cpu.period.map(|time| time.to_string()));
    let quota = cpu.quota.filter(|quota| *quota > 0);
    set("cpu.cfs_quota_us", quota.map(|time| time.to_string()));
    let realtime = [
        (
            "cpu.rt_period_us",
            cpu.realtime_period.map(|time| time.to_string()),
        ),
        (
            "cpu.rt_runtime_us",
            cpu.realtime_runtime.map(|time| time.to_string()),
        ),
    ];
    for (file, value) in realtime {
        settings.extend(value.map(|value| {
            Setting::new("cpu", file, &value).called("real-time scheduling").cure(
                "the cgroup above the container's must have as much: write it to `cpu.rt_runtime_us` in /sys/fs/cgroup/cpu/ddock",
            )
        }));
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !list.is_empty() {
            settings.push(Setting::numbers(file, list, file));
        }
    }
}

fn io(io: &Io, settings: &mut Vec<Setting>) {
    // BFQ is the scheduler that weighs; older kernels have CFQ, with other names (cgroup-v1/blkio-controller.rst).
    settings.extend(io.weight.map(|weight| {
        let older = Setting::new("blkio", "blkio.weight", &weight)
            .called("I/O by weight")
            .cure(setting::NO_WEIGHTS);
        Setting::new("blkio", "blkio.bfq.weight", &weight)
            .called("I/O by weight")
            .if_missing(Missing::Instead(Box::new(older)))
    }));
    for (disk, weight) in &io.device_weights {
        let value = format!("{disk} {weight}");
        let older = Setting::line("blkio", "blkio.weight_device", &value)
            .called("I/O by weight")
            .cure(setting::NO_WEIGHTS);
        settings.push(
            Setting::line("blkio", "blkio.bfq.weight_device", &value)
                .called("I/O by weight")
                .cure(setting::NO_WEIGHTS)
                .if_missing(Missing::Instead(Box::new(older))),
        );
    }
    for throttle in &io.throttles {
        let file = match throttle.kind {
            ThrottleKind::ReadBytes => "blkio.throttle.read_bps_device",
            ThrottleKind::WriteBytes => "blkio.throttle.write_bps_device",
            ThrottleKind::ReadOperations => "blkio.throttle.read_iops_device",
            ThrottleKind::WriteOperations => "blkio.throttle.write_iops_device",
        };
        let value = format!("{} {}", throttle.disk, throttle.rate);
        settings.push(Setting::line("blkio", file, &value).called("I/O"));
    }
}

fn apply(cgroup: &mut Cgroup, mut setting: Setting) -> Result<(), Unenforceable> {
    let directory = join(cgroup, setting.controller).map_err(|error| {
        let cure = match error.kind() {
            ErrorKind::NotFound => "mount the controller's hierarchy below /sys/fs/cgroup, if the kernel has it (/proc/cgroups)",
            _ => setting::NO_RIGHTS,
        };
        setting.refused(&error, Some(cure))
    })?;
    while let Some(other) = setting
        .apply(&directory)?
        .instead(&setting, &mut cgroup.notices)?
    {
        setting = other;
    }
    Ok(())
}

fn has(hierarchy: &str, controller: &str) -> bool {
    hierarchy.split(',').any(|name| name == controller)
}

impl Cgroup {
    /// Returns the container's directory in the hierarchy of `controller`, if it is in that one.
    fn joined(&self, controller: &str) -> Option<&Path> {
        let mut joined = self.hierarchies.iter();
        let found = joined.find(|joined| has(&joined.name, controller));
        found.map(|joined| joined.directory.as_path())
    }
}

/// Returns the container's directory in the hierarchy of `controller`, which is made if this is its first use.
fn join(cgroup: &mut Cgroup, controller: &'static str) -> io::Result<PathBuf> {
    if let Some(directory) = cgroup.joined(controller) {
        return Ok(directory.to_owned());
    }
    let name = hierarchy(controller)?;
    let base = Path::new(ROOT).join(&name);
    let directory = make(&base, &cgroup.path)?;
    let has_cpuset = has(&name, "cpuset");
    cgroup.hierarchies.push(Hierarchy {
        name,
        directory: directory.clone(),
    });
    if has_cpuset {
        fill_cpuset(&base, &cgroup.path)?;
    }
    Ok(directory)
}

/// Gives every cgroup on the way to `path` the processors and memory nodes of the one above, if it has none:
/// nothing can join a cgroup without (cgroup-v1/cpusets.rst), and a new one has none.
fn fill_cpuset(base: &Path, path: &Path) -> io::Result<()> {
    let mut above = base.to_owned();
    for name in path {
        let directory = above.join(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let is_empty = fs_err::read(directory.join(file))?.trim_ascii().is_empty();
            if is_empty {
                let given = fs_err::read_to_string(above.join(file))?;
                setting::overwrite(&directory.join(file), given.trim_end())?;
            }
        }
        above = directory;
    }
    Ok(())
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
    use crate::runtime::cgroup::{Disk, Pids, Throttle};

    fn written(limits: &Limits) -> Vec<String> {
        let settings = settings(limits);
        let written = settings.iter().map(|s| format!("{}={}", s.file, s.value));
        written.collect()
    }

    #[test]
    fn limits_become_writes_in_the_order_the_kernel_needs() {
        let limits = Limits {
            memory: Memory {
                limit: Some(1 << 24),
                swap: Some(1 << 25),
                reservation: Some(1 << 23),
                swappiness: Some(0),
                waits_at_limit: true,
            },
            cpu: Cpu {
                shares: Some(512),
                quota: Some(50_000),
                period: Some(100_000),
                realtime_runtime: Some(10),
                realtime_period: Some(20),
                cpus: "0-1".to_owned(),
                mems: "0".to_owned(),
            },
            pids: Pids::AtMost(10),
            io: Io {
                weight: Some(500),
                device_weights: vec![(Disk(8, 0), 300)],
                throttles: vec![Throttle {
                    kind: ThrottleKind::WriteBytes,
                    disk: Disk(8, 16),
                    rate: 1024,
                }],
            },
            devices: Vec::new(),
        };
        assert_eq!(
            written(&limits),
            [
                "pids.max=10",
                "memory.limit_in_bytes=16777216",
                "memory.memsw.limit_in_bytes=33554432",
                "memory.soft_limit_in_bytes=8388608",
                "memory.swappiness=0",
                "memory.oom_control=1",
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpu.rt_period_us=20",
                "cpu.rt_runtime_us=10",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "blkio.bfq.weight=500",
                "blkio.bfq.weight_device=8:0 300",
                "blkio.throttle.write_bps_device=8:16 1024",
            ]
        );
    }

    #[test]
    fn no_limit_is_never_written() {
        let limits = Limits {
            memory: Memory {
                swap: Some(-1),
                ..Memory::default()
            },
            cpu: Cpu {
                quota: Some(-1),
                ..Cpu::default()
            },
            ..Limits::default()
        };
        assert!(written(&limits).is_empty());
    }
}
