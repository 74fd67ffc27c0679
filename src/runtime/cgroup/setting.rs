//! One limit, written to its file and read back.

use super::limit::Pids;
use crate::human;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use thiserror::Error;

/// What to do where nothing shares a device's time by weight.
pub(super) const NO_WEIGHTS: &str = "only the I/O scheduler BFQ weighs: `modprobe bfq`, \
    then write `bfq` to /sys/block/DEVICE/queue/scheduler; or run it without the weight";

/// What to do where an ordinary user may make no cgroup.
pub(crate) const NO_RIGHTS: &str = "`sudo ddock run …` may, and `systemd-run --user --scope ddock run …` \
    where systemd hands cgroups down (version 2); or run it without this";

/// A limit that somebody asked for and that cannot be enforced here.
#[derive(Debug, Error)]
#[error("cannot limit {what}: {reason}")]
pub(crate) struct Unenforceable {
    /// What the user knows the limit as: `memory`, `swap`, `cpu` …
    pub(crate) what: &'static str,
    pub(crate) reason: String,
    /// What the user can do, to be shown as a hint.
    pub(crate) cure: Option<&'static str>,
}

/// One value to write to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) what: &'static str,
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    proof: Proof,
    missing: Missing,
    cure: Option<&'static str>,
}

/// How the kernel shows that it took a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It says the same again.
    Same,
    /// It says as many bytes, rounded down to whole pages.
    Pages,
    /// One of its lines has every word of it.
    Line,
    /// The list in this file has the same numbers.
    Numbers(&'static str),
}

/// What it means that the kernel does not have the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The limit cannot be enforced.
    Refused,
    /// Swap is not counted. The limit on memory holds.
    SwapUncounted,
    /// Another file does the same.
    Instead(Box<Setting>),
}

/// What became of a setting.
pub(super) enum Written {
    InForce,
    /// Its file is missing, for which this is the setting's answer.
    Missing(Missing),
}

impl Written {
    /// Returns what is to be written instead, if the file of `setting` is missing and another one does.
    pub(super) fn instead(
        self,
        setting: &Setting,
        notices: &mut Vec<String>,
    ) -> Result<Option<Setting>, Unenforceable> {
        match self {
            Self::InForce => Ok(None),
            Self::Missing(Missing::Instead(other)) => Ok(Some(*other)),
            Self::Missing(Missing::SwapUncounted) => {
                notices.extend(swap_notice());
                Ok(None)
            }
            Self::Missing(Missing::Refused) => {
                let reason = format!("the kernel has no `{}`", setting.file);
                Err(setting.refused(&reason, None))
            }
        }
    }
}

impl Setting {
    /// Returns a setting that the kernel shows as it was written.
    pub(super) fn new(controller: &'static str, file: &'static str, value: &impl ToString) -> Self {
        Self {
            what: controller,
            controller,
            file,
            value: value.to_string(),
            proof: Proof::Same,
            missing: Missing::Refused,
            cure: None,
        }
    }

    /// Returns the setting for a limit on processes, the same on v1 and v2.
    pub(super) fn pids(limit: Pids) -> Option<Self> {
        match limit {
            Pids::Unlimited => None,
            Pids::AtMost(limit) => Some(Self::new("pids", "pids.max", &limit)),
        }
    }

    /// Returns a setting of bytes.
    pub(super) fn bytes(file: &'static str, bytes: u64) -> Self {
        Self {
            proof: Proof::Pages,
            ..Self::new("memory", file, &bytes)
        }
    }

    /// Returns a setting that becomes one line of a file, or a part of one.
    pub(super) fn line(
        controller: &'static str,
        file: &'static str,
        value: &impl ToString,
    ) -> Self {
        Self {
            proof: Proof::Line,
            ..Self::new(controller, file, value)
        }
    }

    /// Returns a setting of a list such as `0-2,7`, which `proof` shows when it is in force.
    pub(super) fn numbers(file: &'static str, value: &str, proof: &'static str) -> Self {
        Self {
            proof: Proof::Numbers(proof),
            ..Self::new("cpuset", file, &value)
        }
    }

    /// Says what the user knows this limit as, where that is not the controller.
    pub(super) fn called(self, what: &'static str) -> Self {
        Self { what, ..self }
    }

    pub(super) fn if_missing(self, missing: Missing) -> Self {
        Self { missing, ..self }
    }

    /// Says what the user can do about a refusal.
    pub(super) fn cure(self, cure: &'static str) -> Self {
        Self {
            cure: Some(cure),
            ..self
        }
    }

