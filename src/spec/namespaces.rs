//! Whose namespaces a container is in: its own, the host's, or another container's.

use crate::network::Mac;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// What the container shares with others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespaces {
    /// `--network`
    pub(crate) network: Network,
    /// `--mac-address` in the default network.
    pub(crate) mac: Option<Mac>,
    /// `--pid`
    pub(crate) pid: Pid,
    /// `--ipc`
    pub(crate) ipc: Ipc,
    /// `--uts host`
    pub(crate) uts_of_host: bool,
    /// `--cgroupns host`
    pub(crate) cgroup_of_host: bool,
    /// `--proc host`: no limit is shown in `/proc` and `/sys`.
    pub(crate) proc_of_host: bool,
}

/// `--network`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Network {
    /// A network namespace of its own, connected to the default network.
    #[default]
    Bridge,
    /// A network namespace of its own with loopback up and no way out.
    None,
    /// The host's.
    Host,
    Container(Donor),
    /// A network namespace of its own, connected to these networks, which somebody defined.
    Named(Vec<Membership>),
}

/// How the container is to be in a network that somebody defined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Its name, ID, or the beginning of that.
    pub(crate) network: String,
    /// `--ip`
    pub(crate) address: Option<Ipv4Addr>,
    /// `--ip6`
    pub(crate) address6: Option<Ipv6Addr>,
    /// `--mac-address`
    pub(crate) mac: Option<Mac>,
    /// `--network-alias`, in order.
    pub(crate) aliases: Vec<String>,
}

/// `--pid`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Pid {
    #[default]
    Private,
    Host,
    Container(Donor),
}

/// `--ipc`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Ipc {
    #[default]
    Private,
    /// Private, and without `/dev/shm`.
    None,
    /// Its own, which others may join.
    Shareable,
    Host,
    Container(Donor),
}

/// A running container whose namespaces another one joins. All but the name is empty until it is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Donor {
    /// As the user named it.
    pub(crate) name: String,
    /// Host PID of its first process.
    pub(crate) process: u32,
    /// Its directory in the store.
    pub(crate) directory: PathBuf,
    pub(crate) hostname: String,
    pub(crate) domain_name: Option<String>,
}

/// What of a container is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    Network,
    Pid,
    Ipc,
}

/// The annotation of a container whose IPC namespace may be joined.
pub(crate) const SHAREABLE_IPC: &str = "ddock.ipc.shareable";

impl Network {
    /// Tells whether the container has a network namespace of its own.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Bridge | Self::Named(_) | Self::None)
    }
}

impl Namespaces {
    /// Returns the containers that are joined.
    pub(crate) fn donors(&mut self) -> impl Iterator<Item = (Joined, &mut Donor)> {
        let network = match &mut self.network {
            Network::Container(donor) => Some((Joined::Network, donor)),
            Network::Bridge | Network::Named(_) | Network::None | Network::Host => None,
        };
        let pid = match &mut self.pid {
            Pid::Container(donor) => Some((Joined::Pid, donor)),
            Pid::Private | Pid::Host => None,
        };
        let ipc = match &mut self.ipc {
            Ipc::Container(donor) => Some((Joined::Ipc, donor)),
            Ipc::Private | Ipc::None | Ipc::Shareable | Ipc::Host => None,
        };
        network.into_iter().chain(pid).chain(ipc)
    }

    /// Returns the container's namespaces as config.json has them: the host's are left out.
    pub(crate) fn list(&self) -> Vec<Value> {
        let new = |kind: &str| Some(json!({ "type": kind }));
        let pid = match &self.pid {
            Pid::Private => new("pid"),
            Pid::Host => None,
            Pid::Container(donor) => Some(donor.namespace("pid", "pid")),
        };
        let ipc = match &self.ipc {
            Ipc::Private | Ipc::None | Ipc::Shareable => new("ipc"),
            Ipc::Host => None,
            Ipc::Container(donor) => Some(donor.namespace("ipc", "ipc")),
        };
        let uts = new("uts").filter(|_| !self.uts_of_host);
        let cgroup = new("cgroup").filter(|_| !self.cgroup_of_host);
        let network = match &self.network {
            Network::Bridge | Network::Named(_) | Network::None => new("network"),
            Network::Host => None,
            Network::Container(donor) => Some(donor.namespace("network", "net")),
        };
        [pid, ipc, uts, new("mount"), cgroup, network]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl Donor {
    fn namespace(&self, kind: &str, file: &str) -> Value {
        let path = format!("/proc/{}/ns/{file}", self.process);
        json!({ "type": kind, "path": path })
    }

    /// Returns the name of what lies at `path` in the container.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(namespaces: &Namespaces) -> Vec<String> {
        let word = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let list = namespaces.list();
        let one = |it| [word(it, "type"), word(it, "path")].map(Option::unwrap_or_default);
        list.iter()
            .map(|it| one(it).join(" ").trim().to_owned())
            .collect()
    }

    #[test]
    fn namespaces_are_made_left_out_or_joined() {
        let donor = || Donor {
            process: 7,
            ..Donor::default()
        };
        let own = ["pid", "ipc", "uts", "mount", "cgroup", "network"];
        assert_eq!(kinds(&Namespaces::default()), own);
        let hosts = Namespaces {
            network: Network::Host,
            mac: None,
            pid: Pid::Host,
            ipc: Ipc::Host,
            uts_of_host: true,
            cgroup_of_host: true,
            proc_of_host: true,
        };
        assert_eq!(kinds(&hosts), ["mount"]);
        let mut joined = Namespaces {
            network: Network::Container(donor()),
            pid: Pid::Container(donor()),
            ipc: Ipc::Container(donor()),
            ..Namespaces::default()
        };
        let expected = [
            "pid /proc/7/ns/pid",
            "ipc /proc/7/ns/ipc",
            "uts",
            "mount",
            "cgroup",
            "network /proc/7/ns/net",
        ];
        assert_eq!(kinds(&joined), expected);
        let donors: Vec<_> = joined.donors().map(|(what, _)| what).collect();
        assert_eq!(donors, [Joined::Network, Joined::Pid, Joined::Ipc]);
    }
}
