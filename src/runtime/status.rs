//! How a process ended.

use anyhow::{Context, Result, bail};
use rustix::io::retry_on_intr;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::BorrowedFd;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExitStatus {
    Exited(u8),
    Signaled(i32),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exited with code {code}"),
            Self::Signaled(signal) => match Signal::from_named_raw(*signal) {
                Some(name) => write!(formatter, "was killed by signal {signal} ({name:?})"),
                None => write!(formatter, "was killed by signal {signal}"),
            },
        }
    }
}

impl ExitStatus {
    /// Returns the code that a shell would report: 128 + n for signal n.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// Waits for a child of this process to end.
pub(super) fn wait(pidfd: BorrowedFd<'_>) -> Result<ExitStatus> {
    let status = retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))
        .context("waiting for the container")?
        .context("waiting for the container returned nothing")?;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(ExitStatus::Exited(u8::try_from(code & 0xff)?)),
        (_, Some(signal)) => Ok(ExitStatus::Signaled(signal)),
        _ => bail!("the container neither exited nor was it killed"),
    }
}
