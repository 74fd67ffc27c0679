//! How a client's time with a container ends, as text and exit code.

use crate::cli::failure::DDOCK_FAILED;
use crate::cli::output;
use crate::monitor::{End, Leave, Outcome};
use anyhow::Result;

/// Says what is to be said at the end of a session, and returns the exit code.
pub(super) fn conclude(end: &End, id: &str) -> Result<u8> {
    match *end {
        End::Detached(Leave::Done) => output::print(&format!("{id}\n")).map(|()| 0),
        ref end => Ok(code_of(end)),
    }
}

/// Says how a client's time with a container ended, and returns the exit code.
pub(crate) fn code_of(end: &End) -> u8 {
    match *end {
        End::Ended(outcome) => {
            tell_of_end(outcome);
            outcome.status.code()
        }
        End::Incomplete => 1,
        // Docker's words, and its code.
        End::Cut(cut) => {
            output::tell(&format!("{cut}\n"));
            1
        }
        End::HungUp => left(Leave::Signal(libc::SIGHUP)),
        End::Detached(leave) => left(leave),
    }
}

/// Says why a client left a container running, if it was a person, and returns the exit code.
fn left(leave: Leave) -> u8 {
    match leave {
        Leave::Done => 0,
        Leave::Keys => {
            output::tell("read escape sequence\n");
            0
        }
        Leave::Signal(number) => u8::try_from(128 + number).unwrap_or(DDOCK_FAILED),
    }
}

/// Says what ended a container, if it was not its command.
fn tell_of_end(outcome: Outcome) {
    if outcome.is_overdue {
        output::tell(
            "ddock: the container was killed because its time was over (see `--timeout`)\n",
        );
    }
    if outcome.out_of_memory {
        output::tell(
            "ddock: a process of the container was killed because its memory limit was reached (see `--memory`)\n",
        );
    }
}
