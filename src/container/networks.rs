//! The networks of a container that somebody defined: from the store's record to what is made of it.

use crate::container::Container;
use crate::network::Network;
use crate::store::NetworkRecord;
use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// Docker's option for the largest packet of a network, in bytes.
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";

/// Docker's option for whether members of a network reach each other.
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";

/// Returns the network that a record describes.
pub(crate) fn network_of(record: &NetworkRecord) -> Network {
    let mut network = Network {
        name: record.name.clone(),
        id: record.id.clone(),
        bridge: Network::bridge_of(&record.id),
        mtu: record.options.get(MTU).and_then(|text| text.parse().ok()),
        isolated: record.options.get(ICC).is_some_and(|text| text == "false"),
        internal: record.internal,
        ..Network::default()
    };
    for pool in &record.pools {
        match (pool.subnet, pool.gateway) {
            (IpNet::V4(subnet), IpAddr::V4(gateway)) => {
                network.v4 = Some(subnet);
                network.gateway = Some(gateway);
            }
            (IpNet::V6(subnet), IpAddr::V6(gateway)) => {
                network.v6 = Some(subnet);
                network.gateway6 = Some(gateway);
            }
            _ => {}
        }
        if let Some(IpNet::V4(range)) = pool.range {
            network.range = Some(range);
        }
    }
    network
}

impl Container {
    /// Puts the container into networks by name or ID, which stay from then on; `store::NotFound` if one is not there.
    pub(crate) fn claim_networks(&self, names: &[&str]) -> Result<Vec<Network>> {
        let claimed = self.store.claim_networks(&self.record.id, names)?;
        Ok(claimed.iter().map(network_of).collect())
    }

    /// Takes the container out of the network with this ID.
    pub(crate) fn release_network(&self, id: &str) -> Result<()> {
        self.store.release_networks(&self.record.id, Some(id))
    }

    /// Returns a number that other containers hardly have: the ID is random, so its beginning is.
    pub(crate) fn seed(&self) -> u32 {
        let digits = self.record.id.get(..8).unwrap_or_default();
        u32::from_str_radix(digits, 16).unwrap_or_default()
    }

    /// Returns the addresses of all networks that somebody defined, whether they are made or not.
    pub(crate) fn defined_subnets(&self) -> Result<Vec<Ipv4Net>> {
        let networks = self.store.networks()?;
        let pools = networks.iter().flat_map(|network| &network.pools);
        let v4 = pools.filter_map(|pool| match pool.subnet {
            IpNet::V4(subnet) => Some(subnet),
            IpNet::V6(_) => None,
        });
        Ok(v4.collect())
    }
}
