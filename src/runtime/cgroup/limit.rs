//! Limits: what is asked for, and one limit written to its file and read back.

use super::devices::DeviceRule;
use anyhow::{Context as _, Result, ensure};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use thiserror::Error;

/// What a container may use, as the OCI spec says it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// Bytes; not 0, for which there is `None`.
    pub(crate) memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is no limit. Needs `memory`.
    pub(crate) swap: Option<i64>,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) pids: Pids,
    /// In order; a list that denies nothing, such as an empty one, leaves every device open.
    pub(crate) devices: Vec<DeviceRule>,
}

impl Limits {
    /// Returns an error if swap is limited in a way that no kernel understands.
    pub(super) fn check(&self) -> Result<()> {
        let Some(swap) = self.swap.and_then(|swap| u64::try_from(swap).ok()) else {
            return Ok(());
        };
        let memory = self
            .memory
            .context("a limit on memory and swap together needs one on memory")?;
        ensure!(
            swap >= memory,
            "the limit on memory and swap together is less than that on memory"
        );
        Ok(())
    }
}

/// Time on processors: `quota` of every `period`, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Zero or less is no limit.
    pub(crate) quota: i64,
    pub(crate) period: u64,
}

/// How many processes and threads there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pids {
    #[default]
    Unlimited,
    AtMost(u64),
}

/// A limit that somebody asked for and that cannot be enforced here.
#[derive(Debug, Error)]
#[error("cannot limit {what}: {reason}")]
pub(crate) struct Unenforceable {
    /// `memory`, `swap`, `cpu` or `pids`.
    pub(crate) what: &'static str,
    pub(crate) reason: String,
    /// What the user can do, to be shown as a hint.
    pub(crate) cure: Option<&'static str>,
}

/// One value to write to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
}

impl Setting {
    pub(super) fn new(controller: &'static str, file: &'static str, value: &impl ToString) -> Self {
        Self {
            controller,
            file,
            value: value.to_string(),
        }
    }

    /// Returns the setting for a limit on processes, the same on v1 and v2.
    pub(super) fn pids(limit: Pids) -> Option<Self> {
        match limit {
            Pids::Unlimited => None,
            Pids::AtMost(limit) => Some(Self::new("pids", "pids.max", &limit)),
        }
    }

    /// Returns what the user knows this limit as.
    fn what(&self) -> &'static str {
        match self.file {
            "memory.memsw.limit_in_bytes" | "memory.swap.max" => "swap",
            _ => self.controller,
        }
    }

    pub(super) fn refused(
        &self,
        reason: &impl ToString,
        cure: Option<&'static str>,
    ) -> Unenforceable {
        Unenforceable {
            what: self.what(),
            reason: reason.to_string(),
            cure,
        }
    }

    /// Writes the value into `directory` and returns what the kernel made of it.
    pub(super) fn write(&self, directory: &Path) -> io::Result<String> {
        let path = directory.join(self.file);
        let mut file = fs_err::File::options().read(true).write(true).open(path)?;
        file.write_all(self.value.as_bytes())?;
        let mut buffer = [0; 64];
        let length = file.file().read_at(&mut buffer, 0)?;
        Ok(String::from_utf8_lossy(&buffer[..length])
            .trim_end()
            .to_owned())
    }

    /// Returns an error unless `written`, what [`Setting::write`] returned, is what was asked for.
    pub(super) fn check(&self, written: io::Result<String>) -> Result<(), Unenforceable> {
        match written {
            Ok(actual) if self.holds(&actual) => Ok(()),
            Ok(actual) => {
                let reason = format!(
                    "the kernel made `{actual}` of `{}` in `{}`",
                    self.value, self.file
                );
                Err(self.refused(&reason, None))
            }
            Err(error) => {
                let reason = format!("writing `{}`: {error}", self.value);
                Err(self.refused(&reason, None))
            }
        }
    }

    /// Returns whether `actual`, as read back, is what was asked for. Bytes are rounded down to whole pages, of 64 KiB at most.
    fn holds(&self, actual: &str) -> bool {
        const PAGE: u64 = 64 << 10;
        let is_rounded = || {
            let (asked, actual): (u64, u64) = (self.value.parse().ok()?, actual.parse().ok()?);
            Some(actual <= asked && asked - actual < PAGE)
        };
        actual == self.value || self.controller == "memory" && is_rounded() == Some(true)
    }
}

/// Writes a control file. It must exist: creating one, as `fs::write` would try, is EACCES and not ENOENT.
pub(super) fn overwrite(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs_err::File::options().write(true).open(path)?;
    file.write_all(value.as_bytes())
}

/// Returns a notice if memory would be limited without swap on a machine that swaps.
///
/// Called where the kernel has no file for the swap limit (before 5.11, Debian counted swap only
/// with `swapaccount=1`): the memory limit holds, but what is swapped out escapes it.
pub(super) fn swap_notice() -> Option<String> {
    // Without the file there is no swap.
    let swaps = fs_err::read_to_string("/proc/swaps").ok()?;
    let swaps = swaps.lines().skip(1).count() > 0;
    swaps.then(|| {
        "this kernel does not count swap, so memory is limited without it (boot with `swapaccount=1`)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_come_back_as_whole_pages() {
        let memory = |value: &str| Setting::new("memory", "memory.max", &value);
        for (asked, actual, holds) in [
            ("8192", "8192", true),
            ("8193", "8192", true),
            ("8191", "8192", false),
            ("16777216", "max", false),
            ("16777216", "9223372036854771712", false),
            ("16777216", "0", false),
        ] {
            assert_eq!(memory(asked).holds(actual), holds, "{asked} {actual}");
        }
        let pids = Setting::new("pids", "pids.max", &5);
        assert!(pids.holds("5") && !pids.holds("4") && !pids.holds("max"));
    }
}
