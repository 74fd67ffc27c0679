//! Which paths of `/proc` and `/sys` a container must not see or not write (moby's lists).

use anyhow::Result;
use std::path::Path;

/// What tells about the host, its hardware or other containers, or acts on them. What is missing is skipped.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What sets up the host.
pub(crate) const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

const CPUS: &str = "/sys/devices/system/cpu";

/// Returns the masked paths, sorted, with those of this machine's processors: how hot they run tells what others compute.
pub(crate) fn masked() -> Result<Vec<String>> {
    let mut paths: Vec<String> = MASKED.map(str::to_owned).into();
    paths.extend(thermal(Path::new(CPUS))?);
    paths.sort();
    Ok(paths)
}

/// Returns `cpu*/thermal_throttle` under `directory`. Where the first processor has none, as in most virtual machines,
/// there are none.
fn thermal(directory: &Path) -> Result<Vec<String>> {
    if !directory.join("cpu0/thermal_throttle").exists() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix("cpu").unwrap_or_default();
        let path = format!("{}/{name}/thermal_throttle", directory.display());
        let is_cpu = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if is_cpu && Path::new(&path).exists() {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_mobys() {
        let paths = masked().unwrap();
        assert!(paths.is_sorted());
        for path in MASKED {
            assert!(paths.iter().any(|masked| masked == path), "{path}");
        }
    }

    #[test]
    fn every_processor_has_its_own_path() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "cpu0/thermal_throttle",
            "cpu12/thermal_throttle",
            "cpu3",
            "cpufreq/thermal_throttle",
        ] {
            fs_err::create_dir_all(dir.path().join(path)).unwrap();
        }
        let mut found = thermal(dir.path()).unwrap();
        found.sort();
        let expected =
            ["cpu0", "cpu12"].map(|cpu| format!("{}/{cpu}/thermal_throttle", dir.path().display()));
        assert_eq!(found, expected);
        assert!(thermal(&dir.path().join("none")).unwrap().is_empty());
    }
}
