//! What a container reads of memory and processors in `/proc` and `/sys`: its limits instead of the machine.
//!
//! The files are made once, when the container starts, and only those that a limit makes different.

use crate::spec::files::File;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fmt::Write;

/// A file of the container's directory that lies over one of the kernel's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) target: &'static str,
    pub(crate) file: File,
}

const MEMINFO: &str = "/proc/meminfo";
const SWAPS: &str = "/proc/swaps";
const CPUINFO: &str = "/proc/cpuinfo";
const STAT: &str = "/proc/stat";
/// What the C library counts for `sysconf(_SC_NPROCESSORS_ONLN)`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Returns the files that are different under `resources`, which are config.json's.
///
/// `read` reads a file of the machine, and returns nothing for one that is not there.
pub(crate) fn build(
    resources: &Map<String, Value>,
    read: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<Vec<Shown>> {
    let mut shown = Vec::new();
    let mut show = |name, target, content| {
        let file = File { name, content };
        shown.push(Shown { target, file });
    };
    let memory = resources.get("memory").unwrap_or(&Value::Null);
    if let Some(limit) = memory["limit"].as_u64().filter(|limit| *limit > 0)
        && let Some(text) = read(MEMINFO)?
    {
        let machine = Memory::parse(&text).context("reading /proc/meminfo")?;
        let swap = memory["swap"]
            .as_u64()
            .map(|swap| swap.saturating_sub(limit) / 1024);
        let swap = swap.unwrap_or(machine.swap).min(machine.swap);
        if limit / 1024 < machine.total {
            show(
                "meminfo",
                MEMINFO,
                meminfo(&text, limit / 1024, swap, &machine),
            );
        }
        if swap < machine.swap {
            show("swaps", SWAPS, swaps(swap));
        }
    }
    let (quota, set) = (quota(resources), set(resources));
    if quota.is_none() && set.is_none() {
        return Ok(shown);
    }
    let Some(text) = read(ONLINE)? else {
        return Ok(shown);
    };
    let online = parse_list(&text);
    let mut cpus = online.clone();
    cpus.retain(|cpu| set.as_ref().is_none_or(|set| set.contains(cpu)));
    cpus.truncate(quota.unwrap_or(usize::MAX));
    if cpus.len() < online.len() {
        show("online", ONLINE, format!("{}\n", write_list(&cpus)));
        if let Some(text) = read(CPUINFO)? {
            show("cpuinfo", CPUINFO, cpuinfo(&text, &cpus));
        }
        if let Some(text) = read(STAT)? {
            show("stat", STAT, stat(&text, &cpus));
        }
    }
    Ok(shown)
}

/// What the machine has, in KiB.
struct Memory {
    total: u64,
    available: u64,
    swap: u64,
}

impl Memory {
    fn parse(text: &str) -> Option<Self> {
        let find = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            total: find("MemTotal:")?,
            available: find("MemAvailable:").or_else(|| find("MemFree:"))?,
            swap: find("SwapTotal:")?,
        })
    }
}

/// Returns meminfo of a machine with this much memory and swap, in KiB, of which nothing is used yet.
fn meminfo(text: &str, total: u64, swap: u64, machine: &Memory) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let value = match name {
            "MemTotal" => total,
            "MemFree" | "MemAvailable" => total.min(machine.available),
            "SwapTotal" | "SwapFree" => swap,
            "CommitLimit" => total / 2 + swap,
            // Sizes of the architecture, and counts that no limit is about.
            _ if name.starts_with("Vmalloc") || name.starts_with("Huge") => {
                writeln!(shown, "{line}").expect("writing to a string cannot fail");
                continue;
            }
            _ => 0,
        };
        let unit = if rest.ends_with(" kB") { " kB" } else { "" };
        writeln!(shown, "{:16}{value:>8}{unit}", format!("{name}:"))
            .expect("writing to a string cannot fail");
    }
    shown
}

fn swaps(swap: u64) -> String {
    let mut shown = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned();
    if swap > 0 {
        writeln!(shown, "none\t\t\t\t\tvirtual\t\t{swap}\t\t0\t\t0")
            .expect("writing to a string cannot fail");
    }
    shown
}

/// Returns how many whole processors the quota is worth, if there is one.
fn quota(resources: &Map<String, Value>) -> Option<usize> {
    let cpu = resources.get("cpu")?;
    let number = |name: &str| cpu[name].as_u64().filter(|number| *number > 0);
    let count = number("quota")?.div_ceil(number("period").unwrap_or(100_000));
    usize::try_from(count).ok()
}

/// Returns the processors that the container may run on, if not on all.
fn set(resources: &Map<String, Value>) -> Option<Vec<u32>> {
    let set = parse_list(resources.get("cpu")?["cpus"].as_str()?);
    Some(set).filter(|set| !set.is_empty())
}

/// Reads a list such as `0-3,8` (cpuset(7), "List format"); what is no number is passed over.
fn parse_list(text: &str) -> Vec<u32> {
    let mut cpus: Vec<u32> = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // The most that the kernel knows of (`NR_CPUS`).
        if let (Ok(first), Ok(last)) = (first.parse(), last.parse::<u32>()) {
            cpus.extend(first..=last.min(8192));
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

fn write_list(cpus: &[u32]) -> String {
    let ranges = cpus.chunk_by(|one, next| one + 1 == *next);
    let ranges = ranges.map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        _ => range[0].to_string(),
    });
    ranges.collect::<Vec<_>>().join(",")
}

