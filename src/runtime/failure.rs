//! Why a container did not start, as its first process tells its parent.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A container that could not be started; the kinds decide the exit code.
#[derive(Debug, Error, Serialize, Deserialize)]
pub(crate) enum StartError {
    /// Exit code 127.
    #[error("{0}")]
    CommandNotFound(String),
    /// Exit code 126.
    #[error("{0}")]
    CommandNotExecutable(String),
    /// Exit code 125: a limit that the user asked for would not hold.
    #[error("{message}")]
    Unenforceable {
        message: String,
        /// What the user can do.
        cure: Option<String>,
    },
    /// Exit code 125.
    #[error("{0}")]
    Setup(String),
}

/// Returns the reason that `error` is: its own, or that something could not be prepared.
pub(super) fn failed(error: anyhow::Error) -> StartError {
    match error.downcast::<StartError>() {
        Ok(error) => error,
        Err(error) => StartError::Setup(format!("{error:#}")),
    }
}
