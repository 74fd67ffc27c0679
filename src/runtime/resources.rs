//! The resources of an OCI spec as limits of a cgroup.

use crate::runtime::cgroup::{Access, Cpu, DeviceKind, DeviceRule, Limits, Pids};
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

/// Interprets `resources`; what is asked for and not implemented is refused.
pub(crate) fn limits(resources: &LinuxResources) -> Result<Limits> {
    let asked = [
        ("blockIO", resources.block_io().is_some()),
        ("hugepageLimits", resources.hugepage_limits().is_some()),
        ("network", resources.network().is_some()),
        ("rdma", resources.rdma().is_some()),
        ("unified", resources.unified().is_some()),
    ];
    if let Some((field, _)) = asked.iter().find(|(_, is_asked)| *is_asked) {
        bail!("the spec limits `{field}`, which is not there yet");
    }
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    Ok(Limits {
        memory: memory
            .and_then(oci_spec::runtime::LinuxMemory::limit)
            .and_then(|bytes| u64::try_from(bytes).ok()),
        swap: memory.and_then(oci_spec::runtime::LinuxMemory::swap),
        cpu: cpu.and_then(|cpu| {
            let (quota, period) = (cpu.quota()?, cpu.period().unwrap_or(100_000));
            Some(Cpu { quota, period })
        }),
        pids: match resources.pids().map(|pids| pids.limit()) {
            Some(limit) if limit > 0 => Pids::AtMost(limit.cast_unsigned()),
            _ => Pids::Unlimited,
        },
        devices: resources
            .devices()
            .iter()
            .flatten()
            .map(rule)
            .collect::<Result<_>>()?,
    })
}

fn rule(device: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let number = |number: Option<i64>| match number {
        // -1 is "all", as in the files of the kernel.
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .context("a device number is out of range"),
    };
    let access = device.access().as_deref().unwrap_or("rwm");
    Ok(DeviceRule {
        allow: device.allow(),
        kind: match device.typ() {
            None | Some(LinuxDeviceType::A) => DeviceKind::All,
            Some(LinuxDeviceType::B) => DeviceKind::Block,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
            Some(LinuxDeviceType::P) => bail!("a FIFO has no device rule"),
        },
        major: number(device.major())?,
        minor: number(device.minor())?,
        access: Access::parse(access).with_context(|| format!("`{access}` is no device access"))?,
    })
}
