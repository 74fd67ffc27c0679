//! Integration tests: the real binary, real registries, the real kernel; one module per promise.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report"
)]

mod architecture;
mod bad_input;
mod harness;
mod hostile;
mod hostile_layers;
mod hostile_tars;
mod images;
mod isolation;
mod layers;
mod limits;
mod process;
mod pull;
mod rootless;
mod run;
mod store;
mod transport;
mod tty;
mod unpack;
mod vm;
mod volumes;
