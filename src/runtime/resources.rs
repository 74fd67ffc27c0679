//! The resources of an OCI spec as limits of a cgroup.

use crate::runtime::cgroup::{
    Access, Cpu, DeviceKind, DeviceRule, Disk, Io, Limits, Memory, Pids, Throttle, ThrottleKind,
};
use crate::runtime::config::{self, DeviceType, Resources};
use anyhow::{Context, Result, bail};

/// Interprets `resources`.
pub(super) fn limits(resources: Resources) -> Result<Limits> {
    let devices = resources.devices.iter();
    Ok(Limits {
        memory: memory(&resources.memory),
        cpu: cpu(resources.cpu),
        pids: match resources.pids {
            Some(pids) if pids.limit > 0 => Pids::AtMost(pids.limit.cast_unsigned()),
            _ => Pids::Unlimited,
        },
        io: io(&resources.block_io),
        devices: devices.map(rule).collect::<Result<_>>()?,
    })
}

fn memory(memory: &config::Memory) -> Memory {
    // -1 is "unlimited".
    let bytes = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
    Memory {
        limit: bytes(memory.limit),
        swap: memory.swap,
        reservation: bytes(memory.reservation),
        swappiness: memory.swappiness,
        waits_at_limit: memory.disable_oom_killer,
    }
}

fn cpu(cpu: config::Cpu) -> Cpu {
    Cpu {
        shares: cpu.shares,
        quota: cpu.quota,
        period: cpu.period,
        realtime_runtime: cpu.realtime_runtime,
        realtime_period: cpu.realtime_period,
        cpus: cpu.cpus,
        mems: cpu.mems,
    }
}

fn io(io: &config::BlockIo) -> Io {
    let weighed = io.weight_device.iter();
    let throttles = [
        (ThrottleKind::ReadBytes, &io.throttle_read_bps_device),
        (ThrottleKind::WriteBytes, &io.throttle_write_bps_device),
        (ThrottleKind::ReadOperations, &io.throttle_read_iops_device),
        (
            ThrottleKind::WriteOperations,
            &io.throttle_write_iops_device,
        ),
    ];
    let throttles = throttles.into_iter().flat_map(|(kind, devices)| {
        devices.iter().map(move |device| Throttle {
            kind,
            disk: Disk(device.major, device.minor),
            rate: device.rate,
        })
    });
    Io {
        weight: io.weight,
        device_weights: weighed
            .map(|device| (Disk(device.major, device.minor), device.weight))
            .collect(),
        throttles: throttles.collect(),
    }
}

fn rule(rule: &config::DeviceRule) -> Result<DeviceRule> {
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .context("a device number is out of range"),
    };
    let access = rule.access.as_deref().unwrap_or("rwm");
    Ok(DeviceRule {
        allow: rule.allow,
        kind: match rule.kind {
            None | Some(DeviceType::A) => DeviceKind::All,
            Some(DeviceType::B) => DeviceKind::Block,
            Some(DeviceType::C | DeviceType::U) => DeviceKind::Character,
            Some(DeviceType::P) => bail!("a FIFO has no device rule"),
        },
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: Access::parse(access).with_context(|| format!("`{access}` is no device access"))?,
    })
}
