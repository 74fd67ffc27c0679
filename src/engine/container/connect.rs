//! Which networks a container is connected to, and what has to be there before it starts.

use crate::container::{Container, Status};
use crate::engine::container::peers::Peers;
use crate::fault::{Fault, Kind};
use crate::monitor::Connection;
use crate::network::{self, Listener, Port, Program, Publication, Ready, Switch, Wish};
use crate::note::{Note, Notes};
use crate::options::{ContainerOptions, Membership, Network, Publish};
use crate::spec::Subject;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, anyhow, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

/// What is ready for a container before it is decided what it looks like.
pub(super) struct Prepared {
    networks: Vec<Ready>,
    program: Option<Program>,
    /// What holds an ordinary user's networks, and the lock of that.
    switch: Option<(Switch, OwnedFd)>,
    /// The host's addresses, as the container may call them.
    gateways: Vec<IpAddr>,
    listeners: Vec<Listener>,
}

/// Makes the networks that are asked for if they are not there, and takes the ports to be published.
pub(super) fn prepare(
    subject: &Subject,
    container: &Container,
    mapping: &Mapping,
    peers: Option<Peers>,
    notes: Notes<'_>,
) -> Result<Prepared> {
    let (options, dry_run) = (&subject.options, subject.dry_run);
    let publications = &publications(&options.publish, &container.record.exposed);
    let mut prepared = Prepared {
        networks: Vec::new(),
        program: None,
        switch: None,
        gateways: Vec::new(),
        listeners: Vec::new(),
    };
    let discards = match options.namespaces.network {
        Network::Host => Some("host"),
        Network::None => Some("none"),
        _ => None,
    };
    if let Some(mode) = discards.filter(|_| !publications.is_empty()) {
        notes(Note(anyhow!(
            "WARNING: Published ports are discarded when using {mode} network mode"
        )));
    }
    match &options.namespaces.network {
        Network::Host => prepared.gateways.push(Ipv4Addr::LOCALHOST.into()),
        Network::Bridge | Network::Named(_) if dry_run => {}
        Network::Bridge if mapping.is_root() => {
            prepared.add(default(options, container), container, notes)?;
        }
        Network::Bridge => {
            refuse_address(options)?;
            prepared.program = program(!publications.is_empty(), notes)?;
        }
        Network::Named(memberships) if mapping.is_root() => {
            for wish in named(memberships, container)? {
                prepared.add(wish, container, notes)?;
            }
        }
        Network::Named(memberships) => {
            let wishes = named(memberships, container)?;
            prepared.switch(wishes, peers, !publications.is_empty(), notes)?;
        }
        Network::None | Network::Container(_) => {}
    }
    let networks = &prepared.networks;
    if prepared.program.is_some() || networks.iter().any(Ready::is_way_out) {
        prepared.listeners = network::publish(publications)?;
    } else if !publications.is_empty() && networks.iter().any(Ready::is_internal) {
        notes(Note(anyhow!(
            "WARNING: Published ports are discarded when using internal networks only"
        )));
    }
    Ok(prepared)
}

/// Returns what is to be published of a container that serves the ports `exposed`.
fn publications(publish: &Publish, exposed: &[Port]) -> Vec<Publication> {
    let mut publications = publish.publications.clone();
    let given: Vec<Port> = publications.iter().map(|it| it.container).collect();
    let others = exposed
        .iter()
        .filter(|port| publish.all && !given.contains(port));
    publications.extend(others.map(|port| Publication {
        address: None,
        host: None,
        container: *port,
    }));
    publications
}

/// Returns the ports that the image and the flags say are served, in order, each once.
pub(super) fn exposed(publish: &Publish, image: &[String]) -> Vec<Port> {
    let mut exposed = publish.exposed.clone();
    exposed.extend(image.iter().flat_map(|text| Port::of_image(text)));
    exposed.extend(publish.publications.iter().map(|it| it.container));
    exposed.sort_unstable();
    exposed.dedup();
    exposed
}

/// Finds what connects an ordinary user's container. Where nothing can, that is said, and refused if ports are to be published.
fn program(publishes: bool, notes: Notes<'_>) -> Result<Option<Program>> {
    let (lacking, cure) = if network::has_way_out()? {
        match Program::find() {
            Some(_) if !network::has_tun() => (
                "`/dev/net/tun` has to be open to you, as it is to all on most systems",
                "`sudo chmod 666 /dev/net/tun` opens it",
            ),
            Some(program) => return Ok(Some(program)),
            None => (
                "install `pasta` (Debian: passt) or `slirp4netns`",
                "`sudo apt-get install passt` does on Debian; with `--network host` the command listens on the host itself",
            ),
        }
    } else if publishes {
        (
            "this host has no way out itself",
            "with `--network host` the command listens on the host itself",
        )
    } else {
        // There is nothing to connect it to.
        return Ok(None);
    };
    if publishes {
        let message = format!("cannot publish ports for an ordinary user: {lacking}");
        return Err(Fault::new(Kind::Unavailable, message).hint(cure).into());
    }
    notes(Note(anyhow!(
        "the container has no network but loopback: {lacking}; `--network none` says that none is wanted"
    )));
    Ok(None)
}

