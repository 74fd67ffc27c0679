//! A container that runs is connected to another network, or disconnected from one.

use crate::container::Container;
use crate::monitor::connection::{Connected, addresses, append_hosts, remove_hosts};
use crate::monitor::names;
use crate::network::{self, Attachment, Forwarder, Network, Ready, Wish};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What is to be different.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    Connect {
        /// The network's name, `bridge` if it is the default one.
        network: String,
        address: Option<Ipv4Addr>,
        address6: Option<Ipv6Addr>,
        aliases: Vec<String>,
    },
    Disconnect {
        network: String,
    },
}

impl Connected {
    /// Does it, writes it down, and returns what the user should know.
    pub(super) fn change(
        &mut self,
        change: Change,
        container: &mut Container,
    ) -> Result<Vec<String>> {
        match change {
            Change::Connect {
                network,
                address,
                address6,
                aliases,
            } => {
                let networks = &container.record.networks;
                if networks.iter().any(|it| it.network == network) {
                    let name = &container.record.name;
                    bail!("endpoint with name {name} already exists in network {network}");
                }
                let network = if network == network::DEFAULT {
                    Network::predefined()
                } else {
                    container.claim_networks(&[&network])?.remove(0)
                };
                let id = network.id.clone();
                let wish = Wish {
                    is_way_out: !network.internal && way_out(networks).is_none(),
                    seed: container.seed(),
                    link: free_link(networks),
                    network,
                    address,
                    address6,
                    mac: None,
                    aliases,
                };
                let connected = self.connect(wish, container);
                if connected.is_err() && !id.is_empty() {
                    // The first error is the one to tell.
                    container.release_network(&id).ok();
                }
                connected
            }
            Change::Disconnect { network } => {
                self.disconnect(&network, container).map(|()| Vec::new())
            }
        }
    }

    fn connect(&mut self, wish: Wish, container: &mut Container) -> Result<Vec<String>> {
        let namespace = self.namespace.as_ref().context(ALONE)?;
        let mut notes = Vec::new();
        let is_way_out = wish.is_way_out;
        let mut ready = Ready::prepare(wish, &|| container.defined_subnets(), &mut notes)?;
        if is_way_out && !self.listeners.is_empty() {
            ready.route_answers()?;
        }
        let attachment = ready.connect(namespace)?;
        let own = addresses(std::slice::from_ref(&attachment));
        append_hosts(&container.directory, &self.hostname, &own)?;
        container.record.networks.push(attachment);
        self.answer_names(container)?;
        if is_way_out {
            self.pass_on(container)?;
        }
        container.save()?;
        Ok(notes)
    }

    fn disconnect(&mut self, network: &str, container: &mut Container) -> Result<()> {
        let networks = &mut container.record.networks;
        let Some(at) = networks.iter().position(|it| it.network == network) else {
            let id = &container.record.id;
            bail!("container {id} is not connected to network {network}");
        };
        let was_way_out = way_out(networks).is_some_and(|it| it.network == network);
        networks[at].disconnect()?;
        let gone = networks.remove(at);
        remove_hosts(
            &container.directory,
            &addresses(std::slice::from_ref(&gone)),
        )?;
        if was_way_out {
            let namespace = self.namespace.as_ref().context(ALONE)?;
            if let Some(next) = way_out(&container.record.networks) {
                next.become_way_out(namespace)?;
            }
            self.pass_on(container)?;
        }
        container.save()?;
        if gone.network_id.is_empty() {
            return Ok(());
        }
        container.release_network(&gone.network_id)
    }

    /// Answers for names from the first network on that has any.
    fn answer_names(&mut self, container: &Container) -> Result<()> {
        if self.responder.is_some() {
            return Ok(());
        }
        let (namespace, networks) = (self.namespace.as_ref(), &container.record.networks);
        let namespace = namespace.context(ALONE)?;
        self.responder = names::respond(container, namespace, networks, &self.servers)?;
        if self.responder.is_some() {
            names::ask_responder(&container.directory, &self.servers)?;
        }
        Ok(())
    }

    /// Passes on what arrives at published ports by the way out that the container has now. Without any the ports are
    /// given back: nobody would answer there.
    fn pass_on(&mut self, container: &mut Container) -> Result<()> {
        self.forwarder = None;
        match way_out(&container.record.networks) {
            Some(way_out) if !self.listeners.is_empty() => {
                self.forwarder = Some(Forwarder::start(&self.listeners, way_out)?);
            }
            Some(_) => {}
            None => {
                self.listeners.clear();
                container.record.ports.clear();
            }
        }
        Ok(())
    }
}

/// Why a container that was started without networks gets none. The words are Docker's.
const ALONE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";

/// Returns the network by which the container reaches everything else.
pub(super) fn way_out(networks: &[Attachment]) -> Option<&Attachment> {
    networks.iter().find(|it| !it.internal)
}

/// Returns the first name that no link of the container's has.
fn free_link(networks: &[Attachment]) -> String {
    let mut names = (0..).map(|number| format!("eth{number}"));
    names
        .find(|name| networks.iter().all(|it| it.link != *name))
        .expect("there are more names than networks")
}
