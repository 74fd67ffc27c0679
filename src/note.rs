//! What a user should know of an operation that goes on all the same: one type, and one way up.

use anyhow::Error;

/// A sentence for the user, and what there is to do about it.
#[derive(Debug)]
pub(crate) struct Note(pub(crate) Error);

/// Where an operation says its notes.
pub(crate) type Notes<'a> = &'a dyn Fn(Note);
