//! What is done with images.

mod list;
mod remove;

pub(crate) use list::{View, list, references};
pub(crate) use remove::remove;
