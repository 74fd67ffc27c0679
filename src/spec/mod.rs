//! What to run: an image's config and the user's flags, as an OCI runtime spec.
