//! ddock: a daemonless Docker in one static binary.
//!
//! ```text
//!  reference ─▶ registry ─┐                                                   ┌─▶ cli   words, texts, exit codes
//!                         ├─▶ pull ─▶ image ─▶ spec ─▶ container ─▶ engine ───┘
//!  store ◀── unpack ◀─────┘   options ─┘   (config.json)   │     (operations)
//!                                                runtime ◀─ monitor
//! ```
//!
//! | row | modules | meaning |
//! |---|---|---|
//! | 0 | `digest` | the word that other words are made of |
//! | 0 | `reference` `platform` `human` `fault` `note` `template` | words: pure, no I/O |
//! | 1 | `sys` | Linux calls; the only place for `unsafe` |
//! | 1 | `narration` | what `--explain` tells, from every process |
//! | 2 | `store` `registry` `unpack` `runtime` `network` | engines, strangers to each other |
//! | 3 | `image` `options` | what the store holds, typed; what a container, a mount, a network membership is asked to be |
//! | 4 | `pull` `archive` `spec` | engines joined; options, image and host become a bundle |
//! | 5 | `container` | records of what runs |
//! | 6 | `monitor` | container + runtime, while it runs, and who talks to it |
//! | 7 | `engine` | operations: options in, events on the way, a report out |
//! | 8 | `cli` | the user: words become options, reports become text, faults become exit codes |
//!
//! A module imports only from rows above its own here, never sideways; `tests/it/architecture.rs` enforces it.

mod archive;
mod cli;
mod container;
mod digest;
mod engine;
mod fault;
mod human;
mod image;
mod monitor;
mod narration;
mod network;
mod note;
mod options;
mod platform;
mod pull;
mod reference;
mod registry;
mod runtime;
mod spec;
mod store;
mod sys;
mod template;
mod unpack;

use std::process::ExitCode;

/// Runs the command that this process's arguments name, and returns its exit code.
pub fn run() -> ExitCode {
    sys::backtrace::never();
    sys::signal::outlive_file_size_limit();
    cli::run()
}
