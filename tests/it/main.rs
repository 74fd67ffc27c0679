//! Integration tests: one module per command, plus the architecture rules.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report"
)]

mod architecture;
