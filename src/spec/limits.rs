//! Limits of memory, processors, processes and block devices, in the numbers of config.json, as far as this machine can keep them.

use crate::human;
use crate::options::Limits;
use crate::spec::disks;
use crate::spec::host::PROCESSORS;
use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

/// The period in which `--cpus` counts, in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

const NANO: u64 = 1_000_000_000;

/// Returns the limits that were asked for as config.json's `linux.resources`: memory in bytes, times in microseconds.
pub(crate) fn build(limits: &Limits, cpus: fn() -> Result<u32>) -> Result<Map<String, Value>> {
    let pids = limits.pids.filter(|&limit| limit > 0);
    let pids = pids.map(|limit| Map::from_iter([("limit".to_owned(), json!(limit))]));
    let parts = [
        ("memory", memory(limits)),
        ("cpu", cpu(limits, cpus)?),
        ("pids", pids.unwrap_or_default()),
        ("blockIO", disks::build(&limits.io)?),
    ];
    let asked = parts.into_iter().filter(|(_, part)| !part.is_empty());
    Ok(asked
        .map(|(name, part)| (name.to_owned(), part.into()))
        .collect())
}

/// Zero is no limit, everywhere.
fn memory(limits: &Limits) -> Map<String, Value> {
    let limit = limits.memory.filter(|&limit| limit != 0);
    let swap = limits.memory_swap.filter(|&swap| swap != 0);
    let reservation = limits.memory_reservation.filter(|&bytes| bytes != 0);
    let swappiness = limits.memory_swappiness.filter(|&value| value != -1);
    // The kernel's numbers are signed.
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    // Memory and swap together.
    let swap = swap.or(limit.map(|limit| signed(limit.saturating_mul(2))));
    let mut memory = Map::new();
    set(&mut memory, "limit", limit.map(signed));
    set(&mut memory, "swap", swap.filter(|_| limit.is_some()));
    set(&mut memory, "reservation", reservation.map(signed));
    set(&mut memory, "swappiness", swappiness);
    let disables = limits.oom_kill_disable.then_some(true);
    set(&mut memory, "disableOOMKiller", disables);
    memory
}

fn cpu(limits: &Limits, cpus: fn() -> Result<u32>) -> Result<Map<String, Value>> {
    let (quota, period) = quota(limits, cpus)?;
    let shares = limits.cpu_shares.filter(|&shares| shares != 0);
    let runtime = limits.cpu_rt_runtime.filter(|&time| time != 0);
    let realtime_period = limits.cpu_rt_period.filter(|&time| time != 0);
    let mut cpu = Map::new();
    set(&mut cpu, "shares", shares);
    set(&mut cpu, "quota", quota);
    set(&mut cpu, "period", period);
    set(&mut cpu, "realtimeRuntime", runtime);
    set(&mut cpu, "realtimePeriod", realtime_period);
    for (name, what, list, available) in [
        ("cpus", "CPUs", &limits.cpuset_cpus, PROCESSORS),
        (
            "mems",
            "memory nodes",
            &limits.cpuset_mems,
            "/sys/devices/system/node/has_memory",
        ),
    ] {
        if list.is_empty() {
            continue;
        }
        // A kernel without NUMA has no such file, and one node.
        let available = fs_err::read_to_string(available).unwrap_or("0".to_owned());
        check_list(what, list, available.trim())?;
        set(&mut cpu, name, Some(list.as_str()));
    }
    Ok(cpu)
}

/// Returns quota and period.
fn quota(limits: &Limits, cpus: fn() -> Result<u32>) -> Result<(Option<i64>, Option<u64>)> {
    let period = limits.cpu_period.filter(|&period| period != 0);
    let quota = limits.cpu_quota.filter(|&quota| quota != 0);
    if let Some(nano) = limits.nano_cpus.filter(|&nano| nano != 0) {
        let cpus = cpus()?;
        ensure!(
            (NANO / 100..=u64::from(cpus) * NANO).contains(&nano),
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        );
        let quota = i64::try_from(nano / (NANO / CPU_PERIOD))?;
        return Ok((Some(quota), Some(CPU_PERIOD)));
    }
    Ok((quota, period))
}

