//! What commands do, apart from who asks for it: options in, notes and events on the way, a report out.

mod blame;
pub(crate) mod container;
mod cure;
pub(crate) mod image;
pub(crate) mod place;
mod root;
pub(crate) mod system;
pub(crate) mod volume;

pub(crate) use blame::{blame, hint};
pub(crate) use cure::of_unmapped;
pub(crate) use root::default_root;
