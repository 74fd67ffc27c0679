//! Go's text templates over JSON, as Docker's `--format` has them. Pure: a template and a value make a text or an error.

mod function;
mod lex;
mod parse;
mod print;
mod run;

pub(crate) use parse::Template;
pub(crate) use run::{METHOD, Values};

#[cfg(test)]
mod tests;
