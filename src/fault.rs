//! Whose fault an error is: what every front makes its own answer of, an exit code or a status.

use anyhow::Error;
use thiserror::Error;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was asked for makes no sense, whatever there is.
    Invalid,
    /// What was named is not there.
    NotFound,
    /// What was asked for does not go together with what there is.
    Conflict,
    /// The caller may not have it.
    Forbidden,
    /// It cannot be had now, or not on this machine.
    Unavailable,
    /// ddock's own, or the machine's.
    Internal,
}

/// A request that an operation refuses.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    message: String,
    /// What to do about it, if that is known.
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Returns the first error of type `T` in the chain, whether it was the cause or added as context.
pub(crate) fn find<T: std::error::Error + Send + Sync + 'static>(error: &Error) -> Option<&T> {
    error
        .downcast_ref()
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_as_a_cause_and_as_context() {
        let fault = || Fault::new(Kind::Conflict, "it is there");
        let cause = Error::from(fault()).context("cannot make it");
        let context = anyhow::anyhow!("exists").context(fault());
        for error in [cause, context] {
            assert_eq!(find::<Fault>(&error), Some(&fault()));
        }
    }
}
