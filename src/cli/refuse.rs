//! clap's complaints about words, in ours.

use crate::cli::failure::Refusal;
use crate::cli::foreign;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;

/// Says in our words what clap has against the words of the command known as `command`, which was called by `name`.
///
/// As with Docker, a flag that is wrong is 125, and a wrong number of words 1.
pub(super) fn refuse(error: &clap::Error, command: &str, name: &str) -> Refusal {
    let word = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let flag = word.split('=').next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if !flag.starts_with('-') => {
            Refusal::new(format!("unexpected argument `{word}`"))
                .code(1)
                .help(name)
        }
        ErrorKind::UnknownArgument => foreign::flag(command, flag).unwrap_or_else(|| {
            let refusal = Refusal::new(format!("unknown flag `{flag}`"));
            with_nearest(refusal, context(error, ContextKind::SuggestedArg)).help(name)
        }),
        ErrorKind::MissingRequiredArgument => {
            Refusal::new(format!("`{name}` needs {}", bare(&word)))
                .code(1)
                .help(name)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            Refusal::new(bad_value(error, bare(&word))).help(name)
        }
        ErrorKind::ArgumentConflict => {
            let prior = context(error, ContextKind::PriorArg).unwrap_or_default();
            let (one, other) = (bare(&word), bare(&prior));
            Refusal::new(format!("conflicting options: `{one}` and `{other}`")).help(name)
        }
        _ => Refusal::new(first_paragraph(error)).help(name),
    }
}

/// Says which value of `flag` is wrong, and why.
fn bad_value(error: &clap::Error, flag: &str) -> String {
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    if value.is_empty() {
        return format!("`{flag}` needs a value");
    }
    let reason = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => chain(reason),
        (None, Some(ContextValue::Strings(valid))) => format!("expected {}", valid.join(", ")),
        _ => return format!("invalid value `{value}` for `{flag}`"),
    };
    format!("invalid value `{value}` for `{flag}`: {reason}")
}

/// Returns an error with all that caused it, on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns `--name` for `--name <NAME>`, `--rm` for `--rm[=<RM>]` and `IMAGE` for `<IMAGE>...`.
fn bare(argument: &str) -> &str {
    let name = if argument.starts_with('-') {
        argument.split([' ', '[', '=']).next().unwrap_or(argument)
    } else {
        argument.trim_end_matches("...")
    };
    match name.strip_prefix(['<', '[']) {
        Some(placeholder) => &placeholder[..placeholder.len() - 1],
        None => name,
    }
}

/// Returns the first word that clap's `error` carries as `kind`.
fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

pub(super) fn with_nearest(refusal: Refusal, nearest: Option<String>) -> Refusal {
    match nearest {
        Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
        None => refusal,
    }
}

/// Returns clap's own complaint as one line, without its label and its usage text.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}
