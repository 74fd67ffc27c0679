//! What is done with images.

mod history;
mod list;
mod load;
mod prune;
mod remove;
mod save;
mod tag;

pub(crate) use history::{Step, history};
pub(crate) use list::{View, list, references};
pub(crate) use load::load;
pub(crate) use prune::{Pruned, prune};
pub(crate) use remove::{Uses, remove};
pub(crate) use save::choose;
pub(crate) use tag::{tag, untag};
