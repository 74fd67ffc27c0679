//! The monitor: one container, while it runs.
//!
//! It is a process of its own, forked from the command line, which is its first client; others connect
//! to its door, a socket in the container's directory. Clients hold terminals and the caller's streams;
//! the monitor holds the container. If the client of a foreground container dies the monitor ends the
//! container; if the monitor dies the kernel does (`PR_SET_PDEATHSIG`).

mod attach;
mod caller;
mod change;
mod connection;
mod exec;
mod hub;
mod independent;
mod keys;
mod names;
mod raw;
mod relay;
mod servants;
mod signals;
mod streams;
mod supervise;
mod visit;
mod watch;

pub(crate) use attach::{End, Leave};
pub(crate) use change::Change;
pub(crate) use connection::Connection;
pub(crate) use exec::{Errand, exec};
pub(crate) use keys::DetachKeys;
pub(crate) use raw::size as terminal_size;
pub(crate) use signals::{Signals, heed_endings};
pub(crate) use supervise::{Job, Outcome, Session, run};
pub(crate) use visit::{attach, change, kill, signal, stop, switch, wait};

use crate::container::log::Stream;
use crate::runtime::{ExitStatus, StartError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A monitor that was killed: nobody saw how its container ended, which is no end with a code.
#[derive(Debug, Error)]
#[error("the container's monitor died, and the container with it")]
pub(crate) struct Vanished;

/// The name of the monitor's socket in the container's directory.
const DOOR: &str = "attach";

/// What the monitor tells its clients.
#[derive(Debug, Serialize, Deserialize)]
enum FromMonitor {
    /// The command was exec'ed. Where its input goes comes along, if there is such a place: the terminal's master,
    /// or the writing end of a pipe.
    Started {
        notices: Vec<String>,
        is_terminal: bool,
    },
    NotStarted(StartError),
    /// The command ended, and what the container left was cleaned up.
    Ended {
        status: ExitStatus,
        out_of_memory: bool,
        is_overdue: bool,
        /// What could not be written down of it, which changes nothing about the end.
        #[serde(default)]
        notices: Vec<String>,
    },
    /// The container's networks are as asked for.
    Changed {
        notices: Vec<String>,
    },
    /// What holds the networks of the container's user comes along, if there is such a thing.
    Switch,
    /// The monitor itself failed, or cannot do what was asked.
    Failed(String),
}

/// What a client asks of a monitor.
#[derive(Debug, Serialize, Deserialize)]
enum FromClient {
    /// Send the command this signal, by number.
    Signal(i32),
    /// Copy this stream from now on to the end of a pipe that comes along.
    Output(Stream),
    /// Tell where the command's input goes: answered as if it had just started.
    Attach,
    /// Change the container's networks.
    Change(Change),
    /// Hand over what holds the networks of the container's user.
    Switch,
    /// The client leaves, and the container goes on.
    Detach,
}