/// Keeps the paragraphs of `cpus`, and those that are about no processor.
fn cpuinfo(text: &str, cpus: &[u32]) -> String {
    let is_shown = |paragraph: &&str| {
        let number = paragraph
            .lines()
            .find_map(|line| line.strip_prefix("processor")?.trim().strip_prefix(':'));
        let number = number.and_then(|number| number.trim().parse().ok());
        number.is_none_or(|number: u32| cpus.contains(&number))
    };
    text.split_inclusive("\n\n").filter(is_shown).collect()
}

/// Keeps the lines of `cpus`, and makes the first line their sum.
fn stat(text: &str, cpus: &[u32]) -> String {
    let mut sum: Vec<u64> = Vec::new();
    let mut rest = String::new();
    for line in text.lines() {
        let word = line.split(' ').next().unwrap_or_default();
        let cpu = word.strip_prefix("cpu");
        match cpu.map(str::parse::<u32>) {
            Some(Ok(cpu)) if cpus.contains(&cpu) => {
                let times = line
                    .split(' ')
                    .skip(1)
                    .map(|time| time.parse().unwrap_or(0));
                for (place, time) in times.enumerate() {
                    sum.resize(sum.len().max(place + 1), 0);
                    sum[place] += time;
                }
            }
            Some(_) => continue,
            None => {}
        }
        rest.push_str(line);
        rest.push('\n');
    }
    let sum: Vec<String> = sum.iter().map(u64::to_string).collect();
    format!("cpu  {}\n{rest}", sum.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine(path: &str) -> String {
        match path {
                MEMINFO => "MemTotal:       24684084 kB\nMemFree:         1982100 kB\nMemAvailable:   18785924 kB\n\
                    Cached:         18099484 kB\nSwapTotal:       1048576 kB\nSwapFree:        1000000 kB\n\
                    VmallocTotal:   34359738367 kB\nHugePages_Total:       2\n",
                CPUINFO => "processor\t: 0\nmodel\t: a\n\nprocessor\t: 1\nmodel\t: b\n\nprocessor\t: 2\n\nHardware\t: x\n",
                STAT => "cpu  6 60 0\ncpu0 1 10 0\ncpu1 2 20 0\ncpu2 3 30 0\nintr 5\nbtime 7\n",
                ONLINE => "0-2\n",
                other => panic!("{other}"),
            }
            .to_owned()
    }

    fn shown(resources: &Value) -> Vec<(&'static str, String)> {
        let shown = build(resources.as_object().unwrap(), &|path| {
            Ok(Some(machine(path)))
        })
        .unwrap();
        shown
            .into_iter()
            .map(|it| (it.target, it.file.content))
            .collect()
    }

    #[test]
    fn without_a_limit_that_tells_nothing_is_made() {
        for resources in [
            json!({}),
            json!({ "pids": { "limit": 3 } }),
            json!({ "memory": { "limit": 1_u64 << 40, "swap": 2_u64 << 40 } }),
            json!({ "cpu": { "quota": 300_000, "period": 100_000 } }),
            json!({ "cpu": { "cpus": "0-7" } }),
            json!({ "cpu": { "shares": 3 } }),
        ] {
            assert!(shown(&resources).is_empty(), "{resources}");
        }
    }

    #[test]
    fn memory_is_the_limit() {
        let memory = json!({ "memory": { "limit": 64 << 20, "swap": 96 << 20 } });
        let files = shown(&memory);
        let meminfo = "MemTotal:          65536 kB\nMemFree:           65536 kB\nMemAvailable:      65536 kB\n\
            Cached:                0 kB\nSwapTotal:         32768 kB\nSwapFree:          32768 kB\n\
            VmallocTotal:   34359738367 kB\nHugePages_Total:       2\n";
        assert_eq!(files[0], (MEMINFO, meminfo.to_owned()));
        assert!(files[1].1.contains("32768"));
        let none = json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } });
        assert_eq!(shown(&none)[1].1.lines().count(), 1);
        let unlimited = json!({ "memory": { "limit": 64 << 20, "swap": -1 } });
        assert_eq!(shown(&unlimited).len(), 1);
    }

    #[test]
    fn processors_are_as_many_as_the_quota_is_worth_or_those_of_the_set() {
        let quota = json!({ "cpu": { "quota": 150_000, "period": 100_000 } });
        assert_eq!(
            shown(&quota),
            [
                (ONLINE, "0-1\n".to_owned()),
                (
                    CPUINFO,
                    "processor\t: 0\nmodel\t: a\n\nprocessor\t: 1\nmodel\t: b\n\nHardware\t: x\n"
                        .to_owned()
                ),
                (
                    STAT,
                    "cpu  3 30 0\ncpu0 1 10 0\ncpu1 2 20 0\nintr 5\nbtime 7\n".to_owned()
                ),
            ]
        );
        for (cpu, online) in [
            (json!({ "quota": 1000 }), "0\n"),
            (json!({ "cpus": "0,2" }), "0,2\n"),
            (json!({ "cpus": "1-2", "quota": 50_000 }), "1\n"),
        ] {
            assert_eq!(shown(&json!({ "cpu": cpu }))[0].1, online);
        }
    }
}
