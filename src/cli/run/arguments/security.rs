//! The flags of `ddock run` about rights: what the container may do.

use crate::options::{Capability, SeccompProfile, Security, SecurityOption};
use crate::sys::file;
use anyhow::{Context, Result};
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Rights")]
pub(super) struct SecurityFlags {
    /// Give the container nearly all the rights of the host's root
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<Capability>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<Capability>,
    /// Set what else is refused: `seccomp=FILE|unconfined|builtin`, `apparmor=PROFILE|unconfined`, `no-new-privileges`, `systempaths=unconfined`
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOption>,
}

impl SecurityFlags {
    /// Reads the seccomp profiles that the flags name.
    pub(super) fn read(self) -> Result<Security> {
        let mut options = self.security_opt;
        for option in &mut options {
            if let SecurityOption::Seccomp(profile) = option
                && let SeccompProfile::File(file) = profile
            {
                let text =
                    file::read_given_to_string(file).context("opening the seccomp profile")?;
                let file = std::mem::take(file);
                *profile = SeccompProfile::Text { file, text };
            }
        }
        Ok(Security {
            privileged: self.privileged,
            capabilities_added: self.cap_add,
            capabilities_dropped: self.cap_drop,
            options,
        })
    }
}
