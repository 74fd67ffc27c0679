//! Starts a container from its OCI bundle.

pub(crate) mod cgroup;
