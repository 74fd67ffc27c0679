//! The monitor: one container, while it runs.
//!
//! It is a process of its own, forked from the command line, which is its client. The client holds
//! the terminal and the caller's streams; the monitor holds the container. If the client dies the
//! monitor ends the container; if the monitor dies the kernel does (`PR_SET_PDEATHSIG`).

mod attach;
mod raw;
mod relay;
mod signals;
mod streams;
mod supervise;

pub(crate) use raw::size as terminal_size;
pub(crate) use supervise::{Job, Outcome, run};

use crate::runtime::{ExitStatus, StartError};
use serde::{Deserialize, Serialize};

/// What the monitor tells its client.
#[derive(Debug, Serialize, Deserialize)]
enum FromMonitor {
    /// The command was exec'ed; the terminal's master comes with it, if there is one.
    Started {
        notices: Vec<String>,
    },
    NotStarted(StartError),
    /// The command ended, and what the container left was cleaned up.
    Ended {
        status: ExitStatus,
        out_of_memory: bool,
    },
    /// The monitor itself failed.
    Failed(String),
}

/// What the client asks of its monitor.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum FromClient {
    /// Send the command this signal, by number.
    Signal(i32),
}
