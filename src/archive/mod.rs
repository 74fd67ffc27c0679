//! Images in one file: Docker's archive and an OCI image layout at once, written and read.

mod bytes;
mod form;
mod load;
mod parts;
mod plan;
mod save;

pub(crate) use load::{Loaded, load};
pub(crate) use save::{Saved, save};
