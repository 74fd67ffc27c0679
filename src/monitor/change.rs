//! A container that runs is connected to another network, or disconnected from one.

use crate::container::Container;
use crate::monitor::connection::{Connected, addresses, append_hosts, remove_hosts};
use crate::monitor::names;
use crate::network::{self, Attachment, Forwarder, Network, Ready, Switch, Wish};
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
    /// Does it, writes it down, and returns what the user should know. An ordinary user's networks are in his switch.
    pub(super) fn change(
        &mut self,
        change: Change,
        switch: Option<&Switch>,
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
                    comes_again: false,
                    link: free_link(networks, self.program.is_some()),
                    network,
                    address,
                    address6,
                    mac: None,
                    aliases,
                };
                let connected = self.connect(wish, switch, container);
                if connected.is_err() && !id.is_empty() {
                    // The first error is the one to tell.
                    container.release_network(&id).ok();
                }
                connected
            }
            Change::Disconnect { network } => self
                .disconnect(&network, switch, container)
                .map(|()| Vec::new()),
        }
    }

    fn connect(
        &mut self,
        mut wish: Wish,
        switch: Option<&Switch>,
        container: &mut Container,
    ) -> Result<Vec<String>> {
        let namespace = self.namespace.as_ref().context(ALONE)?;
        let mut notes = Vec::new();
        let is_way_out = wish.is_way_out;
        let ready = match switch {
            None => {
                let reserved = || container.defined_subnets();
                let mut ready = Ready::prepare(wish, &reserved, &mut notes)?;
                if is_way_out && !self.listeners.is_empty() {
                    ready.route_answers()?;
                }
                ready
            }
            Some(switch) => {
                // That is a program's, beside the network.
                wish.is_way_out = false;
                Ready::within(switch, wish)?
            }
        };
        let attachment = ready.connect(namespace)?;
        container.record.networks.push(attachment.clone());
        let settled = self.settle(&attachment, is_way_out, switch, container);
        if settled.is_err() {
            container.record.networks.pop();
            // The first error is the one to tell.
            attachment.disconnect(switch).ok();
        }
        notes.extend(settled?);
        Ok(notes)
    }

    /// Does what comes with the connection to a network, and returns what the user should know.
    fn settle(
        &mut self,
        attachment: &Attachment,
        is_way_out: bool,
        switch: Option<&Switch>,
        container: &mut Container,
    ) -> Result<Option<String>> {
        let own = addresses(std::slice::from_ref(attachment));
        append_hosts(&container.directory, &self.hostname, &own)?;
        container.be_found(attachment)?;
        self.answer_names(container)?;
        let note = match switch {
            None if is_way_out => self.pass_on(container).map(|()| None)?,
            Some(_) if is_way_out => self.lead_out(container)?,
            _ => None,
        };
        container.save()?;
        Ok(note)
    }

    fn disconnect(
        &mut self,
        network: &str,
        switch: Option<&Switch>,
        container: &mut Container,
    ) -> Result<()> {
        let networks = &mut container.record.networks;
        let Some(at) = networks.iter().position(|it| it.network == network) else {
            let id = &container.record.id;
            bail!("container {id} is not connected to network {network}");
        };
        let was_way_out = way_out(networks).is_some_and(|it| it.network == network);
        networks[at].disconnect(switch)?;
        let gone = networks.remove(at);
        remove_hosts(
            &container.directory,
            &addresses(std::slice::from_ref(&gone)),
        )?;
        let next = way_out(&container.record.networks);
        match switch {
            None if was_way_out => {
                let namespace = self.namespace.as_ref().context(ALONE)?;
                next.map_or(Ok(()), |next| next.become_way_out(namespace))?;
                self.pass_on(container)?;
            }
            Some(_) if was_way_out && next.is_none() => self.shut_in(container)?,
            _ => {}
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
        self.responder =
            names::respond(container, namespace, networks, &self.servers, &self.place)?;
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
                self.forwarder = Some(Forwarder::start(&self.listeners, way_out, &self.place)?);
            }
            Some(_) => {}
            None => {
                self.listeners.clear();
                container.record.ports.clear();
            }
        }
        Ok(())
    }

    /// Starts the program that is an ordinary user's way out, if it was ended with the last network that leads anywhere;
    /// returns what the user should know. Ports are not published again, as root's are not.
    fn lead_out(&mut self, container: &Container) -> Result<Option<String>> {
        let Some(program) = &self.program else {
            let lacks = network::has_way_out()?;
            return Ok(lacks.then(|| NO_PROGRAM.to_owned()));
        };
        let directory = &container.directory;
        let namespace = self.namespace.as_ref().context(ALONE)?;
        match program.connect(self.pid, namespace, &[], &[], directory) {
            Ok(link) => {
                self.link = Some(link);
                append_hosts(directory, &self.hostname, &self.by_link).map(|()| None)
            }
            Err(error) => Ok(Some(format!("the container has no way out: {error:#}"))),
        }
    }

    /// Ends the program that is an ordinary user's way out, and gives the published ports back.
    fn shut_in(&mut self, container: &mut Container) -> Result<()> {
        self.link = None;
        self.listeners.clear();
        container.record.ports.clear();
        remove_hosts(&container.directory, &self.by_link)
    }
}

/// Why an ordinary user's container that was started in internal networks has no way out in others either.
const NO_PROGRAM: &str = "the container was started without a way out, and gets none: `pasta` or `slirp4netns` would have to be there from its start";

/// Why a container that was started without networks gets none. The words are Docker's.
const ALONE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";

/// Returns the network by which the container reaches everything else.
pub(super) fn way_out(networks: &[Attachment]) -> Option<&Attachment> {
    networks.iter().find(|it| !it.internal)
}

/// Returns the first name that no link of the container's has; the first of all may be kept for a program's.
fn free_link(networks: &[Attachment], is_first_kept: bool) -> String {
    let mut names = (u32::from(is_first_kept)..).map(|number| format!("eth{number}"));
    names
        .find(|name| networks.iter().all(|it| it.link != *name))
        .expect("there are more names than networks")
}
