//! The flags of `ddock run` about the command: who it is, and what it is given.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(next_help_heading = "Command")]
pub(super) struct CommandFlags {
    /// Set an environment variable; without a value, hand on ddock's own
    #[arg(short, long, value_name = "KEY[=VALUE]", allow_hyphen_values = true)]
    pub(super) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Directory to start in; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// User to run as, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Run this program instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
}
