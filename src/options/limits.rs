//! How much of the machine a container may use.

use crate::human::{self, printable};
use crate::options::block::Io;
use crate::options::sysctl::Sysctl;
use crate::options::ulimit::Ulimit;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Less than this, and the runtime itself does not fit into the container (moby, `linuxMinMemory`).
const MINIMUM_MEMORY: u64 = 6 << 20;

/// How much of the machine the container may use. Zero is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// `--memory`, in bytes.
    pub(crate) memory: Option<u64>,
    /// `--memory-swap`, in bytes, memory included; -1 is no limit.
    pub(crate) memory_swap: Option<i64>,
    /// `--memory-reservation`, in bytes.
    pub(crate) memory_reservation: Option<u64>,
    /// `--memory-swappiness`, in percent; -1 is the machine's own.
    pub(crate) memory_swappiness: Option<i64>,
    /// `--oom-kill-disable`
    pub(crate) oom_kill_disable: bool,
    /// `--oom-score-adj`
    pub(crate) oom_score: Option<i32>,
    /// `--cpus`, in billionths of a processor.
    pub(crate) nano_cpus: Option<u64>,
    /// `--cpu-shares`, of 1024.
    pub(crate) cpu_shares: Option<u64>,
    /// `--cpu-period`, in microseconds, like all times here.
    pub(crate) cpu_period: Option<u64>,
    /// `--cpu-quota`; negative is no limit.
    pub(crate) cpu_quota: Option<i64>,
    /// `--cpu-rt-period`
    pub(crate) cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// `--cpuset-cpus`: `0-2,7`
    pub(crate) cpuset_cpus: String,
    /// `--cpuset-mems`: `0-2,7`
    pub(crate) cpuset_mems: String,
    /// `--pids-limit`; 0 and -1 are no limit.
    pub(crate) pids: Option<i64>,
    pub(crate) io: Io,
    /// `--cgroup-parent`
    pub(crate) cgroup_parent: String,
    /// `--ulimit`, in order.
    pub(crate) ulimits: Vec<Ulimit>,
    /// `--sysctl`, in order.
    pub(crate) sysctls: Vec<Sysctl>,
}

