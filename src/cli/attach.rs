//! `ddock attach`.

use crate::cli::control::{directory, find, open};
use crate::cli::failure::Refusal;
use crate::cli::run::code_of;
use crate::cli::{detach_keys, output};
use crate::monitor::{self, Session};
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Keys that leave the container running; empty for none [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not give the command this process's standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the command
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    /// Which container: its name, its ID or the beginning of that
    container: String,
}

/// Attaches to a container that runs; returns its exit code, or 0 if the user left it running.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<u8> {
    let name = &arguments.container;
    let session = Session {
        detached: false,
        stdin: !arguments.no_stdin,
        keeps_stdin: false,
        stdout: true,
        stderr: true,
        sig_proxy: arguments.sig_proxy,
        detach_keys: detach_keys::choose(arguments.detach_keys.as_deref())?,
    };
    to(root, name, session)
}

/// Attaches to the container `name`.
pub(super) fn to(root: &Path, name: &str, session: Session) -> Result<u8> {
    let context = || format!("cannot attach to container: {name}");
    let store = open(root)?;
    let record = find(store.as_ref(), name)?;
    let notify = |notice: &str| output::tell(&format!("ddock: {notice}\n"));
    let directory = directory(store.as_ref(), &record)?;
    match monitor::attach(&directory, session, &notify).with_context(context)? {
        Some(end) => Ok(code_of(&end)),
        None => Err(
            Refusal::new("You cannot attach to a stopped container, start it first")
                .code(1)
                .into(),
        ),
    }
}
