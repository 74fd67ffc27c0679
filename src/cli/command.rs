//! A command: its names, its flags, and what it does; and a call of one.

use crate::cli::failure::{self, DDOCK_FAILED};
use crate::engine;
use crate::sys::program::{self, Protected};
use anyhow::Result;
use clap::{ArgMatches, FromArgMatches};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the program's help has a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// Among the first, which a newcomer needs.
    Common,
    Other,
    /// Nowhere: it is for measurements.
    Hidden,
}

/// A command, as the table of commands has it.
#[derive(Debug)]
pub(crate) struct Command {
    pub(super) section: Section,
    /// All that it is called: of one word, or of two, the first of which is a group. The first name is the one that
    /// everything else knows it by.
    pub(super) names: &'static [&'static str],
    /// One line for lists: an imperative, no period.
    pub(super) about: &'static str,
    /// Declares the flags.
    pub(super) flags: fn(clap::Command) -> clap::Command,
    /// Carries a call out.
    pub(super) act: fn(Call) -> ExitCode,
}

impl Command {
    pub(crate) fn name(&self) -> &'static str {
        self.names[0]
    }
}

/// Returns a line of the table.
pub(super) const fn command(
    section: Section,
    names: &'static [&'static str],
    flags: fn(clap::Command) -> clap::Command,
    act: fn(Call) -> ExitCode,
    about: &'static str,
) -> Command {
    Command {
        section,
        names,
        about,
        flags,
        act,
    }
}

/// A command that somebody called, and what it is carried out with.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) command: &'static Command,
    /// What the words after the command say.
    pub(super) matches: ArgMatches,
    /// `--root`
    pub(super) root: Option<PathBuf>,
    /// This process, if it was foreseen that it becomes a container's.
    pub(super) protected: Option<Protected>,
}

impl Call {
    /// Has `act` do what the flags ask for. A failure is 1 unless it says otherwise.
    pub(super) fn with<A: FromArgMatches, E: Ended>(
        self,
        act: impl FnOnce(&A, &Path) -> Result<E>,
    ) -> ExitCode {
        self.obey(1, |arguments, root, _| act(&arguments, root))
    }

    /// As [`with`](Self::with), where no store is needed.
    pub(super) fn act<A: FromArgMatches, E: Ended>(
        self,
        act: impl FnOnce(&A) -> Result<E>,
    ) -> ExitCode {
        self.obey(1, |arguments, _, _| act(&arguments))
    }

    /// As [`with`](Self::with), where ddock's own failures are told from a command's that is to come.
    pub(super) fn make<A: FromArgMatches>(
        self,
        act: impl FnOnce(A, &Path) -> Result<u8>,
    ) -> ExitCode {
        self.obey(DDOCK_FAILED, |arguments, root, _| act(arguments, root))
    }

    /// As [`with`](Self::with), for an `act` that a process of this program is started for. ddock's own failures are told
    /// from the command's.
    pub(super) fn start<A: FromArgMatches>(
        self,
        act: impl FnOnce(A, &Path, Protected) -> Result<u8>,
    ) -> ExitCode {
        self.obey(DDOCK_FAILED, |arguments, root, protected| {
            act(
                arguments,
                root,
                protected.map_or_else(program::protect, Ok)?,
            )
        })
    }

    /// As [`start`](Self::start), where a failure of ddock's own is 1, as Docker's `exec` has it.
    pub(super) fn visit<A: FromArgMatches>(
        self,
        act: impl FnOnce(A, &Path, Protected) -> Result<u8>,
    ) -> ExitCode {
        self.obey(1, |arguments, root, protected| {
            act(
                arguments,
                root,
                protected.map_or_else(program::protect, Ok)?,
            )
        })
    }

    fn obey<A: FromArgMatches, E: Ended>(
        mut self,
        otherwise: u8,
        act: impl FnOnce(A, &Path, Option<Protected>) -> Result<E>,
    ) -> ExitCode {
        let arguments = A::from_arg_matches_mut(&mut self.matches);
        let result = arguments.map_err(Into::into).and_then(|arguments| {
            let root = self.root.map_or_else(engine::default_root, Ok)?;
            act(arguments, &root, self.protected)
        });
        match result {
            Ok(end) => ExitCode::from(end.code()),
            Err(error) => failure::report(&error, otherwise),
        }
    }
}

/// How a command ends that did not fail.
pub(super) trait Ended {
    fn code(self) -> u8;
}

impl Ended for () {
    fn code(self) -> u8 {
        0
    }
}

/// With the exit code of what it ran.
impl Ended for u8 {
    fn code(self) -> u8 {
        self
    }
}
