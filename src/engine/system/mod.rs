//! What is done with the store as a whole.

mod usage;

pub(crate) use usage::{ImageUse, Usage, usage};
