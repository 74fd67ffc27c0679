//! What is done with containers.

mod connect;
mod create;
mod donors;
mod enter;
mod exec;
mod mounts;
mod names;
mod origin;
mod peers;
mod prepare;
mod start;

pub(crate) use create::Naming;
pub(crate) use enter::Groundwork;
pub(crate) use exec::exec;
pub(crate) use names::check as check_name;
pub(crate) use start::{Starter, create, preview, run, start_again};
