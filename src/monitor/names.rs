//! What a container's responder is told when somebody asks it for a name: containers first, then who knows others.

use crate::container::{Container, Neighbours};
use crate::monitor::connection::LARGEST_FILE;
use crate::narration::{Step, tell};
use crate::network::{
    Asked, Attachment, Knowledge, Known, Namespace, Place, RESOLVER, Responder, Server,
};
use crate::spec::{self, HostServers};
use crate::sys::file;
use anyhow::{Context, Result};
use fs_err as fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The port of name servers.
const PORT: u16 = 53;

/// Starts to answer in a container that was just connected to `networks`, if one is the user's; `servers` are those
/// of `--dns`.
pub(super) fn respond(
    container: &Container,
    namespace: &Namespace,
    networks: &[Attachment],
    servers: &[IpAddr],
    place: &Place,
) -> Result<Option<Responder>> {
    if !networks.iter().any(Attachment::has_names) {
        return Ok(None);
    }
    let mut neighbours = container.neighbours(networks.to_vec());
    let asks_inside = !servers.is_empty();
    let (servers, mut host) = (servers.to_vec(), HostServers::default());
    let directory = move |asked: Asked<'_>| look_up(&mut neighbours, &servers, &mut host, asked);
    let knowledge = Knowledge {
        directory: Box::new(directory),
        asks_inside,
        reads_beyond: is_behind_others(&container.directory)?,
    };
    let responder = Responder::start(namespace, place, knowledge)
        .context("answering for names of containers")?;
    tell(|| Step::Responder {
        pid: responder.servant().pid().unwrap_or_default(),
        address: RESOLVER.to_string(),
    });
    Ok(Some(responder))
}

/// Tells whether a directory lies below one of another user's who lets nobody through, as root's store in a user's home.
fn is_behind_others(directory: &Path) -> Result<bool> {
    const PASSES: u32 = 0o001;
    let own = rustix::process::geteuid().as_raw();
    for above in directory.ancestors() {
        let found = fs::metadata(above)?;
        if found.uid() != own && found.mode() & PASSES == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has a container that runs ask its responder from now on, unless its `resolv.conf` was changed since it started.
pub(super) fn ask_responder(directory: &Path, servers: &[IpAddr]) -> Result<()> {
    let path = directory.join("resolv.conf");
    // Written after it, and before anything of the container ran.
    let config = fs::metadata(directory.join("config.json"))?.modified()?;
    let found = fs::metadata(&path)?;
    // Not when it was modified: that is whatever the container says.
    let changed = Duration::new(found.ctime().try_into()?, found.ctime_nsec().try_into()?);
    if UNIX_EPOCH + changed > config || found.len() > LARGEST_FILE {
        return Ok(());
    }
    let text = file::read_within(&path, LARGEST_FILE)?;
    let text = spec::ask_responder(&String::from_utf8_lossy(&text), servers);
    // In place: the container has this very file mounted.
    let mut options = fs::OpenOptions::new();
    let mut file = file::at_once(options.write(true).truncate(true)).open(&path)?;
    Ok(file.write_all(text.as_bytes())?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Timespec, Timestamps};
    use std::net::Ipv4Addr;

    #[test]
    fn what_a_container_has_made_of_its_name_servers_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        fs::write(directory.path().join("config.json"), "{}").unwrap();
        let servers = [Ipv4Addr::new(192, 0, 2, 1).into()];
        ask_responder(directory.path(), &servers).unwrap();
        let asked = fs::read_to_string(&path).unwrap();
        assert!(asked.contains(&RESOLVER.to_string()), "{asked}");
        // As a container can: much of it, and from long ago.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(400 << 20).unwrap();
        let long_ago = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: long_ago,
            last_modification: long_ago,
        };
        rustix::fs::futimens(&file, &times).unwrap();
        ask_responder(directory.path(), &servers).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 400 << 20);
    }
}
