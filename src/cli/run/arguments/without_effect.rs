//! Flags of Docker's that scripts write, and that ask for what is so anyway.

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct FlagsWithoutEffect {
    /// Do not ask how the container is
    #[arg(long, hide = true)]
    no_healthcheck: bool,
}
