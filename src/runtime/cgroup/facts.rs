//! What a cgroup's files say: limits as the kernel holds them, and what was used.

use super::Cgroup;
use std::path::Path;

/// The files of limits, those of v1 and v2 (cgroup-v1/*.rst, cgroup-v2.rst); a hierarchy has those of its controllers.
const LIMITS: [&str; 26] = [
    "pids.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "blkio.bfq.weight",
    "blkio.weight",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
    "io.bfq.weight",
    "io.weight",
    "io.max",
    "devices.list",
];

/// The files of what was used at most, or in all.
const USAGE: [&str; 6] = [
    "pids.peak",
    "memory.max_usage_in_bytes",
    "memory.peak",
    "cpuacct.usage",
    "cpu.stat",
    "memory.failcnt",
];

impl Cgroup {
    /// Returns the container's directories.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.hierarchies
            .iter()
            .map(|joined| joined.directory.as_path())
    }

    /// Returns the files of limits and what they say now.
    pub(crate) fn values(&self) -> Vec<(String, String)> {
        self.read(&LIMITS)
    }

    /// Returns the files that count and what they say now.
    pub(crate) fn usage(&self) -> Vec<(String, String)> {
        self.read(&USAGE)
    }

    /// Files that are not there belong to another version or controller.
    fn read(&self, files: &[&str]) -> Vec<(String, String)> {
        let mut values = Vec::new();
        for directory in self.directories() {
            for file in files {
                let text = fs_err::read_to_string(directory.join(file)).unwrap_or_default();
                if !text.trim().is_empty() {
                    values.push(((*file).to_owned(), text.trim().to_owned()));
                }
            }
        }
        values
    }
}
