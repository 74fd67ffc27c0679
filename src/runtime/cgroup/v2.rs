//! Cgroup v2: one directory with every limit, and a BPF program for devices.

use super::devices::{self, DeviceRule};
use super::limit::{Cpu, Io, Limits, Memory, ThrottleKind};
use super::setting::{self, Missing, Setting, Unenforceable, Written};
use super::{Cgroup, Hierarchy, ROOT, make, unavailable};
use crate::sys::bpf;
use anyhow::{Context as _, Result};
use rustix::fs::{Access, access};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// The period of a quota that names none, in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// Makes the directory and writes every limit. What was made is in `cgroup` also on failure.
pub(super) fn fill(cgroup: &mut Cgroup, limits: &Limits) -> Result<()> {
    refuse_realtime(&limits.cpu)?;
    cgroup.notices.extend(discarded(&limits.memory));
    let settings = settings(limits);
    let directory = match place(&cgroup.path) {
        Ok(directory) => directory,
        Err(error) => {
            if let Some(setting) = settings.first() {
                return Err(setting.refused(&error, Some(setting::NO_RIGHTS)).into());
            }
            return unavailable(error).map_err(Into::into);
        }
    };
    cgroup.hierarchies.push(Hierarchy {
        name: String::new(),
        directory: directory.clone(),
    });
    for setting in settings {
        apply(cgroup, &directory, setting)?;
    }
    if devices::restrict(&limits.devices) {
        cgroup.guards_devices = guard_devices(&directory, &limits.devices)?;
    }
    Ok(())
}

fn refuse_realtime(cpu: &Cpu) -> Result<(), Unenforceable> {
    let is_asked = [
        cpu.realtime_runtime.is_some_and(|time| time != 0),
        cpu.realtime_period.is_some_and(|time| time != 0),
    ];
    if !is_asked.contains(&true) {
        return Ok(());
    }
    Err(Unenforceable {
        what: "real-time scheduling",
        reason: "cgroup v2 does not have this limit".to_owned(),
        cure: Some("run it without `--cpu-rt-runtime` and `--cpu-rt-period`"),
    })
}

/// Returns what to tell of wishes that v2 cannot grant, and that are no limits: Docker does without.
fn discarded(memory: &Memory) -> Vec<String> {
    let mut notices = Vec::new();
    if memory.swappiness.is_some() {
        notices.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. \
             Memory swappiness discarded."
                .to_owned(),
        );
    }
    if memory.waits_at_limit {
        notices.push(
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned(),
        );
    }
    notices
}

/// Returns what to write.
fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::from_iter(Setting::pids(limits.pids));
    memory(&limits.memory, &mut settings);
    cpu(&limits.cpu, &mut settings);
    io(&limits.io, &mut settings);
    settings
}

/// Swap is counted on its own here.
fn memory(memory: &Memory, settings: &mut Vec<Setting>) {
    settings.extend(
        memory
            .limit
            .map(|limit| Setting::bytes("memory.max", limit)),
    );
    let swap = memory.swap.and_then(|swap| u64::try_from(swap).ok());
    if let (Some(limit), Some(swap)) = (memory.limit, swap) {
        settings.push(
            Setting::bytes("memory.swap.max", swap.saturating_sub(limit))
                .called("swap")
                .if_missing(Missing::SwapUncounted),
        );
    }
    settings.extend(
        memory
            .reservation
            .map(|bytes| Setting::bytes("memory.low", bytes)),
    );
}

fn cpu(cpu: &Cpu, settings: &mut Vec<Setting>) {
    settings.extend(
        cpu.shares
            .map(|shares| Setting::new("cpu", "cpu.weight", &cpu_weight(shares))),
    );
    let quota = cpu.quota.filter(|quota| *quota > 0);
    if quota.is_some() || cpu.period.is_some() {
        let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
        let value = format!("{quota} {}", cpu.period.unwrap_or(CPU_PERIOD));
        settings.push(Setting::new("cpu", "cpu.max", &value));
    }
    // The kernel takes any list here; which part of it is in force depends on the cgroups above.
    for (file, list, proof) in [
        ("cpuset.cpus", &cpu.cpus, "cpuset.cpus.effective"),
        ("cpuset.mems", &cpu.mems, "cpuset.mems.effective"),
    ] {
        if !list.is_empty() {
            settings.push(Setting::numbers(file, list, proof));
        }
    }
}

/// Returns `shares` of v1, 2 to 262144, as a weight of v2, 1 to 10000: on a curve through both ends on which the
/// two defaults meet, 1024 and 100 (github.com/opencontainers/cgroups, `ConvertCPUSharesToCgroupV2Value`).
fn cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "shares have 18 bits, and the weight is between 1 and 10000"
        )]
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

