//! The flags of `ddock run` about rights: what the container may do.

use crate::spec::Security;
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Rights")]
pub(super) struct SecurityFlags {
    /// Give the container nearly all the rights of the host's root
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Set what else is refused: `seccomp=FILE|unconfined|builtin`, `apparmor=PROFILE|unconfined`, `no-new-privileges`, `systempaths=unconfined`
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl From<SecurityFlags> for Security {
    fn from(flags: SecurityFlags) -> Self {
        Self {
            privileged: flags.privileged,
            capabilities_added: flags.cap_add,
            capabilities_dropped: flags.cap_drop,
            options: flags.security_opt,
        }
    }
}
