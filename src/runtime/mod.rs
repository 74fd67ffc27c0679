//! Starts a container from its OCI bundle.
