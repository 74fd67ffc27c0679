//! Limits: what is asked for, in the OCI spec's terms.

use super::devices::DeviceRule;
use anyhow::{Context as _, Result, ensure};
use std::fmt::{self, Display};

/// What a container may use. What is `None`, empty or zero is not limited.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) memory: Memory,
    pub(crate) cpu: Cpu,
    pub(crate) pids: Pids,
    pub(crate) io: Io,
    /// In order; a list that denies nothing, such as an empty one, leaves every device open.
    pub(crate) devices: Vec<DeviceRule>,
}

/// Sizes are in bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Not 0, for which there is `None`.
    pub(crate) limit: Option<u64>,
    /// Memory and swap together; -1 is no limit. Needs `limit`.
    pub(crate) swap: Option<i64>,
    /// What is left to the container while others want memory.
    pub(crate) reservation: Option<u64>,
    /// How readily its memory is swapped out: 0 to 100. Cgroup v1 only.
    pub(crate) swappiness: Option<u64>,
    /// At the limit processes wait for memory instead of being killed. Cgroup v1 only.
    pub(crate) waits_at_limit: bool,
}

/// Times are in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpu {
    /// The share of processor time among those that want more than there is, in v1's terms: 2 to 262144, of 1024.
    pub(crate) shares: Option<u64>,
    /// Time on processors in each period; zero or less is no limit.
    pub(crate) quota: Option<i64>,
    pub(crate) period: Option<u64>,
    /// Cgroup v1 only, like the period.
    pub(crate) realtime_runtime: Option<i64>,
    pub(crate) realtime_period: Option<u64>,
    /// Which processors, and whose memory, as the kernel's lists write them: `0-2,7`.
    pub(crate) cpus: String,
    pub(crate) mems: String,
}

/// How many processes and threads there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pids {
    #[default]
    Unlimited,
    AtMost(u64),
}

/// Block devices.
#[derive(Debug, Clone, Default)]
pub(crate) struct Io {
    /// In v1's terms: 10 to 1000.
    pub(crate) weight: Option<u16>,
    pub(crate) device_weights: Vec<(Disk, u16)>,
    pub(crate) throttles: Vec<Throttle>,
}

/// A whole block device: its major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk(pub(crate) u32, pub(crate) u32);

/// How much of a device may be read or written a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Throttle {
    pub(crate) kind: ThrottleKind,
    pub(crate) disk: Disk,
    pub(crate) rate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThrottleKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

impl Limits {
    /// Returns an error if swap is limited in a way that no kernel understands.
    pub(super) fn check(&self) -> Result<()> {
        let swap = self.memory.swap.and_then(|swap| u64::try_from(swap).ok());
        let Some(swap) = swap else { return Ok(()) };
        let memory = self
            .memory
            .limit
            .context("a limit on memory and swap together needs one on memory")?;
        ensure!(
            swap >= memory,
            "the limit on memory and swap together is less than that on memory"
        );
        Ok(())
    }
}

impl Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}