fn io(io: &Io, settings: &mut Vec<Setting>) {
    let weight = |value: &str, converted: &str| {
        let other = Setting::line("io", "io.weight", &converted)
            .called("I/O by weight")
            .cure(setting::NO_WEIGHTS);
        Setting::line("io", "io.bfq.weight", &value)
            .called("I/O by weight")
            .cure(setting::NO_WEIGHTS)
            .if_missing(Missing::Instead(Box::new(other)))
    };
    settings.extend(io.weight.map(|own| {
        weight(
            &format!("default {own}"),
            &format!("default {}", io_weight(own)),
        )
    }));
    for (disk, own) in &io.device_weights {
        settings.push(weight(
            &format!("{disk} {own}"),
            &format!("{disk} {}", io_weight(*own)),
        ));
    }
    for throttle in &io.throttles {
        let word = match throttle.kind {
            ThrottleKind::ReadBytes => "rbps",
            ThrottleKind::WriteBytes => "wbps",
            ThrottleKind::ReadOperations => "riops",
            ThrottleKind::WriteOperations => "wiops",
        };
        let value = format!("{} {word}={}", throttle.disk, throttle.rate);
        settings.push(Setting::line("io", "io.max", &value).called("I/O"));
    }
}

/// Returns a weight of BFQ, 10 to 1000, as one of `io.weight`, 1 to 10000 (same source, `ConvertBlkIOToIOWeightValue`).
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
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
fn place(path: &Path) -> io::Result<PathBuf> {
    let refused = match make(Path::new(ROOT), path) {
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
        Some(base) if access(base.join("cgroup.procs"), Access::WRITE_OK).is_ok() => {
            make(base, path)
        }
        _ => Err(refused),
    }
}

fn apply(cgroup: &mut Cgroup, directory: &Path, mut setting: Setting) -> Result<(), Unenforceable> {
    loop {
        let mut written = setting.apply(directory)?;
        if let Written::Missing(_) = written {
            enable(directory, &cgroup.path, &setting)?;
            written = setting.apply(directory)?;
        }
        match written.instead(&setting, &mut cgroup.notices)? {
            Some(other) => setting = other,
            None => return Ok(()),
        }
    }
}

/// Hands the controller of `setting` down to `directory`, the cgroup `path`. Done when a file is missing, so once
/// after a boot; it is never taken back. The cgroups in between have it as well as the one above them, so that
/// nobody takes it away from there (EBUSY).
fn enable(directory: &Path, path: &Path, setting: &Setting) -> Result<(), Unenforceable> {
    let depth = path.components().count();
    let above: Vec<_> = directory.ancestors().skip(1).take(depth).collect();
    for above in above.iter().rev() {
        let file = above.join("cgroup.subtree_control");
        setting::overwrite(&file, &format!("+{}", setting.controller)).map_err(|error| {
            let cure = match error.kind() {
                ErrorKind::ResourceBusy => {
                    Some("move the processes of that cgroup into a child of it first")
                }
                ErrorKind::NotFound => Some(
                    "the controller must be in `cgroup.controllers` there: see `man 7 cgroups`",
                ),
                ErrorKind::PermissionDenied => Some(
                    "hand the controller down to this user, or `sudo ddock run …`, or run it without this limit",
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
    use crate::runtime::cgroup::{Disk, Pids, Throttle};

    fn written(limits: &Limits) -> Vec<String> {
        let settings = settings(limits);
        let written = settings.iter().map(|s| format!("{}={}", s.file, s.value));
        written.collect()
    }

    #[test]
    fn swap_is_what_exceeds_memory() {
        let limits = |swap| Limits {
            memory: Memory {
                limit: Some(100),
                swap,
                ..Memory::default()
            },
            ..Limits::default()
        };
        for (swap, expected) in [
            (None, &[][..]),
            (Some(-1), &[]),
            (Some(300), &["memory.swap.max=200"]),
            (Some(100), &["memory.swap.max=0"]),
        ] {
            assert_eq!(written(&limits(swap))[1..], *expected);
        }
    }

    #[test]
    fn limits_become_writes_in_the_words_of_v2() {
        let limits = Limits {
            memory: Memory {
                reservation: Some(1 << 23),
                // Told, not written.
                swappiness: Some(0),
                waits_at_limit: true,
                ..Memory::default()
            },
            cpu: Cpu {
                shares: Some(512),
                period: Some(50_000),
                cpus: "0-1".to_owned(),
                mems: "0".to_owned(),
                ..Cpu::default()
            },
            pids: Pids::AtMost(7),
            io: Io {
                weight: Some(500),
                device_weights: vec![(Disk(8, 0), 300)],
                throttles: vec![Throttle {
                    kind: ThrottleKind::ReadOperations,
                    disk: Disk(8, 16),
                    rate: 100,
                }],
            },
            devices: Vec::new(),
        };
        assert_eq!(
            written(&limits),
            [
                "pids.max=7",
                "memory.low=8388608",
                "cpu.weight=59",
                "cpu.max=max 50000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "io.bfq.weight=default 500",
                "io.bfq.weight=8:0 300",
                "io.max=8:16 riops=100",
            ]
        );
        assert_eq!(discarded(&limits.memory).len(), 2);
    }

    #[test]
    fn shares_and_weights_meet_at_both_ends_and_at_the_default() {
        for (shares, weight) in [
            (2, 1),
            (3, 2),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (262_144, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        for (weight, expected) in [(10, 1), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), expected, "{weight}");
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
