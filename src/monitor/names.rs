//! What a container's responder is told when somebody asks it for a name: containers first, then who knows others.

use crate::container::{Container, Neighbours};
use crate::narration::{Step, tell};
use crate::network::{Asked, Attachment, Known, Namespace, RESOLVER, Responder, Server};
use crate::spec::{self, HostServers};
use anyhow::{Context, Result};
use fs_err as fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The port of name servers.
const PORT: u16 = 53;

/// Starts to answer in a container that was just connected to `networks`, if one is the user's; `servers` are those
/// of `--dns`.
pub(super) fn respond(
    container: &Container,
    namespace: &Namespace,
    networks: &[Attachment],
    servers: &[IpAddr],
) -> Result<Option<Responder>> {
    if !networks.iter().any(Attachment::has_names) {
        return Ok(None);
    }
    let mut neighbours = container.neighbours(networks.to_vec());
    let (servers, mut host) = (servers.to_vec(), HostServers::default());
    let directory = move |asked: Asked<'_>| look_up(&mut neighbours, &servers, &mut host, asked);
    let responder = Responder::start(namespace, Box::new(directory))
        .context("answering for names of containers")?;
    tell(|| Step::Responder {
        pid: responder.pid(),
        address: RESOLVER.to_string(),
    });
    Ok(Some(responder))
}

/// Has a container that runs ask its responder from now on, unless its `resolv.conf` was changed since it started.
pub(super) fn ask_responder(directory: &Path, servers: &[IpAddr]) -> Result<()> {
    let path = directory.join("resolv.conf");
    // Written after it, and before anything of the container ran.
    let config = fs::metadata(directory.join("config.json"))?.modified()?;
    if fs::metadata(&path)?.modified()? > config {
        return Ok(());
    }
    let text = spec::ask_responder(&fs::read_to_string(&path)?, servers);
    // In place: the container has this very file mounted.
    Ok(fs::write(&path, text)?)
}

fn look_up(
    neighbours: &mut Neighbours,
    servers: &[IpAddr],
    host: &mut HostServers,
    asked: Asked<'_>,
) -> Result<Known> {
    if let Some(known) = neighbours.find(asked)? {
        return Ok(known);
    }
    if !neighbours.has_way_out() {
        return Ok(Known::Elsewhere(Vec::new()));
    }
    if servers.is_empty() {
        let host = host.now()?.iter().map(|address| Server {
            address: *address,
            is_of_container: false,
        });
        return Ok(Known::Elsewhere(host.collect()));
    }
    // The responder itself would ask itself, without end.
    let others = servers.iter().filter(|it| **it != IpAddr::from(RESOLVER));
    let servers = others.map(|address| Server {
        address: SocketAddr::new(*address, PORT),
        is_of_container: true,
    });
    Ok(Known::Elsewhere(servers.collect()))
}
