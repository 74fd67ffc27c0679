//! `--network` and what goes with it: which networks the container is in, and as what.

use crate::network::Mac;
use crate::options;
use crate::options::{Membership, Network, choose_network};
use anyhow::{Result, bail, ensure};
use clap::Args;
use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct MembershipFlags {
    /// Connect it to `bridge` (the default), networks of yours (NAME or `name=NAME,ip=ADDRESS,alias=NAME,…`, repeatable), `none` (loopback only), `host` or `container:NAME`
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<Membership>,
    /// Its IPv4 address in a network of yours
    #[arg(long, value_name = "ADDRESS", value_parser = options::address4)]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address in a network of yours
    #[arg(long, value_name = "ADDRESS", value_parser = options::address6)]
    ip6: Option<Ipv6Addr>,
    /// Its hardware address
    #[arg(long, value_name = "ADDRESS", value_parser = options::mac)]
    mac_address: Option<Mac>,
    /// Another name that it has in a network of yours
    #[arg(long, alias = "net-alias", value_name = "NAME", value_parser = options::alias)]
    network_alias: Vec<String>,
}

impl MembershipFlags {
    /// Returns the container's network, and the hardware address that it is to have in the default one.
    pub(super) fn read(mut self) -> Result<(Network, Option<Mac>)> {
        let mut asked = std::mem::take(&mut self.network);
        if asked.is_empty() {
            asked.push(Membership {
                network: "default".to_owned(),
                ..Membership::default()
            });
        }
        self.add_to(&mut asked[0])?;
        choose_network(asked)
    }

    /// What stands alone is meant for the first network.
    fn add_to(self, first: &mut Membership) -> Result<()> {
        let conflict = |flag: &str, key: &str| -> Result<()> {
            bail!("conflicting options: cannot specify both {flag} and per-network {key}")
        };
        if let Some(address) = self.ip {
            let before = first.address.replace(address);
            before.map_or(Ok(()), |_| conflict("--ip", "IPv4 address"))?;
        }
        if let Some(address) = self.ip6 {
            let before = first.address6.replace(address);
            before.map_or(Ok(()), |_| conflict("--ip6", "IPv6 address"))?;
        }
        if let Some(mac) = self.mac_address {
            let before = first.mac.replace(mac);
            before.map_or(Ok(()), |_| conflict("--mac-address", "MAC address"))?;
        }
        if !self.network_alias.is_empty() {
            ensure!(
                first.aliases.is_empty(),
                "conflicting options: cannot specify both --network-alias and per-network alias"
            );
            first.aliases = self.network_alias;
        }
        Ok(())
    }
}
