//! The running containers whose namespaces another one is to join.

use crate::container::{self, Record, Status};
use crate::options::{Ipc, Namespaces, Network, Pid};
use crate::runtime;
use crate::spec::{self, Donor, SHAREABLE_IPC};
use crate::store::{NotFound, Store};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;

/// Containers that must go on running until their namespaces are held.
#[derive(Default)]
pub(super) struct Donors {
    processes: Vec<runtime::Donor>,
    /// What a spec has to know of them.
    pub(super) known: spec::Donors,
}

/// What of a container is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joined {
    Network,
    Pid,
    Ipc,
}

impl Donors {
    /// Finds every container that is to be joined.
    pub(super) fn find(asked: &Namespaces, root: &Path, mapping: &str) -> Result<Self> {
        let mut donors = Self::default();
        let network = match &asked.network {
            Network::Container(name) => Some(name),
            Network::Bridge | Network::Named(_) | Network::None | Network::Host => None,
        };
        let pid = match &asked.pid {
            Pid::Container(name) => Some(name),
            Pid::Private | Pid::Host => None,
        };
        let ipc = match &asked.ipc {
            Ipc::Container(name) => Some(name),
            Ipc::Private | Ipc::None | Ipc::Shareable | Ipc::Host => None,
        };
        let mut find = |what, name: Option<&String>| -> Result<Option<Donor>> {
            let Some(name) = name else {
                return Ok(None);
            };
            if !Store::exists(root)? {
                return Err(NotFound::container(name).into());
            }
            let store = Store::open(root, mapping)?;
            let (process, donor) = hold(&store, what, name)?;
            donors.processes.push(process);
            Ok(Some(donor))
        };
        let known = spec::Donors {
            network: find(Joined::Network, network)?,
            pid: find(Joined::Pid, pid)?,
            ipc: find(Joined::Ipc, ipc)?,
        };
        donors.known = known;
        Ok(donors)
    }

    /// Returns the process whose user namespace the container must be in: each user namespace has its own of the others.
    /// `peer` is in that of the containers which it is to share networks with.
    pub(super) fn process(&self, peer: Option<u32>) -> Result<Option<u32>> {
        let mut processes = peer
            .into_iter()
            .chain(self.processes.iter().map(runtime::Donor::pid));
        let Some(first) = processes.next() else {
            return Ok(None);
        };
        let user = |process: u32| fs_err::read_link(format!("/proc/{process}/ns/user"));
        for other in processes {
            ensure!(
                user(first)? == user(other)?,
                "the containers to join are in different user namespaces, and only one can be joined"
            );
        }
        Ok(Some(first))
    }

    /// Fails if one ended meanwhile: what was opened by its PID may be another process's.
    pub(super) fn check(&self) -> Result<()> {
        for donor in &self.processes {
            ensure!(
                donor.runs()?,
                "the container to join ended: process {}",
                donor.pid()
            );
        }
        Ok(())
    }
}

fn hold(store: &Store, what: Joined, name: &str) -> Result<(runtime::Donor, Donor)> {
    let record = container::find(store, name)?;
    let id = &record.id;
    let Some(process) = process_of(&record)? else {
        match what {
            Joined::Network => bail!("cannot join network of a non running container: {id}"),
            Joined::Pid => bail!("container {id} is not running"),
            Joined::Ipc => bail!("can't join IPC of container {id}: container {id} is not running"),
        }
    };
    let directory = store.container_directory(id);
    let config: Value = serde_json::from_slice(&fs_err::read(directory.join("config.json"))?)
        .with_context(|| format!("reading the spec of container {id}"))?;
    ensure!(
        what != Joined::Ipc || shares_ipc(&config),
        "can't join IPC of container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    );
    let hostname = config["hostname"].as_str().map(str::to_owned);
    let donor = Donor {
        process: process.pid(),
        directory,
        // One that shares the host's name has none of its own.
        hostname: hostname.unwrap_or_else(host_name),
        domain_name: config["domainname"].as_str().map(str::to_owned),
    };
    Ok((process, donor))
}

fn process_of(record: &Record) -> Result<Option<runtime::Donor>> {
    match record.status {
        Status::Running {
            pid, start_time, ..
        } => runtime::Donor::hold(pid, start_time),
        Status::Starting | Status::Created | Status::Exited { .. } | Status::Unknown => Ok(None),
    }
}

/// Whoever was started `shareable`, or shares with somebody already.
fn shares_ipc(config: &Value) -> bool {
    let namespaces = config["linux"]["namespaces"].as_array();
    let mut namespaces = namespaces.into_iter().flatten();
    let own = namespaces.any(|it| it["type"] == "ipc" && it["path"].is_null());
    !own || config["annotations"][SHAREABLE_IPC] == "true"
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
