//! The monitor: one container, while it runs.
