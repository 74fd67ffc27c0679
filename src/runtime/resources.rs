//! The resources of an OCI spec as limits of a cgroup.

use crate::runtime::cgroup::{
    Access, Cpu, DeviceKind, DeviceRule, Disk, Io, Limits, Memory, Pids, Throttle, ThrottleKind,
};
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
};

/// Interprets `resources`; what is asked for and not implemented is refused.
pub(crate) fn limits(resources: &LinuxResources) -> Result<Limits> {
    refuse_unimplemented(resources)?;
    Ok(Limits {
        memory: resources.memory().as_ref().map(memory).unwrap_or_default(),
        cpu: resources.cpu().as_ref().map(cpu).unwrap_or_default(),
        pids: match resources.pids().map(|pids| pids.limit()) {
            Some(limit) if limit > 0 => Pids::AtMost(limit.cast_unsigned()),
            _ => Pids::Unlimited,
        },
        io: match resources.block_io() {
            Some(block_io) => io(block_io)?,
            None => Io::default(),
        },
        devices: resources
            .devices()
            .iter()
            .flatten()
            .map(rule)
            .collect::<Result<_>>()?,
    })
}

fn refuse_unimplemented(resources: &LinuxResources) -> Result<()> {
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    let io = resources.block_io().as_ref();
    let has_leaf_weight = |io: &LinuxBlockIo| {
        let mut devices = io.weight_device().iter().flatten();
        io.leaf_weight().is_some() || devices.any(|device| device.leaf_weight().is_some())
    };
    let asked = [
        ("hugepageLimits", resources.hugepage_limits().is_some()),
        ("network", resources.network().is_some()),
        ("rdma", resources.rdma().is_some()),
        ("unified", resources.unified().is_some()),
        (
            "memory.kernel",
            memory.is_some_and(|it| it.kernel().is_some()),
        ),
        (
            "memory.kernelTCP",
            memory.is_some_and(|it| it.kernel_tcp().is_some()),
        ),
        ("cpu.idle", cpu.is_some_and(|it| it.idle().is_some())),
        ("cpu.burst", cpu.is_some_and(|it| it.burst().is_some())),
        ("blockIO.leafWeight", io.is_some_and(has_leaf_weight)),
    ];
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        Some((field, _)) => bail!("the spec limits `{field}`, which is not there yet"),
        None => Ok(()),
    }
}

fn memory(memory: &LinuxMemory) -> Memory {
    // -1 is "unlimited".
    let bytes = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
    Memory {
        limit: bytes(memory.limit()),
        swap: memory.swap(),
        reservation: bytes(memory.reservation()),
        swappiness: memory.swappiness(),
        waits_at_limit: memory.disable_oom_killer().unwrap_or(false),
    }
}

fn cpu(cpu: &LinuxCpu) -> Cpu {
    Cpu {
        shares: cpu.shares(),
        quota: cpu.quota(),
        period: cpu.period(),
        realtime_runtime: cpu.realtime_runtime(),
        realtime_period: cpu.realtime_period(),
        cpus: cpu.cpus().clone().unwrap_or_default(),
        mems: cpu.mems().clone().unwrap_or_default(),
    }
}

fn io(io: &LinuxBlockIo) -> Result<Io> {
    let mut device_weights = Vec::new();
    for device in io.weight_device().iter().flatten() {
        let weight = device
            .weight()
            .context("a device is weighed without a weight")?;
        device_weights.push((disk(device.major(), device.minor())?, weight));
    }
    let mut throttles = Vec::new();
    for (kind, devices) in [
        (ThrottleKind::ReadBytes, io.throttle_read_bps_device()),
        (ThrottleKind::WriteBytes, io.throttle_write_bps_device()),
        (ThrottleKind::ReadOperations, io.throttle_read_iops_device()),
        (
            ThrottleKind::WriteOperations,
            io.throttle_write_iops_device(),
        ),
    ] {
        for device in devices.iter().flatten() {
            throttles.push(Throttle {
                kind,
                disk: disk(device.major(), device.minor())?,
                rate: device.rate(),
            });
        }
    }
    Ok(Io {
        weight: io.weight(),
        device_weights,
        throttles,
    })
}

fn disk(major: i64, minor: i64) -> Result<Disk> {
    Ok(Disk(device_number(major)?, device_number(minor)?))
}

fn device_number(number: i64) -> Result<u32> {
    u32::try_from(number).context("a device number is out of range")
}

fn rule(device: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let number = |number: Option<i64>| match number {
        // -1 is "all", as in the files of the kernel.
        None | Some(-1) => Ok(None),
        Some(number) => device_number(number).map(Some),
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