/// Returns an error unless all of `list` is there.
fn check_list(what: &str, list: &str, available: &str) -> Result<()> {
    let asked = human::parse_numbers(list).unwrap_or_default();
    let there = human::parse_numbers(available).unwrap_or_default();
    ensure!(
        asked.is_subset(&there),
        "Requested {what} are not available - requested {list}, available: {available}"
    );
    Ok(())
}

fn set(map: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(limits: &Limits) -> Value {
        Value::Object(build(limits, || Ok(2)).unwrap())
    }

    fn refused(limits: &Limits) -> String {
        build(limits, || Ok(2)).unwrap_err().to_string()
    }

    #[test]
    fn limits_are_in_the_kernels_units() {
        let limits = Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(NANO / 2),
            pids: Some(20),
            ..Limits::default()
        };
        let expected = json!({
            "memory": { "limit": 67_108_864, "swap": 134_217_728 },
            "cpu": { "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 20 },
        });
        assert_eq!(built(&limits), expected);
        let limits = Limits {
            memory_reservation: Some(32 << 20),
            memory_swappiness: Some(0),
            oom_kill_disable: true,
            cpu_shares: Some(512),
            cpu_period: Some(50_000),
            cpu_quota: Some(-1),
            cpu_rt_period: Some(20),
            cpu_rt_runtime: Some(10),
            cpuset_cpus: "0".to_owned(),
            cpuset_mems: "0".to_owned(),
            ..Limits::default()
        };
        let expected = json!({
            "memory": { "reservation": 33_554_432, "swappiness": 0, "disableOOMKiller": true },
            "cpu": {
                "shares": 512, "quota": -1, "period": 50_000,
                "realtimeRuntime": 10, "realtimePeriod": 20, "cpus": "0", "mems": "0",
            },
        });
        assert_eq!(built(&limits), expected);
    }

    #[test]
    fn zero_is_no_limit() {
        for pids in [0, -1] {
            let limits = Limits {
                memory: Some(0),
                memory_swap: Some(0),
                memory_reservation: Some(0),
                memory_swappiness: Some(-1),
                nano_cpus: Some(0),
                cpu_shares: Some(0),
                cpu_period: Some(0),
                cpu_quota: Some(0),
                cpu_rt_period: Some(0),
                cpu_rt_runtime: Some(0),
                pids: Some(pids),
                ..Limits::default()
            };
            assert_eq!(built(&limits), json!({}));
        }
        assert_eq!(built(&Limits::default()), json!({}));
    }

    #[test]
    fn swap_counts_with_memory() {
        for (memory, swap, expected) in [
            (64 << 20, 0, json!({ "limit": 64 << 20, "swap": 128 << 20 })),
            (64 << 20, -1, json!({ "limit": 64 << 20, "swap": -1 })),
            (
                64 << 20,
                64 << 20,
                json!({ "limit": 64 << 20, "swap": 64 << 20 }),
            ),
            (u64::MAX, 0, json!({ "limit": i64::MAX, "swap": i64::MAX })),
            (0, -1, Value::Null),
        ] {
            let limits = Limits {
                memory: Some(memory),
                memory_swap: Some(swap),
                ..Limits::default()
            };
            assert_eq!(built(&limits)["memory"], expected);
        }
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
            assert_eq!(build(&limits(nano), || Ok(2)).is_ok(), right, "{nano}");
        }
        assert_eq!(
            refused(&limits(3 * NANO)),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
    }

    #[test]
    fn processors_must_be_there() {
        let check = |list| check_list("CPUs", list, "0-1").map_err(|e| e.to_string());
        for right in ["0", "1", "0-1", "0,1"] {
            assert_eq!(check(right), Ok(()));
        }
        for (list, expected) in [
            (
                "7",
                "Requested CPUs are not available - requested 7, available: 0-1",
            ),
            (
                "1-2",
                "Requested CPUs are not available - requested 1-2, available: 0-1",
            ),
        ] {
            assert_eq!(check(list), Err(expected.to_owned()));
        }
    }
}
