//! The flags of `ddock run` about namespaces: what the container shares with others.

use crate::cli::failure::Refusal;
use crate::cli::unimplemented;
use crate::spec::{Namespaces, Network};
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Namespaces")]
pub(super) struct NamespaceFlags {
    /// Host name in the container [default: the first 12 digits of its ID]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// Network: `none` (loopback only; the default) or `host`
    #[arg(long, alias = "net", value_name = "MODE")]
    network: Option<String>,
}

impl TryFrom<NamespaceFlags> for Namespaces {
    type Error = Refusal;

    fn try_from(flags: NamespaceFlags) -> Result<Self, Refusal> {
        let network = match flags.network.as_deref() {
            None | Some("none") => Network::Private,
            Some("host") => Network::Host,
            Some(other) => return Err(unimplemented::network(other)),
        };
        Ok(Self { network })
    }
}
