//! Questions to a person at the terminal, with an echo of the answer or without.

use crate::cli::failure::Refusal;
use crate::cli::output;
use crate::registry::Secret;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::AsFd as _;
use zeroize::Zeroizing;

/// Longest line that a terminal gives, in bytes (termios(3), "Canonical and noncanonical mode").
const MAX_LINE: usize = 4096;

/// Asks `question` and returns the line that is typed, without spaces around it.
pub(crate) fn ask(question: &str) -> Result<String> {
    output::tell(question);
    let line = read_line()?;
    let text = std::str::from_utf8(&line).context("what was typed is no UTF-8")?;
    Ok(text.trim().to_owned())
}

/// Asks as Docker does whether what `warning` says is to be done by `command`; anything but a yes is a no.
pub(crate) fn confirm(warning: &str, command: &str) -> Result<(), Refusal> {
    let question = format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    // Nothing to read is no answer, which is a no.
    let answer = ask(&question).unwrap_or_default();
    if matches!(answer.as_str(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Refusal::new(format!("{command} was cancelled"))
        .hint("`--force` does not ask")
        .code(1))
}

/// Asks `question` and returns the line that is typed, which does not show.
///
/// The terminal is left as it was, also when a signal ends this process meanwhile.
pub(crate) fn ask_secret(question: &str) -> Result<Secret> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).context("asking the terminal for its modes")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);

    let mut ending = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        ending.add(signal);
    }
    let before = ending.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let signals = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("hiding what is typed")?;
    output::tell(question);
    let line = wait(&signals).and_then(|is_typed| {
        if is_typed {
            read_line()
        } else {
            Ok(Zeroizing::default())
        }
    });
    let restored = tcsetattr(&stdin, OptionalActions::Now, &shown);
    // A signal that came was not taken: it ends us here, as it would have before.
    before.thread_set_mask()?;
    restored.context("restoring the terminal")?;
    let line = line?;
    let text = std::str::from_utf8(&line).context("what was typed is no UTF-8")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned().into())
}

/// Waits for a line or a signal; true if it is a line.
fn wait(signals: &SignalFd) -> Result<bool> {
    let stdin = io::stdin();
    loop {
        let signals = signals.as_fd();
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            ready => {
                ready.context("waiting for the terminal")?;
                return Ok(fds[1].revents().is_empty());
            }
        }
    }
}

/// Reads what the terminal gives at once: a line.
fn read_line() -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(vec![0; MAX_LINE]);
    let length = loop {
        match rustix::io::read(io::stdin(), &mut *line) {
            Err(Errno::INTR) => {}
            length => break length.context("reading from the terminal")?,
        }
    };
    ensure!(length > 0, "nothing was typed");
    line.truncate(length);
    Ok(line)
}
