//! From a process that is in a container to the command that it becomes: streams, identity, rights, filter, exec.
//!
//! The order matters: each step takes what the next may not need any more. Both who makes a container and who enters one goes
//! this way (`init`, `enter`).

use crate::narration::{self, Step, tell};
use crate::runtime::apparmor::NextProgram;
use crate::runtime::exec::become_command;
use crate::runtime::failure::{StartError, failed};
use crate::runtime::handshake::{Report, Streams, end_with};
use crate::runtime::plan::Command;
use crate::runtime::seccomp::Filter;
use crate::runtime::terminal::{self, Terminal};
use crate::runtime::{identity, reaper, rlimits, seen, told};
use crate::sys::clone::end_child;
use crate::sys::message::Channel;
use crate::sys::program::Protected;
use crate::sys::{kernel, program};
use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::fchdir;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

/// A process that is about to become a command in the container that it is in.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) command: &'a Command,
    /// The system calls that the command may make; all, if none.
    pub(super) filter: Option<&'a Filter>,
    pub(super) can_set_groups: bool,
    /// Whether it takes a place among processes that are there already, which it does last of all.
    pub(super) joins_processes: bool,
    pub(super) parent: &'a Channel,
}

/// The AppArmor profile that is to confine the command. It is asked for where `/proc` is the host's still.
pub(super) struct Profile<'a> {
    place: NextProgram,
    name: &'a str,
}

impl<'a> Profile<'a> {
    pub(super) fn of(command: &'a Command) -> Result<Option<Self>> {
        let name = command.profile.as_deref();
        let profile = name.map(|name| NextProgram::open().map(|place| Self { place, name }));
        profile.transpose()
    }
}

impl Candidate<'_> {
    /// Takes the command's streams, identity and rights, one after the other, and gives up all others.
    pub(super) fn take_over(
        self,
        terminal: Option<Terminal>,
        streams: &Streams,
        directory: OwnedFd,
        profile: Option<Profile<'_>>,
    ) -> Result<()> {
        self.attach_streams(terminal, streams)?;
        rustix::process::umask(Mode::from_raw_mode(self.command.umask));
        self.drop_rights(directory)?;
        keep(&streams.handed)?;
        if let Some(Profile { place, name }) = profile {
            place.confine(name)?;
            tell(|| Step::Profile { name: name.into() });
        }
        if self.joins_processes {
            let_go(&streams.handed, self.parent).context("closing descriptors")?;
        }
        self.confine()
    }

    /// Becomes the command, if it is `prepared`; tells its parent why not, and ends.
    ///
    /// It never returns: what it holds may be closed already ([`let_go`]), and must not be closed again.
    pub(super) fn execute(
        self,
        prepared: Result<()>,
        mut streams: Streams,
        program: Protected,
    ) -> ! {
        let handed = std::mem::take(&mut streams.handed);
        let error = match prepared {
            Ok(()) => self.become_it(handed, program),
            Err(error) => failed(error),
        };
        // If the parent is gone, nobody is left to be told.
        self.parent.send(&Report::Failed(error), None).ok();
        end_child(125)
    }

    /// Returns only the reason why not.
    fn become_it(self, handed: Vec<OwnedFd>, program: Protected) -> StartError {
        let command = self.command;
        tell(|| told::exec(command));
        if self.joins_processes
            && let Err(error) = seen::appear(command.terminal.is_some(), self.parent)
        {
            return StartError::Setup(format!("{error:#}"));
        }
        if command.has_init {
            return reaper::become_init(command, handed, program);
        }
        let error = become_command(&command.arguments, &command.environment, program);
        // Open or closed, as the rest: see `execute`.
        std::mem::forget(handed);
        error
    }

    /// Gives the command its standard streams: the terminal, or what the parent handed over.
    fn attach_streams(self, terminal: Option<Terminal>, streams: &Streams) -> Result<()> {
        if let Some(terminal) = terminal {
            terminal.take(self.command.uid)?;
            if !self.joins_processes {
                terminal::control()?;
            }
            return self
                .parent
                .send(&Report::Terminal, Some(terminal.master.as_fd()))
                .context("handing the terminal over");
        }
        if let Some(stdin) = &streams.stdin {
            rustix::stdio::dup2_stdin(stdin)?;
        } else {
            let null =
                rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            rustix::stdio::dup2_stdin(null.context("opening /dev/null")?)?;
        }
        if let Some((stdout, stderr)) = &streams.output {
            rustix::stdio::dup2_stdout(stdout)?;
            rustix::stdio::dup2_stderr(stderr)?;
        }
        Ok(())
    }

    fn drop_rights(self, directory: OwnedFd) -> Result<()> {
        let command = self.command;
        // From here on others in the container may have the same IDs and rights. Not before: what is non-dumpable in a user
        // namespace may not write to its own /proc.
        program::hide().context("hiding this process")?;
        match kernel::join_new_session_keyring() {
            // Without keyrings, or without the right to one, there is none of the caller's to leak.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Unsupported | ErrorKind::PermissionDenied
                ) => {}
            other => other.context("leaving the caller's session keyring")?,
        }
        rlimits::set(&command.limits)?;
        identity::bound(command.capabilities.bounding)?;
        tell(|| told::capabilities(command));
        // As root if the user may not: Docker lets a command start where its user could not go itself. The other way
        // round where root may not either (a user's own FUSE, NFS).
        let as_root = fchdir(&directory);
        identity::assume(command, self.can_set_groups)?;
        tell(|| told::user(command));
        if as_root == Err(Errno::ACCESS) {
            fchdir(&directory).context("entering the working directory")?;
        } else {
            as_root.context("entering the working directory")?;
        }
        drop(directory);
        // Reached by descriptor and inside the root, so it cannot be unreachable; make sure all the same.
        let here = rustix::process::getcwd(Vec::new()).context("finding the working directory")?;
        ensure!(
            here.as_bytes().starts_with(b"/"),
            "the working directory is outside the container"
        );
        kernel::reset_signals().context("resetting the signals")?;
        // After the IDs: changing them clears it.
        end_with(self.parent)?;
        kernel::close_descriptors_on_exec().context("closing descriptors")
    }

    /// Takes away system calls and capabilities, last of all: what comes after needs what the filter allows.
    fn confine(self) -> Result<()> {
        // The filter may not let it be told afterwards.
        if let Some(filter) = self.filter {
            tell(|| told::filter(filter));
        }
        let load = || self.filter.map_or(Ok(()), Filter::load);
        if self.command.no_new_privileges {
            identity::restrict(self.command)?;
            return load();
        }
        // The kernel takes a filter from whoever has CAP_SYS_ADMIN or can gain nothing by an exec (seccomp(2)).
        load()?;
        identity::restrict(self.command)
    }
}

/// Lets the command have what was handed over for it, which has lain on these numbers since ddock was started.
fn keep(handed: &[OwnedFd]) -> Result<()> {
    for descriptor in handed {
        fcntl_setfd(descriptor, FdFlags::empty()).context("handing a descriptor over")?;
    }
    if !handed.is_empty() {
        tell(|| Step::Descriptors {
            count: handed.len(),
        });
    }
    Ok(())
}

/// Closes what the monitor holds of the host and its child has too: those who may trace this process could open it again.
fn let_go(handed: &[OwnedFd], parent: &Channel) -> std::io::Result<()> {
    let handed = handed.iter().map(AsFd::as_fd);
    let kept = handed.chain([parent.as_fd()]);
    let kept: Vec<_> = kept.chain(narration::way_out()).collect();
    kernel::close_descriptors_but(&kept)
}
