//! A container's connection to networks: made while its first process prepares the rest.

use crate::container::Container;
use crate::monitor::change::way_out;
use crate::monitor::names;
use crate::narration::{Step, tell};
use crate::network::{
    Attachment, Forwarder, Link, Listener, Namespace, Place, Program, Published, Ready, Responder,
    Switch,
};
use crate::sys::file;
use anyhow::Result;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// An `/etc/hosts` or `/etc/resolv.conf` of more bytes is none that needs to be kept up.
pub(super) const LARGEST_FILE: u64 = 1 << 20;

/// How a container is to be connected, and what it is called.
pub(crate) struct Connection {
    /// Networks that are ready, in the order of their links.
    pub(crate) networks: Vec<Ready>,
    /// An ordinary user's way to everywhere else.
    pub(crate) program: Option<Program>,
    /// What holds an ordinary user's networks.
    pub(crate) switch: Option<Switch>,
    /// Keeps others from looking for that until this container is written down as one that has it.
    pub(crate) lock: Option<OwnedFd>,
    pub(crate) hostname: String,
    /// The published ports.
    pub(crate) ports: Vec<Published>,
    /// What holds them, unless a program takes them itself.
    pub(crate) listeners: Vec<Listener>,
    /// `--dns`: who is asked for names that no container has.
    pub(crate) servers: Vec<IpAddr>,
}

/// What was made of a connection; the published ports are given back when this goes.
#[derive(Default)]
pub(super) struct Connected {
    pub(super) networks: Vec<Attachment>,
    pub(super) ports: Vec<Published>,
    /// The network namespace that networks of the host's were connected to.
    pub(super) namespace: Option<Namespace>,
    pub(super) hostname: String,
    pub(super) listeners: Vec<Listener>,
    pub(super) forwarder: Option<Forwarder>,
    /// Where the processes that serve the container are counted.
    pub(super) place: Place,
    pub(super) servers: Vec<IpAddr>,
    pub(super) responder: Option<Responder>,
    pub(super) switch: Option<Switch>,
    pub(super) lock: Option<OwnedFd>,
    /// An ordinary user's way to everywhere else: what makes it, for which process, and what was made.
    pub(super) program: Option<Program>,
    pub(super) pid: u32,
    pub(super) link: Option<Link>,
    /// The container's own address there.
    pub(super) by_link: Vec<IpAddr>,
}

impl Connection {
    /// Connects the process `pid`, whose namespace this is and which waits for it, and writes down in its `hosts` what it is
    /// called there.
    pub(super) fn make(
        self,
        pid: u32,
        namespace: Namespace,
        container: &Container,
        place: Place,
    ) -> Result<Connected> {
        let (directory, ports) = (&container.directory, self.ports);
        // First: it finds the container's own address among all that are there.
        let link = self.program.as_ref();
        let link = link.map(|it| it.connect(pid, &namespace, &self.listeners, &ports, directory));
        let link = link.transpose()?;
        let networks = connect(self.networks, &namespace, !ports.is_empty())?;
        let by_link = link.as_ref().and_then(|it| it.address).map(IpAddr::from);
        let by_link: Vec<IpAddr> = by_link.into_iter().collect();
        let own = [&addresses(&networks)[..], &by_link].concat();
        append_hosts(directory, &self.hostname, &own)?;
        let forwarder = match way_out(&networks) {
            Some(way_out) if link.is_none() && !self.listeners.is_empty() => {
                Some(Forwarder::start(&self.listeners, way_out, &place)?)
            }
            _ => None,
        };
        for network in &networks {
            container.be_found(network)?;
        }
        let responder = names::respond(container, &namespace, &networks, &self.servers, &place)?;
        Ok(Connected {
            networks,
            ports,
            place,
            servers: self.servers,
            responder,
            namespace: Some(namespace),
            hostname: self.hostname,
            listeners: self.listeners,
            forwarder,
            switch: self.switch,
            lock: self.lock,
            program: self.program,
            pid,
            link,
            by_link,
        })
    }
}

fn connect(
    networks: Vec<Ready>,
    namespace: &Namespace,
    publishes: bool,
) -> Result<Vec<Attachment>> {
    let mut attachments = Vec::new();
    for mut network in networks {
        if network.is_way_out() && publishes {
            network.route_answers()?;
        }
        let is_way_out = network.is_way_out();
        let attachment = network.connect(namespace)?;
        tell(|| step(&attachment, is_way_out));
        attachments.push(attachment);
    }
    Ok(attachments)
}

pub(super) fn addresses(attachments: &[Attachment]) -> Vec<IpAddr> {
    let both = |it: &Attachment| {
        let v6 = it.address6.map(|it| it.addr().into());
        [it.address.addr().into()].into_iter().chain(v6)
    };
    attachments.iter().flat_map(both).collect()
}

fn step(attachment: &Attachment, is_way_out: bool) -> Step {
    let v6 = attachment.address6.map(|address| address.to_string());
    Step::Network {
        network: attachment.network.clone(),
        link: attachment.link.clone(),
        addresses: [attachment.address.to_string()]
            .into_iter()
            .chain(v6)
            .collect(),
        gateway: is_way_out.then(|| attachment.gateway.to_string()),
    }
}

/// Appends the lines about the container itself, which are the last of the file.
pub(super) fn append_hosts(directory: &Path, hostname: &str, addresses: &[IpAddr]) -> Result<()> {
    let short = hostname
        .split('.')
        .next()
        .filter(|short| *short != hostname);
    let names: Vec<&str> = [Some(hostname), short].into_iter().flatten().collect();
    let names = names.join(" ");
    let lines = addresses.iter().map(|it| format!("{it}\t{names}\n"));
    let lines: Vec<String> = lines.collect();
    let mut options = fs_err::OpenOptions::new();
    match file::at_once(options.append(true)).open(directory.join("hosts")) {
        // The container holds it by a lease.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        file => Ok(file?.write_all(lines.concat().as_bytes())?),
    }
}

/// Removes the lines about these addresses of the container's. The file stays the same: it is mounted in the container.
pub(super) fn remove_hosts(directory: &Path, addresses: &[IpAddr]) -> Result<()> {
    let path = directory.join("hosts");
    // What the container has made of it may be anything, and then is its own matter, as is a lease that it has on it.
    let content = file::read_within(&path, LARGEST_FILE);
    let Some(text) = content.ok().and_then(|it| String::from_utf8(it).ok()) else {
        return Ok(());
    };
    let is_gone = |line: &str| {
        let first = line.split_whitespace().next();
        first
            .and_then(|it| it.parse().ok())
            .is_some_and(|it: IpAddr| addresses.contains(&it))
    };
    let kept = text.split_inclusive('\n').filter(|line| !is_gone(line));
    let mut options = fs_err::OpenOptions::new();
    match file::at_once(options.write(true).truncate(true)).open(&path) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        file => Ok(file?.write_all(kept.collect::<String>().as_bytes())?),
    }
}