    pub(super) fn refused(
        &self,
        reason: &impl ToString,
        cure: Option<&'static str>,
    ) -> Unenforceable {
        Unenforceable {
            what: self.what,
            reason: reason.to_string(),
            cure: cure.or(self.cure),
        }
    }

    /// Writes the value into `directory`, and makes sure that it is in force.
    pub(super) fn apply(&self, directory: &Path) -> Result<Written, Unenforceable> {
        match self.write(directory) {
            Ok(actual) if self.holds(&actual) => Ok(Written::InForce),
            Ok(actual) => {
                let (value, file) = (&self.value, self.file);
                let reason = format!("the kernel made `{actual}` of `{value}` in `{file}`");
                Err(self.refused(&reason, None))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Written::Missing(self.missing.clone()))
            }
            Err(error) => {
                let reason = format!("writing `{}`: {error}", self.value);
                Err(self.refused(&reason, None))
            }
        }
    }

    /// Writes the value and returns what the kernel made of it.
    fn write(&self, directory: &Path) -> io::Result<String> {
        let path = directory.join(self.file);
        let mut file = fs_err::File::options().read(true).write(true).open(path)?;
        file.write_all(self.value.as_bytes())?;
        match self.proof {
            // It may have a line for each of many devices.
            Proof::Line => fs_err::read_to_string(directory.join(self.file)),
            Proof::Numbers(shown) => fs_err::read_to_string(directory.join(shown)),
            Proof::Same | Proof::Pages => {
                let mut buffer = [0; 64];
                let length = file.file().read_at(&mut buffer, 0)?;
                Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }
        }
        .map(|text| text.trim_end().to_owned())
    }

    /// Returns whether `actual`, as read back, is what was asked for.
    fn holds(&self, actual: &str) -> bool {
        match self.proof {
            Proof::Same => actual == self.value,
            Proof::Pages => actual == self.value || is_rounded(&self.value, actual) == Some(true),
            Proof::Line => actual.lines().any(|line| {
                let has = |word| line.split_whitespace().any(|found| found == word);
                self.value.split_whitespace().all(has)
            }),
            Proof::Numbers(_) => {
                let numbers: Option<BTreeSet<u32>> = human::parse_numbers(&self.value);
                numbers.is_some() && numbers == human::parse_numbers(actual)
            }
        }
    }
}

/// Returns whether `actual` bytes are those asked for, down to a whole page, of 64 KiB at most.
fn is_rounded(asked: &str, actual: &str) -> Option<bool> {
    const PAGE: u64 = 64 << 10;
    let (asked, actual): (u64, u64) = (asked.parse().ok()?, actual.parse().ok()?);
    Some(actual <= asked && asked - actual < PAGE)
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
fn swap_notice() -> Option<String> {
    // Without the file there is no swap.
    let swaps = fs_err::read_to_string("/proc/swaps").ok()?;
    let swaps = swaps.lines().skip(1).count() > 0;
    swaps.then(|| {
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. \
         Memory limited without swap. (Boot with `swapaccount=1`.)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_come_back_as_whole_pages() {
        for (asked, actual, holds) in [
            (8192, "8192", true),
            (8193, "8192", true),
            (8191, "8192", false),
            (16_777_216, "max", false),
            (16_777_216, "9223372036854771712", false),
            (16_777_216, "0", false),
        ] {
            let setting = Setting::bytes("memory.max", asked);
            assert_eq!(setting.holds(actual), holds, "{asked} {actual}");
        }
        let pids = Setting::new("pids", "pids.max", &5);
        assert!(pids.holds("5") && !pids.holds("4") && !pids.holds("max"));
    }

    #[test]
    fn lists_may_come_back_in_other_words() {
        for (asked, actual, holds) in [
            ("0,1", "0-1", true),
            ("0-2,7", "0-2,7", true),
            ("1", "0-1", false),
            ("1", "", false),
        ] {
            let setting = Setting::numbers("cpuset.cpus", asked, "cpuset.cpus");
            assert_eq!(setting.holds(actual), holds, "{asked} {actual}");
        }
    }

    #[test]
    fn a_line_is_looked_for_among_others() {
        let setting = Setting::line("io", "io.max", &"8:0 rbps=1024");
        assert!(setting.holds("7:1 rbps=max wbps=5\n8:0 rbps=1024 wbps=max riops=max wiops=max"));
        assert!(!setting.holds("8:0 rbps=10240 wbps=max"));
        assert!(!setting.holds("18:0 rbps=1024"));
        assert!(!setting.holds(""));
    }
}
