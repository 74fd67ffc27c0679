//! ddock: a daemonless Docker in one static binary.
//!
//! ```text
//!  reference ─▶ registry ─┐                                   ┌─▶ cli (ps, images, inspect …)
//!                         ├─▶ pull ─▶ image ─▶ spec ─▶ container ─▶ monitor ─▶ exit code
//!  store ◀── unpack ◀─────┘        (config)  (config.json)  (bundle)   │
//!                                                           runtime: clone3, mounts, exec
//! ```
//!
//! | row | modules | meaning |
//! |---|---|---|
//! | 0 | `digest` | the word that other words are made of |
//! | 0 | `reference` `platform` `human` | words: pure, no I/O |
//! | 1 | `sys` | Linux calls; the only place for `unsafe` |
//! | 1 | `narration` | what `--explain` tells, from every process |
//! | 2 | `store` `registry` `unpack` `runtime` `network` | engines, strangers to each other |
//! | 3 | `image` | what the store holds, typed |
//! | 4 | `pull` `spec` | engines joined; what to run |
//! | 5 | `container` | records of what runs |
//! | 6 | `monitor` | container + runtime, while it runs |
//! | 7 | `cli` | the user: parses, prints, maps errors to exit codes |
//!
//! A module imports only from rows above its own here, never sideways; `tests/it/architecture.rs` enforces it.

mod cli;
mod container;
mod digest;
mod human;
mod image;
mod monitor;
mod narration;
mod network;
mod platform;
mod pull;
mod reference;
mod registry;
mod runtime;
mod spec;
mod store;
mod sys;
mod unpack;

use std::process::ExitCode;

fn main() -> ExitCode {
    sys::signal::outlive_file_size_limit();
    cli::run()
}
