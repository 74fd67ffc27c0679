//! `ddock start` and `ddock restart`.

use crate::cli::failure::{self, Refusal};
use crate::cli::run::code_of;
use crate::cli::{attach, control, detach_keys, output};
use crate::container::Status;
use crate::engine::container as engine;
use crate::monitor::{self, DetachKeys, End, Leave, Session};
use crate::options::ContainerOptions;
use crate::sys::clone::{Clone as Fork, end_child, fork};
use crate::sys::program::Protected;
use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::io::retry_on_intr;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// Show the command's output, pass signals on, and exit as it does
    #[arg(short, long)]
    attach: bool,
    /// Give the command this process's standard input, and show its output
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running; empty for none [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RestartArguments {
    /// Seconds until it is killed; -1 is for ever [default: the container's, else 10]
    #[arg(short, long, alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Signal to send first [default: the container's, else TERM]
    #[arg(short, long)]
    signal: Option<String>,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Starts containers that were made before or have ended, and says the name of each as the user gave it; one that runs is
/// left alone.
pub(crate) fn start(arguments: &StartArguments, root: &Path, program: Protected) -> Result<u8> {
    if let [name] = arguments.containers.as_slice() {
        return one(arguments, root, name, program);
    }
    if arguments.attach || arguments.interactive {
        // Docker's words and exit code.
        let message = "you cannot start and attach multiple containers at once";
        return Err(Refusal::new(message).code(1).into());
    }
    each(&arguments.containers, |name| {
        apart(|| one(arguments, root, name, program))
    })
}

/// Stops containers that run, and starts them all.
pub(crate) fn restart(arguments: &RestartArguments, root: &Path, program: Protected) -> Result<u8> {
    let asked = arguments
        .signal
        .as_deref()
        .map(control::number)
        .transpose()?;
    let quiet = StartArguments {
        attach: false,
        interactive: false,
        detach_keys: None,
        containers: Vec::new(),
    };
    each(&arguments.containers, |name| {
        // Apart, since each may enter a user namespace, and that is for good.
        let stopped = apart(|| stop(root, name, asked, arguments.timeout).map(|()| 0))?;
        if stopped != 0 {
            return Ok(stopped);
        }
        apart(|| one(&quiet, root, name, program))
    })
}

/// Does `act` to every container although some fail; 1 if one did.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<u8>) -> Result<u8> {
    let mut code = 0;
    for name in names {
        code = code.max(act(name)?.min(1));
    }
    Ok(code)
}

/// Starts a container, and says its name if it is left running. A failure is 1, whatever failed, as with Docker.
fn one(arguments: &StartArguments, root: &Path, name: &str, program: Protected) -> Result<u8> {
    let is_attached = arguments.attach || arguments.interactive;
    let session = |options: &ContainerOptions| session(arguments, options);
    let started = engine::start_again(root, name, session, program, &failure::note);
    match started.with_context(|| format!("cannot start container: {name}")) {
        Err(error) => {
            failure::tell(&error);
            Ok(1)
        }
        Ok(None) if is_attached => {
            let session = session(&ContainerOptions {
                interactive: true,
                ..ContainerOptions::default()
            })?;
            attach::to(root, name, session)
        }
        Ok(None | Some(End::Detached(Leave::Done))) => {
            output::print(&format!("{name}\n")).map(|()| 0)
        }
        Ok(Some(end)) => Ok(code_of(&end)),
    }
}

fn session(arguments: &StartArguments, options: &ContainerOptions) -> Result<Session> {
    let is_attached = arguments.attach || arguments.interactive;
    let stdin = arguments.interactive && options.interactive;
    if stdin && options.terminal && !io::stdin().is_terminal() {
        return Err(super::run::no_terminal().into());
    }
    Ok(Session {
        detached: !is_attached,
        stdin,
        keeps_stdin: options.interactive,
        stdout: is_attached,
        stderr: is_attached,
        sig_proxy: true,
        detach_keys: if (options.terminal && stdin) || arguments.detach_keys.is_some() {
            detach_keys::choose(arguments.detach_keys.as_deref())?
        } else {
            DetachKeys::default()
        },
    })
}

/// Ends a container if it runs, and waits until it is cleaned up.
fn stop(root: &Path, name: &str, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    let context = || format!("cannot restart container: {name}");
    let store = control::open(root)?;
    let record = control::find(store.as_ref(), name).with_context(context)?;
    let store = store.context("there is no store")?;
    if !matches!(record.status, Status::Running { .. }) {
        return Ok(());
    }
    if record.auto_remove {
        bail!("cannot restart container: {name}: it is removed when it ends, as `--rm` says");
    }
    let mut stop = record.stop.clone();
    stop.timeout = timeout.or(stop.timeout);
    let directory = store.container_directory(&record.id);
    monitor::stop(&directory, signal.unwrap_or(stop.number()), stop.grace())
        .with_context(context)?;
    store.wait_for_owner(&record.id)
}

/// Does `act` in a child process, and returns its exit code; a failure is told, and is 1.
fn apart(act: impl FnOnce() -> Result<u8>) -> Result<u8> {
    match fork()? {
        Fork::Child => {
            let code = act().unwrap_or_else(|error| {
                failure::tell(&error);
                1
            });
            end_child(code)
        }
        Fork::Parent(child) => {
            let end = WaitId::PidFd(child.pidfd.as_fd());
            let status = retry_on_intr(|| waitid(end.clone(), WaitIdOptions::EXITED))
                .context("waiting for a container's start")?;
            let code = status.and_then(|status| status.exit_status());
            Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
    }
}
