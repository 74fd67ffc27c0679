//! The flags of `ddock run` about the command: who it is, and what it is given.

use crate::cli::environment;
use crate::options::{Environment, GroupName, Merged, UserName, Variable, parse_entrypoint};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(next_help_heading = "Command")]
pub(super) struct CommandFlags {
    /// Set an environment variable; without a value, hand on ddock's own
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<Variable>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Take over all of ddock's own environment variables, beneath the image's
    #[arg(long)]
    env_host: bool,
    /// Set a variable from defaults: `PATH=${PATH}:/opt/bin`
    #[arg(long, value_name = "KEY=VALUE")]
    env_merge: Vec<Merged>,
    /// Leave out a default variable, such as one of the image
    #[arg(long, value_name = "KEY")]
    unsetenv: Vec<String>,
    /// Leave out all default variables
    #[arg(long)]
    unsetenv_all: bool,
    /// Directory to start in; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// User to run as, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<UserName>,
    /// Add a group, by name or number
    #[arg(long, value_name = "GROUP")]
    pub(super) group_add: Vec<GroupName>,
    /// Permissions that new files do not get, in octal [default: 0022]
    #[arg(long, value_name = "MODE", value_parser = umask)]
    pub(super) umask: Option<u32>,
    /// Time zone: one of the host's, such as `Europe/Berlin`, or `local`
    #[arg(long, value_name = "ZONE")]
    pub(super) tz: Option<String>,
    /// Run this program instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
}

fn umask(text: &str) -> Result<u32, &'static str> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mask = u32::from_str_radix(text, 8).ok();
    mask.filter(|mask| is_octal && *mask <= 0o777)
        .ok_or("expected an octal number such as `0022`, at most 0777")
}

impl CommandFlags {
    pub(super) fn entrypoint(&self) -> Option<Vec<String>> {
        self.entrypoint.as_deref().map(parse_entrypoint)
    }

    /// Reads what the flags name of this process's environment and of files.
    pub(super) fn environment(self) -> Result<Environment> {
        let set = environment::asked(&self.env_file, self.env)?;
        let merged = self.env_merge.into_iter();
        Ok(Environment {
            callers: if self.env_host {
                environment::all_callers("")?
            } else {
                Vec::new()
            },
            unset: self.unsetenv,
            unset_all: self.unsetenv_all,
            merged: merged.map(|it| (it.name, it.text)).collect(),
            set,
        })
    }
}
