//! `ddock exec`.

use crate::cli::failure::Refusal;
use crate::cli::run::code_of;
use crate::cli::{detach_keys, environment, output};
use crate::engine::container;
use crate::monitor::{DetachKeys, Session};
use crate::options::{ExecOptions, UserName, Variable};
use crate::sys::program::Protected;
use anyhow::{Context, Result};
use clap::Args;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

// Flags stop at the container: from there on every word belongs to the command, so both are one list.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    override_usage = "ddock exec [OPTIONS] CONTAINER COMMAND [ARG...]"
)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(crate) struct Arguments {
    /// Return as soon as the command runs
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the command running; empty for none [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set an environment variable; without a value, hand on ddock's own
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<Variable>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Give the command this process's standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the command all capabilities
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User to run as, by name or number [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<UserName>,
    /// Directory to start in [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Which container, by its name, its ID or the beginning of that; and the command
    #[arg(value_name = "CONTAINER", required = true, num_args = 1.., trailing_var_arg = true)]
    words: Vec<String>,
}

/// Runs a command in a container that runs, and returns its exit code.
pub(crate) fn run(arguments: Arguments, root: &Path, program: Protected) -> Result<u8> {
    let mut words = arguments.words.into_iter();
    let container = words.next().context("no container is named")?;
    let command: Vec<String> = words.collect();
    if command.is_empty() {
        return Err(Refusal::new("`ddock exec` requires at least 2 arguments")
            .help("exec")
            .code(1)
            .into());
    }
    let is_attached = !arguments.detach;
    let stdin = arguments.interactive && is_attached;
    if stdin && arguments.tty && !io::stdin().is_terminal() {
        return Err(Refusal::new("the input device is not a TTY")
            .hint("leave out `-t` where input comes from a pipe or a file")
            .code(1)
            .into());
    }
    let session = Session {
        detached: arguments.detach,
        stdin,
        keeps_stdin: arguments.interactive,
        stdout: is_attached,
        stderr: is_attached,
        sig_proxy: true,
        detach_keys: if (arguments.tty && stdin) || arguments.detach_keys.is_some() {
            detach_keys::choose(arguments.detach_keys.as_deref())?
        } else {
            DetachKeys::default()
        },
    };
    let options = ExecOptions {
        command,
        environment: environment::asked(&arguments.env_file, arguments.env)?,
        user: arguments.user,
        directory: arguments.workdir,
        privileged: arguments.privileged,
        terminal: arguments.tty,
    };
    let notify = |notice: &str| output::tell(&format!("ddock: {notice}\n"));
    let end = container::exec(&container, options, session, (root, program), &notify)?;
    Ok(code_of(&end))
}
