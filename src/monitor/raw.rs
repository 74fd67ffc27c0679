//! The caller's terminal in raw mode, and back on every way out.

use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::sync::OnceLock;

/// How the terminal was before; kept where a panic can find it.
static BEFORE: OnceLock<Termios> = OnceLock::new();

/// Raw mode, until this is dropped.
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes standard input raw: every key is the command's, ^C too (termios(3), `cfmakeraw`).
    ///
    /// `None` if it is no terminal, or the user keeps it as it is with `NORAW`, which Docker knows.
    pub(crate) fn enter() -> rustix::io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) || std::env::var_os("NORAW").is_some_and(|value| !value.is_empty()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        if BEFORE.set(before).is_ok() {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                report(panic);
            }));
        }
        tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.get() {
        // The terminal may be gone; there is nobody to tell then.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before).ok();
    }
}

/// Returns the size of the caller's terminal, if one of the standard streams is a terminal.
pub(crate) fn size() -> Option<Winsize> {
    let streams = [
        rustix::stdio::stdout(),
        rustix::stdio::stdin(),
        rustix::stdio::stderr(),
    ];
    let terminal = streams.into_iter().find(|stream| isatty(stream))?;
    tcgetwinsize(terminal).ok()
}
