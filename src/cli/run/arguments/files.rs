//! The flags of `ddock run` about files: what the container sees besides its image.

use crate::spec::Files;
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileFlags {
    /// Show a directory or file of the host in the container
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
}

impl From<FileFlags> for Files {
    fn from(flags: FileFlags) -> Self {
        Self {
            read_only: flags.read_only,
            volumes: flags.volume,
            tmpfs: flags.tmpfs,
        }
    }
}
