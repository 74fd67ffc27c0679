//! What to run: an image's config and the user's flags, as an OCI runtime spec.

mod request;

pub(crate) use request::{Network, Request};
