//! `--init`: a PID 1 of ours that passes signals on to the command, its child, and reaps what nobody else does.

use crate::runtime::exec::become_command;
use crate::runtime::failure::StartError;
use crate::runtime::plan::Command;
use crate::sys::clone::{Child, Clone, fork};
use crate::sys::program::Protected;
use crate::sys::{kernel, signal};
use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, setpgid, wait};
use rustix::termios::tcsetpgrp;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};

/// The name under which ddock is executed as a container's init; its argument is the command's PID.
const NAME: &str = "ddock-init";

/// Makes the command a child of this process, which becomes its init; returns, in either, only the reason why not.
///
/// What was `handed` over is the command's alone: whoever reads from it must see its end.
pub(super) fn become_init(
    command: &Command,
    handed: Vec<OwnedFd>,
    program: Protected,
) -> StartError {
    match split(command) {
        Ok(Some(parent)) => {
            drop(handed);
            execute_init(&parent.child)
        }
        Ok(None) => become_command(&command.arguments, &command.environment, program),
        Err(error) => StartError::Setup(format!("starting the init: {error:#}")),
    }
}

/// The process that becomes the init.
struct Parent {
    child: Child,
    /// Closed when this process executes the init.
    _until_executed: OwnedFd,
}

/// Returns the parent, and nothing in the child.
fn split(command: &Command) -> Result<Option<Parent>> {
    // No signal is lost on the way: those that come now wait until the init takes them.
    SigSet::all().thread_block().context("blocking signals")?;
    let (executed, until_executed) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    match fork()? {
        Clone::Parent(child) => Ok(Some(Parent {
            child,
            _until_executed: until_executed,
        })),
        Clone::Child => {
            drop(until_executed);
            // Or the command could see which words ddock was called with.
            retry_on_intr(|| rustix::io::read(&executed, &mut [0])).context("waiting")?;
            // A group of its own in the foreground of the terminal: what keys do goes to the command, not to the init.
            setpgid(None, None).context("making a process group")?;
            if command.terminal.is_some() {
                let own = getpid();
                tcsetpgrp(rustix::stdio::stdin(), own).context("entering the foreground")?;
            }
            kernel::reset_signals().context("resetting the signals")?;
            Ok(None)
        }
    }
}

/// A fresh start leaves nothing of the host in this process: neither its memory nor the words it was called with.
/// What it starts is the copy that nobody can write, which this process runs from (`sys::program::protect`).
fn execute_init(child: &Child) -> StartError {
    let words = [NAME.to_owned(), child.pid.as_raw_nonzero().to_string()];
    let words = words.map(|word| CString::new(word).expect("there is no NUL in it"));
    let error = kernel::execute(&c"/proc/self/exe".to_owned(), &words, &[]);
    StartError::Setup(format!("executing ddock as the init: {error}"))
}

/// Returns the command's PID if this process was executed as a container's init.
pub(crate) fn init_for<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Option<Pid> {
    let mut words = words.into_iter();
    let is_init = words.next()? == NAME && getpid().is_init();
    let pid = words.next()?.to_str()?.parse().ok();
    pid.filter(|_| is_init).and_then(Pid::from_raw)
}

/// Passes every signal on to `command` and reaps whatever ends, until the command does; returns its exit code.
pub(crate) fn reap(command: Pid) -> Result<u8> {
    let all = SigSet::all();
    all.thread_block().context("blocking signals")?;
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC).context("reading signals")?;
    let pidfd = pidfd_open(command, PidfdFlags::empty()).context("opening the command")?;
    loop {
        let Some(info) = signals.read_signal().context("reading a signal")? else {
            continue;
        };
        match i32::try_from(info.ssi_signo)? {
            libc::SIGCHLD => {
                if let Some(code) = reap_all(command)? {
                    return Ok(code);
                }
            }
            // The terminal's word to a group in the background, which is this process's own affair.
            libc::SIGTTIN | libc::SIGTTOU => {}
            // As another user the command may be out of reach, as it would be for any init.
            number => drop(signal::send(pidfd.as_fd(), number)),
        }
    }
}

/// Reaps everything that has ended; the command's exit code if it is among that.
fn reap_all(command: Pid) -> Result<Option<u8>> {
    while let Some((pid, status)) = wait(WaitOptions::NOHANG).context("reaping")? {
        if pid != command {
            continue;
        }
        let killed = status.terminating_signal().map(|signal| 128 + signal);
        if let Some(code) = status.exit_status().or(killed) {
            return Ok(Some(u8::try_from(code)?));
        }
    }
    Ok(None)
}
