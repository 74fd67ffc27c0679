//! What a failed command says, and its exit code.

use crate::cli::output;
use crate::engine;
use crate::fault::find;
use crate::human;
use crate::monitor::Vanished;
use crate::note::Note;
use crate::pull::Stopped;
use crate::runtime::StartError;
use anyhow::Error;
use std::fmt::Write as _;
use std::process::ExitCode;
use thiserror::Error;

/// The exit code for "ddock itself failed": `run`, and every command line that is refused (Docker's contract).
pub(crate) const DDOCK_FAILED: u8 = 125;

/// The exit code for "the command is there and cannot be executed" (Docker's contract).
pub(crate) const NOT_EXECUTABLE: u8 = 126;

/// A request that ddock refuses before it does anything.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub(crate) struct Refusal {
    message: String,
    hint: Option<String>,
    /// The command whose `--help` tells more: `ddock run`.
    help: Option<String>,
    code: u8,
}

impl Refusal {
    /// Returns a refusal that says `message` and exits with 125.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            help: None,
            code: DDOCK_FAILED,
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(crate) fn help(self, command: impl Into<String>) -> Self {
        Self {
            help: Some(command.into()),
            ..self
        }
    }

    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

/// The user has been told already, by a child process or item by item; only the exit code is left.
#[derive(Debug, Error)]
#[error("exit code {0}")]
pub(crate) struct Told(pub(crate) u8);

/// Tells the user about `error` and returns the exit code: the error's own, else `otherwise`.
pub(crate) fn report(error: &Error, otherwise: u8) -> ExitCode {
    if find::<output::Closed>(error).is_some() {
        return ExitCode::SUCCESS;
    }
    if let Some(Told(code)) = find(error) {
        return ExitCode::from(*code);
    }
    if let Some(stopped) = find::<Stopped>(error) {
        // Who sent the signal knows: there is nothing to tell.
        return ExitCode::from(stopped.exit_code());
    }
    tell(error);
    ExitCode::from(code(error).unwrap_or(otherwise))
}

/// Returns the exit code that `error` asks for, if it does.
fn code(error: &Error) -> Option<u8> {
    match find(error) {
        Some(StartError::CommandNotFound(_)) => return Some(127),
        Some(StartError::CommandNotExecutable(_)) => return Some(NOT_EXECUTABLE),
        Some(StartError::Unenforceable { .. } | StartError::Setup(_)) | None => {}
    }
    if find::<Vanished>(error).is_some() {
        return Some(DDOCK_FAILED);
    }
    find::<Refusal>(error).map(|refusal| refusal.code)
}

/// Tells the user what an operation noted on its way.
#[expect(clippy::needless_pass_by_value, reason = "what is told is told once")]
pub(crate) fn note(note: Note) {
    let text = note.0.to_string();
    if text.starts_with("WARNING: ") {
        // Docker's words, which begin a line of their own.
        return output::tell(&format!("{}\n", human::printable(&text)));
    }
    tell(&note.0);
}

/// Tells the user about `error`.
pub(crate) fn tell(error: &Error) {
    output::tell(&render(error));
}

/// Tells whether there is no point in the next item: nobody reads any more, or a signal asked to stop.
fn ends_all(error: &Error) -> bool {
    find::<output::Closed>(error).is_some() || find::<Stopped>(error).is_some()
}

/// Does `act` to every item although some fail: tells each failure, and fails at the end if there was one, with 1 or,
/// where a monitor died, with that failure's code.
pub(crate) fn each<T>(
    items: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut failed = None;
    for item in items {
        match act(item) {
            Ok(()) => {}
            Err(error) if ends_all(&error) => return Err(error),
            Err(error) => {
                tell(&error);
                let vanished = find::<Vanished>(&error).map(|_| DDOCK_FAILED);
                failed = failed.max(vanished.or(Some(1)));
            }
        }
    }
    failed.map_or(Ok(()), |code| Err(Told(code).into()))
}

/// Returns the whole text of a failure: one line on the cause, at most one hint, where to read on.
///
/// A registry's words and an image's are in there, so control characters are escaped.
pub(crate) fn render(error: &Error) -> String {
    let mut text = format!("ddock: {}\n", human::printable(&format!("{error:#}")));
    let refusal = find::<Refusal>(error);
    let hint = refusal.map_or_else(|| engine::hint(error), |refusal| refusal.hint.clone());
    if let Some(hint) = hint {
        text.push_str("hint: ");
        text.push_str(&human::printable(&hint));
        text.push('\n');
    }
    if let Some(command) = refusal.and_then(|refusal| refusal.help.as_deref()) {
        writeln!(text, "\nRun '{command} --help' for more information")
            .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use std::io::{self, ErrorKind};

    #[test]
    fn a_failure_is_one_line_from_the_wish_to_the_cause() {
        let error = anyhow!("Operation not permitted (os error 1)")
            .context("writing /proc/42/uid_map")
            .context("cannot run `alpine`");
        assert_eq!(
            render(&error),
            "ddock: cannot run `alpine`: writing /proc/42/uid_map: Operation not permitted (os error 1)\n"
        );
    }

    #[test]
    fn a_refusal_says_what_to_do_and_where_to_read_on() {
        let refusal = Refusal::new("unknown command `imgaes`")
            .hint("did you mean `images`?")
            .help("ddock");
        insta::assert_snapshot!(render(&refusal.into()), @r"
        ddock: unknown command `imgaes`
        hint: did you mean `images`?

        Run 'ddock --help' for more information
        ");
    }

    #[test]
    fn a_cause_cannot_speak_to_the_terminal() {
        let error = anyhow!("denied\n\u{1b}[2Jddock: all is well").context("cannot pull `x`");
        assert_eq!(
            render(&error),
            "ddock: cannot pull `x`: denied\\n\\u{1b}[2Jddock: all is well\n"
        );
    }

    #[test]
    fn a_full_disk_gets_a_hint() {
        let error = Error::from(io::Error::from(ErrorKind::StorageFull)).context("cannot pull `x`");
        assert!(render(&error).contains("\nhint: make room"));
    }

    #[test]
    fn the_error_chooses_the_exit_code() {
        let code = |error: Error| format!("{:?}", report(&error, 7));
        let exit = |code: u8| format!("{:?}", ExitCode::from(code));
        let closed = Error::from(output::Closed).context("cannot list images");
        assert_eq!(code(closed), exit(0));
        assert_eq!(code(Error::from(Told(3)).context("x")), exit(3));
        assert_eq!(code(Refusal::new("x").into()), exit(DDOCK_FAILED));
        assert_eq!(code(Refusal::new("x").code(1).into()), exit(1));
        assert_eq!(
            code(Error::from(Stopped { signal: 2 }).context("x")),
            exit(130)
        );
        let missing = StartError::CommandNotFound("x".to_owned());
        assert_eq!(code(Error::from(missing).context("x")), exit(127));
        assert_eq!(code(anyhow!("x")), exit(7));
    }

    #[test]
    fn every_item_is_tried_and_one_failure_fails_the_whole() {
        let mut seen = Vec::new();
        let result = each(["a", "b", "c"], |item| {
            seen.push(item);
            if item == "b" {
                anyhow::bail!("no such image: {item}")
            }
            Ok(())
        });
        assert_eq!(seen, ["a", "b", "c"]);
        assert!(find::<Told>(&result.unwrap_err()).is_some());
    }
}
