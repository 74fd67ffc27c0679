//! A container's connection to networks: made while its first process prepares the rest.

use crate::narration::{Step, tell};
use crate::network::{Attachment, Forwarder, Link, Listener, Namespace, Program, Published, Ready};
use anyhow::Result;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// What a container is to be connected to.
pub(crate) enum Way {
    /// Networks of the host's that are ready, in the order of their links.
    Bridges(Vec<Ready>),
    /// A program of the user's.
    Program(Program),
}

/// How a container is to be connected, and what it is called.
pub(crate) struct Connection {
    pub(crate) way: Way,
    pub(crate) hostname: String,
    /// The published ports.
    pub(crate) ports: Vec<Published>,
    /// What holds them, unless a program takes them itself.
    pub(crate) listeners: Vec<Listener>,
}

/// What was made of a connection; the published ports are given back when this goes.
#[derive(Default)]
pub(super) struct Connected {
    pub(super) networks: Vec<Attachment>,
    pub(super) ports: Vec<Published>,
    _forwarder: Option<Forwarder>,
    _link: Option<Link>,
}

impl Connection {
    /// Connects the process `pid`, which waits for this, and writes down in its `hosts` what it is called there.
    pub(super) fn make(self, pid: u32, directory: &Path) -> Result<Connected> {
        let ports = self.ports;
        match self.way {
            Way::Bridges(networks) => {
                let networks = connect(networks, pid, !ports.is_empty())?;
                append_hosts(directory, &self.hostname, &addresses(&networks))?;
                let way_out = networks.iter().find(|network| !network.internal);
                let forwarder = match way_out {
                    Some(way_out) if !self.listeners.is_empty() => {
                        Some(Forwarder::start(&self.listeners, way_out)?)
                    }
                    _ => None,
                };
                Ok(Connected {
                    networks,
                    ports,
                    _forwarder: forwarder,
                    _link: None,
                })
            }
            Way::Program(program) => {
                let link = program.connect(pid, &self.listeners, &ports, directory)?;
                let own: Vec<IpAddr> = link.address.into_iter().map(Into::into).collect();
                append_hosts(directory, &self.hostname, &own)?;
                Ok(Connected {
                    networks: Vec::new(),
                    ports,
                    _forwarder: None,
                    _link: Some(link),
                })
            }
        }
    }
}

fn connect(networks: Vec<Ready>, pid: u32, publishes: bool) -> Result<Vec<Attachment>> {
    let namespace = Namespace::of(pid)?;
    let mut attachments = Vec::new();
    for mut network in networks {
        if network.is_way_out() && publishes {
            network.route_answers()?;
        }
        let attachment = network.connect(&namespace)?;
        tell(|| step(&attachment));
        attachments.push(attachment);
    }
    Ok(attachments)
}

fn addresses(attachments: &[Attachment]) -> Vec<IpAddr> {
    let both = |it: &Attachment| {
        let v6 = it.address6.map(|it| it.addr().into());
        [it.address.addr().into()].into_iter().chain(v6)
    };
    attachments.iter().flat_map(both).collect()
}

fn step(attachment: &Attachment) -> Step {
    let v6 = attachment.address6.map(|address| address.to_string());
    Step::Network {
        network: attachment.network.clone(),
        link: attachment.link.clone(),
        addresses: [attachment.address.to_string()]
            .into_iter()
            .chain(v6)
            .collect(),
        gateway: attachment.gateway.to_string(),
    }
}

/// Appends the lines about the container itself, which are the last of the file.
fn append_hosts(directory: &Path, hostname: &str, addresses: &[IpAddr]) -> Result<()> {
    let short = hostname
        .split('.')
        .next()
        .filter(|short| *short != hostname);
    let names: Vec<&str> = [Some(hostname), short].into_iter().flatten().collect();
    let names = names.join(" ");
    let lines = addresses.iter().map(|it| format!("{it}\t{names}\n"));
    let lines: Vec<String> = lines.collect();
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.append(true).open(directory.join("hosts"))?;
    Ok(file.write_all(lines.concat().as_bytes())?)
}