/// What connects an ordinary user's container has an address of its own.
fn refuse_address(options: &ContainerOptions) -> Result<(), Fault> {
    if options.namespaces.mac.is_none() {
        return Ok(());
    }
    Err(
        Fault::new(Kind::Unavailable, "an ordinary user's container has no hardware address to choose in the network `bridge`").hint(
            "make a network with `ddock network create NAME`, and use it with `--network name=NAME,mac-address=ADDRESS`",
        ),
    )
}

fn default(options: &ContainerOptions, container: &Container) -> Wish {
    Wish {
        network: network::Network::predefined(),
        seed: container.seed(),
        comes_again: was_here(container),
        address: None,
        address6: None,
        mac: options.namespaces.mac,
        is_way_out: true,
        link: link(0),
        aliases: Vec::new(),
    }
}

/// Looks networks up, and keeps them from being removed; the first that leads anywhere is the way out.
fn named(memberships: &[Membership], container: &Container) -> Result<Vec<Wish>> {
    let names: Vec<&str> = memberships.iter().map(|it| it.network.as_str()).collect();
    let networks = container.claim_networks(&names)?;
    let way_out = networks.iter().position(|network| !network.internal);
    let mut wishes: Vec<Wish> = Vec::new();
    for (at, (network, membership)) in networks.into_iter().zip(memberships).enumerate() {
        ensure!(
            wishes.iter().all(|wish| wish.network.id != network.id),
            "network {:?} is specified multiple times",
            network.name
        );
        wishes.push(Wish {
            network,
            seed: container.seed(),
            comes_again: was_here(container),
            address: membership.address,
            address6: membership.address6,
            mac: membership.mac,
            is_way_out: way_out == Some(at),
            link: link(at),
            aliases: membership.aliases.clone(),
        });
    }
    Ok(wishes)
}

/// Tells whether the container ran before, in networks that have not changed since.
fn was_here(container: &Container) -> bool {
    matches!(container.record.status, Status::Exited { .. })
}

fn link(number: usize) -> String {
    format!("eth{number}")
}

impl Prepared {
    fn add(&mut self, wish: Wish, container: &Container, notes: Notes<'_>) -> Result<()> {
        let mut found = Vec::new();
        let reserved = || container.defined_subnets();
        let ready = Ready::prepare(wish, &reserved, &mut found)?;
        for note in found {
            notes(Note(anyhow!(note)));
        }
        self.gateways.extend(ready.gateways());
        self.networks.push(ready);
        Ok(())
    }

    /// Makes an ordinary user's networks. His container's way out is a program's, unless all of them are internal.
    fn switch(
        &mut self,
        wishes: Vec<Wish>,
        peers: Option<Peers>,
        publishes: bool,
        notes: Notes<'_>,
    ) -> Result<()> {
        if wishes.iter().any(|wish| !wish.network.internal) {
            self.program = program(publishes, notes)?;
        }
        let (switch, lock) = peers
            .context("the user's networks were not looked for")?
            .switch()?;
        for (at, mut wish) in wishes.into_iter().enumerate() {
            wish.link = link(at + usize::from(self.program.is_some()));
            wish.is_way_out = false;
            self.networks.push(Ready::within(&switch, wish)?);
        }
        self.switch = Some((switch, lock));
        Ok(())
    }

    /// Returns what `host-gateway` means.
    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.gateways.clone()
    }

    /// Returns what the monitor connects; none if the container is to stay alone.
    pub(super) fn connection(self, hostname: String, servers: &[IpAddr]) -> Option<Connection> {
        if self.program.is_none() && self.networks.is_empty() {
            return None;
        }
        let ports = self.listeners.iter().map(|it| it.port).collect();
        let listeners = match &self.program {
            Some(program) if program.takes_ports() => Vec::new(),
            _ => self.listeners,
        };
        let (switch, lock) = self.switch.unzip();
        Some(Connection {
            networks: self.networks,
            program: self.program,
            switch,
            lock,
            hostname,
            ports,
            listeners,
            servers: servers.to_vec(),
        })
    }
}
