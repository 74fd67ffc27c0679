//! Limits of a spec, put in force by another runtime.

use super::*;
use crate::options::Devices;

/// runc puts in force what was asked for, and shows it in the same files.
#[test]
fn runc_limits_what_our_bundle_limits() {
    let script = "cd /sys/fs/cgroup; for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_period_us cpu/cpu.cfs_quota_us cpuset/cpuset.cpus; do
busybox cat $file; done; ulimit -n; ulimit -Hc; busybox cat /proc/sys/kernel/sem /proc/sys/net/ipv4/ping_group_range
busybox cat /proc/self/oom_score_adj; busybox stat -c '%t:%T %a' /dev/nought; busybox head -c 1 /dev/nought | busybox wc -c";
    let options = ContainerOptions {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        hostname: Some("box".to_owned()),
        limits: Limits {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            memory_reservation: Some(32 << 20),
            oom_score: Some(100),
            cpu_shares: Some(512),
            cpu_period: Some(50_000),
            cpu_quota: Some(25_000),
            cpuset_cpus: "0".to_owned(),
            ulimits: ["nofile=100:200", "core=0"]
                .map(|text| text.parse().unwrap())
                .into(),
            sysctls: vec!["kernel.sem=250 32000 32 64".parse().unwrap()],
            ..Limits::default()
        },
        devices: Devices {
            nodes: vec!["/dev/zero:/dev/nought:r".parse().unwrap()],
            ..Devices::default()
        },
        ..ContainerOptions::default()
    };
    insta::assert_snapshot!(under_runc(1, options));
}