impl Limits {
    /// Refuses what no machine can have. The words are Docker's.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_memory()?;
        self.check_cpu()?;
        for (list, flag) in [(&self.cpuset_cpus, "cpus"), (&self.cpuset_mems, "mems")] {
            ensure!(
                list.is_empty() || human::parse_numbers(list).is_some(),
                "Invalid value {} for cpuset {flag}: invalid format: expected a list such as `0-2,7`",
                printable(list)
            );
        }
        let score = self.oom_score.unwrap_or_default();
        ensure!(
            (-1000..=1000).contains(&score),
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        );
        self.io.check()
    }

    fn check_memory(&self) -> Result<()> {
        let limit = self.memory.filter(|&limit| limit != 0);
        let swap = self.memory_swap.filter(|&swap| swap != 0);
        let reservation = self.memory_reservation.filter(|&bytes| bytes != 0);
        ensure!(
            limit.is_none_or(|limit| limit >= MINIMUM_MEMORY),
            "Minimum memory limit allowed is 6MB"
        );
        ensure!(
            limit.is_some() || swap.is_none_or(|swap| swap < 0),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        ensure!(
            swap.is_none_or(|swap| swap < 0 || limit <= Some(swap.cast_unsigned())),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        ensure!(
            reservation.is_none_or(|bytes| bytes >= MINIMUM_MEMORY),
            "Minimum memory reservation allowed is 6MB"
        );
        ensure!(
            limit.is_none_or(|limit| reservation <= Some(limit)),
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        );
        let swappiness = self.memory_swappiness.filter(|&value| value != -1);
        ensure!(
            swappiness.is_none_or(|value| (0..=100).contains(&value)),
            "invalid value: {}. Valid memory swappiness range is 0-100",
            swappiness.unwrap_or_default()
        );
        Ok(())
    }

    fn check_cpu(&self) -> Result<()> {
        let period = self.cpu_period.filter(|&period| period != 0);
        let quota = self.cpu_quota.filter(|&quota| quota != 0);
        let nano = self.nano_cpus.filter(|&nano| nano != 0);
        ensure!(
            nano.is_none() || period.is_none(),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set"
        );
        ensure!(
            nano.is_none() || quota.is_none(),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
        );
        ensure!(
            period.is_none_or(|period| (1_000..=1_000_000).contains(&period)),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        );
        ensure!(
            quota.is_none_or(|quota| !(0..1_000).contains(&quota)),
            "CPU cfs quota can not be less than 1ms (i.e. 1000)"
        );
        let shares = self.cpu_shares.filter(|&shares| shares != 0);
        if let Some(shares) = shares {
            ensure!(shares >= 2, "the minimum allowed cpu-shares is 2");
            ensure!(
                shares <= 262_144,
                "the maximum allowed cpu-shares is 262144"
            );
        }
        let runtime = self.cpu_rt_runtime.filter(|&time| time != 0);
        let realtime_period = self.cpu_rt_period.filter(|&time| time != 0);
        ensure!(
            realtime_period.is_none_or(|period| runtime <= i64::try_from(period).ok()),
            "cpu real-time runtime cannot be higher than cpu real-time period"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(limits: &Limits) -> String {
        limits.check().unwrap_err().to_string()
    }

    #[test]
    fn memory_has_a_minimum() {
        let limits = |memory| Limits {
            memory: Some(memory),
            ..Limits::default()
        };
        assert_eq!(
            refused(&limits(MINIMUM_MEMORY - 1)),
            "Minimum memory limit allowed is 6MB"
        );
        limits(MINIMUM_MEMORY).check().unwrap();
    }

    #[test]
    fn swap_counts_with_memory() {
        for (memory, swap, expected) in [
            (64, 0, None),
            (64, -1, None),
            (64, 64 << 20, None),
            (0, -1, None),
            (
                0,
                64 << 20,
                Some(
                    "You should always set the Memory limit when using Memoryswap limit, see usage",
                ),
            ),
            (
                64,
                32 << 20,
                Some("Minimum memoryswap limit should be larger than memory limit, see usage"),
            ),
        ] {
            let limits = Limits {
                memory: Some(memory << 20),
                memory_swap: Some(swap),
                ..Limits::default()
            };
            let error = limits.check().err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        }
    }

    #[test]
    fn reservations_and_swappiness_have_ranges() {
        let limits = |memory, reservation, swappiness| Limits {
            memory: Some(memory),
            memory_reservation: Some(reservation),
            memory_swappiness: Some(swappiness),
            ..Limits::default()
        };
        for (limits, expected) in [
            (
                limits(0, 1 << 20, 0),
                "Minimum memory reservation allowed is 6MB",
            ),
            (
                limits(64 << 20, 65 << 20, 0),
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (
                limits(0, 0, 101),
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
            (
                limits(0, 0, -2),
                "invalid value: -2. Valid memory swappiness range is 0-100",
            ),
        ] {
            assert_eq!(refused(&limits), expected);
        }
    }

    #[test]
    fn times_on_processors_have_ranges_and_conflicts() {
        let period =
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        let quota = "CPU cfs quota can not be less than 1ms (i.e. 1000)";
        for (nano, cpu_period, cpu_quota, expected) in [
            (0, 999, 0, period),
            (0, 1_000_001, 0, period),
            (0, 0, 999, quota),
            (
                1_000_000_000,
                1_000,
                0,
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ),
            (
                1_000_000_000,
                0,
                1_000,
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
        ] {
            let limits = Limits {
                nano_cpus: Some(nano),
                cpu_period: Some(cpu_period),
                cpu_quota: Some(cpu_quota),
                ..Limits::default()
            };
            assert_eq!(refused(&limits), expected);
        }
        for (shares, expected) in [
            (1, "the minimum allowed cpu-shares is 2"),
            (262_145, "the maximum allowed cpu-shares is 262144"),
        ] {
            let limits = Limits {
                cpu_shares: Some(shares),
                ..Limits::default()
            };
            assert_eq!(refused(&limits), expected);
        }
        let limits = Limits {
            cpu_rt_period: Some(1_000),
            cpu_rt_runtime: Some(2_000),
            ..Limits::default()
        };
        assert_eq!(
            refused(&limits),
            "cpu real-time runtime cannot be higher than cpu real-time period"
        );
    }

    #[test]
    fn lists_of_processors_are_lists() {
        let limits = |list: &str| Limits {
            cpuset_cpus: list.to_owned(),
            ..Limits::default()
        };
        for right in ["", "0", "0-1", "0,1"] {
            limits(right).check().unwrap();
        }
        assert_eq!(
            refused(&limits("x")),
            "Invalid value x for cpuset cpus: invalid format: expected a list such as `0-2,7`"
        );
    }
}
