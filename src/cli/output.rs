//! The two streams that ddock itself speaks on; nothing else writes to stdout or stderr.

use crate::cli::name;
use anyhow::{Context, Result};
use std::io::{self, ErrorKind, IsTerminal, Write};
use thiserror::Error;

/// The reader of stdout went away (`ddock images | head -1`): the end of the work, not a failure.
#[derive(Debug, Error)]
#[error("stdout was closed")]
pub(crate) struct Closed;

/// Where a command reports: results on stdout, everything said beside a container's own output on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Tells whether a person watches this stream.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Writes `text` in one go. Fails with [`Closed`] if nobody reads stdout any more.
    pub(crate) fn write(self, text: &str) -> Result<()> {
        match self {
            Self::Stdout => print(text),
            Self::Stderr => {
                tell(text);
                Ok(())
            }
        }
    }
}

/// Writes `text` to stdout in one go. Fails with [`Closed`] if nobody reads it any more.
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// As [`print`], for what need not be text.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("writing to stdout"),
    }
}

/// Writes `text` to stderr in one go, with the name that this program was called by.
pub(crate) fn tell(text: &str) {
    let text = name::called(text);
    // There is nowhere left to report that stderr is closed.
    io::stderr().lock().write_all(text.as_bytes()).ok();
}
