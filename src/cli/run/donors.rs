//! The running containers whose namespaces another one is to join.

use crate::container::{self, Record, Status};
use crate::runtime;
use crate::spec::{Donor, Joined, Request, SHAREABLE_IPC};
use crate::store::{NotFound, Store};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;

/// Containers that must go on running until their namespaces are held.
#[derive(Default)]
pub(super) struct Donors(Vec<runtime::Donor>);

impl Donors {
    /// Finds every container that `request` names, and fills in what is known of it.
    pub(super) fn find(request: &mut Request, root: &Path, mapping: &str) -> Result<Self> {
        let mut found = Vec::new();
        for (what, donor) in request.namespaces.donors() {
            if !Store::exists(root)? {
                return Err(NotFound::container(&donor.name).into());
            }
            let store = Store::open(root, mapping)?;
            found.push(fill(&store, what, donor)?);
        }
        Ok(Self(found))
    }

    /// Returns the process whose user namespace the container must be in: each user namespace has its own of the others.
    /// `peer` is in that of the containers which it is to share networks with.
    pub(super) fn process(&self, peer: Option<u32>) -> Result<Option<u32>> {
        let mut processes = peer
            .into_iter()
            .chain(self.0.iter().map(runtime::Donor::pid));
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
        for donor in &self.0 {
            ensure!(
                donor.runs()?,
                "the container to join ended: process {}",
                donor.pid()
            );
        }
        Ok(())
    }
}

fn fill(store: &Store, what: Joined, donor: &mut Donor) -> Result<runtime::Donor> {
    let record = container::find(store, &donor.name)?;
    let id = &record.id;
    let Some(process) = hold(&record)? else {
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
    *donor = Donor {
        name: std::mem::take(&mut donor.name),
        process: process.pid(),
        directory,
        // One that shares the host's name has none of its own.
        hostname: hostname.unwrap_or_else(host_name),
        domain_name: config["domainname"].as_str().map(str::to_owned),
    };
    Ok(process)
}

fn hold(record: &Record) -> Result<Option<runtime::Donor>> {
    match record.status {
        Status::Running {
            pid, start_time, ..
        } => runtime::Donor::hold(pid, start_time),
        Status::Created | Status::Exited { .. } | Status::Unknown => Ok(None),
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
