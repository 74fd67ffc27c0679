//! Limits of memory, processors and processes, checked and in the numbers of config.json.

use crate::spec::request::Limits;
use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

/// Less than this, and the runtime itself does not fit into the container (moby, `linuxMinMemory`).
const MINIMUM_MEMORY: u64 = 6 << 20;

/// The period in which a quota of processor time counts, in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

const NANO: u64 = 1_000_000_000;

/// Returns the limits that were asked for as config.json's `linux.resources`: memory in bytes, times in microseconds.
pub(crate) fn build(limits: &Limits, cpus: u32) -> Result<Map<String, Value>> {
    let mut resources = Map::new();
    if let Some(limit) = limits.memory.filter(|&limit| limit != 0) {
        ensure!(
            limit >= MINIMUM_MEMORY,
            "Minimum memory limit allowed is 6MB"
        );
        // Memory and swap together; the kernel's numbers are signed.
        let swap = limit.saturating_mul(2).min(i64::MAX as u64);
        let limit = limit.min(i64::MAX as u64);
        resources.insert("memory".into(), json!({ "limit": limit, "swap": swap }));
    }
    if let Some(nano) = limits.nano_cpus.filter(|&nano| nano != 0) {
        ensure!(
            (NANO / 100..=u64::from(cpus) * NANO).contains(&nano),
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        );
        let quota = nano / (NANO / CPU_PERIOD);
        resources.insert(
            "cpu".into(),
            json!({ "quota": quota, "period": CPU_PERIOD }),
        );
    }
    if let Some(limit) = limits.pids.filter(|&limit| limit > 0) {
        resources.insert("pids".into(), json!({ "limit": limit }));
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_the_kernels_units() {
        let limits = Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(NANO / 2),
            pids: Some(20),
        };
        let expected = json!({
            "memory": { "limit": 67_108_864, "swap": 134_217_728 },
            "cpu": { "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 20 },
        });
        assert_eq!(Value::Object(build(&limits, 2).unwrap()), expected);
    }

    #[test]
    fn zero_is_no_limit() {
        for pids in [0, -1] {
            let limits = Limits {
                memory: Some(0),
                nano_cpus: Some(0),
                pids: Some(pids),
            };
            assert!(build(&limits, 2).unwrap().is_empty());
        }
        assert!(build(&Limits::default(), 2).unwrap().is_empty());
    }

    #[test]
    fn memory_has_a_minimum() {
        let limits = |memory| Limits {
            memory: Some(memory),
            ..Limits::default()
        };
        let error = build(&limits(MINIMUM_MEMORY - 1), 2).unwrap_err();
        assert_eq!(error.to_string(), "Minimum memory limit allowed is 6MB");
        assert!(build(&limits(MINIMUM_MEMORY), 2).is_ok());
        assert_eq!(
            build(&limits(u64::MAX), 2).unwrap()["memory"]["swap"],
            i64::MAX
        );
    }

    #[test]
    fn processors_have_a_range() {
        let limits = |nano| Limits {
            nano_cpus: Some(nano),
            ..Limits::default()
        };
        for (nano, right) in [
            (NANO / 100 - 1, false),
            (NANO / 100, true),
            (2 * NANO, true),
            (2 * NANO + 1, false),
        ] {
            assert_eq!(build(&limits(nano), 2).is_ok(), right, "{nano}");
        }
        assert_eq!(
            build(&limits(3 * NANO), 2).unwrap_err().to_string(),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
    }
}
