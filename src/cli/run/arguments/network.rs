//! The flags of `ddock run` about how the container finds others, and others find it.

use crate::options::{AddedHost, NetworkNames, Ports, Publications, Publish};
use clap::Args;
use std::net::IpAddr;

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkFlags {
    /// Publish a port of the container's on the host
    #[arg(short, long, value_name = "[[ADDRESS:]PORT:]PORT[/PROTOCOL]")]
    publish: Vec<Publications>,
    /// Publish all exposed ports, at free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Say that the container serves this port
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<Ports>,
    /// Ask this name server instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Look for short names in this domain instead of the host's; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf instead of the host's
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Add a name to /etc/hosts; the address `host-gateway` is the host's
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<AddedHost>,
}

impl NetworkFlags {
    /// Returns what is to be published, and how the container finds others.
    pub(super) fn read(self) -> (Publish, NetworkNames) {
        let publish = Publish {
            publications: self.publish.into_iter().flat_map(|it| it.0).collect(),
            all: self.publish_all,
            exposed: self.expose.into_iter().flat_map(|it| it.0).collect(),
        };
        let names = NetworkNames {
            servers: self.dns,
            search: self.dns_search,
            options: self.dns_option,
            hosts: self.add_host,
        };
        (publish, names)
    }
}
