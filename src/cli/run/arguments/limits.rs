//! The flags of `ddock run` about limits: how much of the machine the container may use.

use crate::human;
use crate::options::{DeviceBytes, DeviceOperations, DeviceWeight, Io, Limits, Sysctl, Ulimit};
use clap::Args;
use std::convert::Infallible;

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitFlags {
    /// Limit memory, in bytes or with b, k, m, g
    #[arg(short, long, value_name = "BYTES", value_parser = memory)]
    memory: Option<u64>,
    /// Limit memory and swap together; -1 is no limit [default: twice the memory]
    #[arg(long, value_name = "BYTES", value_parser = memory_swap)]
    memory_swap: Option<i64>,
    /// Leave this much memory to the container while others want it
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory_reservation: Option<u64>,
    /// How readily to swap, 0 to 100; -1 is as the host does (cgroup v1)
    #[arg(long, value_name = "PERCENT")]
    memory_swappiness: Option<i64>,
    /// Let processes wait for memory instead of killing one (cgroup v1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily to kill when the host runs out of memory, -1000 to 1000
    #[arg(long, value_name = "SCORE")]
    oom_score_adj: Option<i32>,
    /// Limit processor time, in processors: 0.5 is half of one
    #[arg(long, value_name = "NUMBER", value_parser = nano_cpus)]
    cpus: Option<u64>,
    /// Share of processor time while others want it, of 1024
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Period in which a quota counts, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,
    /// Limit processor time in each period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_quota: Option<i64>,
    /// Period in which real-time scheduling counts, in microseconds (cgroup v1)
    #[arg(long, value_name = "TIME")]
    cpu_rt_period: Option<u64>,
    /// Limit real-time scheduling in each period, in microseconds (cgroup v1)
    #[arg(long, value_name = "TIME")]
    cpu_rt_runtime: Option<i64>,
    /// Processors to use: 0-2,7
    #[arg(
        long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    cpuset_cpus: String,
    /// Memory nodes to use: 0-2,7
    #[arg(
        long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    cpuset_mems: String,
    /// Limit the number of processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,
    /// Share of block devices' time while others want it, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    blkio_weight_device: Vec<DeviceWeight>,
    /// Limit bytes read from a device in a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_read_bps: Vec<DeviceBytes>,
    /// Limit bytes written to a device in a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_write_bps: Vec<DeviceBytes>,
    /// Limit reads from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_read_iops: Vec<DeviceOperations>,
    /// Limit writes to a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_write_iops: Vec<DeviceOperations>,
    /// Make the container's cgroup below this one [default: /ddock]
    #[arg(
        long,
        value_name = "PATH",
        default_value = "",
        hide_default_value = true
    )]
    cgroup_parent: String,
    /// Limit each process (setrlimit(2)); -1 is no limit
    #[arg(long, value_name = "TYPE=SOFT[:HARD]")]
    ulimit: Vec<Ulimit>,
    /// Set a kernel parameter of the container's own namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<Sysctl>,
    // Docker still takes it, and does nothing.
    #[arg(long, hide = true, value_parser = kernel_memory)]
    kernel_memory: Option<Infallible>,
}

impl From<LimitFlags> for Limits {
    fn from(flags: LimitFlags) -> Self {
        Self {
            // Docker: 0 is no limit.
            memory: flags.memory.filter(|bytes| *bytes > 0),
            memory_swap: flags.memory_swap,
            memory_reservation: flags.memory_reservation,
            memory_swappiness: flags.memory_swappiness,
            oom_kill_disable: flags.oom_kill_disable,
            oom_score: flags.oom_score_adj,
            nano_cpus: flags.cpus.filter(|cpus| *cpus > 0),
            cpu_shares: flags.cpu_shares,
            cpu_period: flags.cpu_period,
            cpu_quota: flags.cpu_quota,
            cpu_rt_period: flags.cpu_rt_period,
            cpu_rt_runtime: flags.cpu_rt_runtime,
            cpuset_cpus: flags.cpuset_cpus,
            cpuset_mems: flags.cpuset_mems,
            pids: flags.pids_limit,
            io: Io {
                weight: flags.blkio_weight,
                weight_devices: flags.blkio_weight_device,
                read_bytes: flags.device_read_bps,
                write_bytes: flags.device_write_bps,
                read_operations: flags.device_read_iops,
                write_operations: flags.device_write_iops,
            },
            cgroup_parent: flags.cgroup_parent,
            ulimits: flags.ulimit,
            sysctls: flags.sysctl,
        }
    }
}

fn memory(text: &str) -> Result<u64, &'static str> {
    human::parse_bytes(text).ok_or("expected a size such as `512m` or `2g`")
}

fn memory_swap(text: &str) -> Result<i64, &'static str> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = human::parse_bytes(text).and_then(|bytes| i64::try_from(bytes).ok());
    bytes.ok_or("expected a size such as `512m` or `2g`, or -1 for no limit")
}

fn kernel_memory(_: &str) -> Result<Infallible, &'static str> {
    Err("the kernel has no such limit any more; `--memory` counts its memory too")
}

/// Returns `1.5` as 1,500,000,000.
fn nano_cpus(text: &str) -> Result<u64, &'static str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return Err("expected a number such as `0.5` or `2`");
    }
    if fraction.len() > 9 {
        return Err("there are at most nine digits after the point");
    }
    let digits = format!("{whole}{fraction:0<9}");
    digits.parse().map_err(|_| "that is too many processors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_may_be_unlimited() {
        for (text, expected) in [
            ("-1", Some(-1)),
            ("1k", Some(1024)),
            ("0", Some(0)),
            ("-2", None),
        ] {
            assert_eq!(memory_swap(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn processors_are_counted_exactly() {
        for (text, expected) in [
            ("2", Ok(2_000_000_000)),
            ("0.1", Ok(100_000_000)),
            (".5", Ok(500_000_000)),
            ("1.", Ok(1_000_000_000)),
            ("0.000000001", Ok(1)),
        ] {
            assert_eq!(nano_cpus(text), expected, "{text}");
        }
        for bad in ["", ".", "-1", "1e3", "x", "0.0000000001", "99999999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }
}
