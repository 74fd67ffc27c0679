//! `ddock version`.

use crate::cli::output;
use crate::platform::Platform;
use anyhow::Result;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Prints what this ddock is.
pub(crate) fn run(_: &Arguments) -> Result<()> {
    output::print(&format!(
        "ddock\n Version:  {}\n OS/Arch:  {}\n",
        env!("CARGO_PKG_VERSION"),
        Platform::host(),
    ))
}
