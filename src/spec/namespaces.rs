//! Whose namespaces a container is in, as config.json has them.

use crate::options::{Ipc, Namespaces, Network, Pid};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A running container whose namespaces another one joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Donor {
    /// Host PID of its first process.
    pub(crate) process: u32,
    /// Its directory in the store.
    pub(crate) directory: PathBuf,
    pub(crate) hostname: String,
    pub(crate) domain_name: Option<String>,
}

/// The containers that are joined, as far as any are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Donors {
    pub(crate) network: Option<Donor>,
    pub(crate) pid: Option<Donor>,
    pub(crate) ipc: Option<Donor>,
}

/// The annotation of a container whose IPC namespace may be joined.
pub(crate) const SHAREABLE_IPC: &str = "ddock.ipc.shareable";

/// Returns the container's namespaces: the host's are left out.
pub(crate) fn list(namespaces: &Namespaces, donors: &Donors) -> Vec<Value> {
    let new = |kind: &str| Some(json!({ "type": kind }));
    let of =
        |donor: &Option<Donor>, kind, file| donor.as_ref().map(|donor| donor.namespace(kind, file));
    let pid = match &namespaces.pid {
        Pid::Private => new("pid"),
        Pid::Host => None,
        Pid::Container(_) => of(&donors.pid, "pid", "pid"),
    };
    let ipc = match &namespaces.ipc {
        Ipc::Private | Ipc::None | Ipc::Shareable => new("ipc"),
        Ipc::Host => None,
        Ipc::Container(_) => of(&donors.ipc, "ipc", "ipc"),
    };
    let uts = new("uts").filter(|_| !namespaces.uts_of_host);
    let cgroup = new("cgroup").filter(|_| !namespaces.cgroup_of_host);
    let network = match &namespaces.network {
        Network::Bridge | Network::Named(_) | Network::None => new("network"),
        Network::Host => None,
        Network::Container(_) => of(&donors.network, "network", "net"),
    };
    [pid, ipc, uts, new("mount"), cgroup, network]
        .into_iter()
        .flatten()
        .collect()
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

    fn kinds(namespaces: &Namespaces, donors: &Donors) -> Vec<String> {
        let word = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let list = list(namespaces, donors);
        let one = |it| [word(it, "type"), word(it, "path")].map(Option::unwrap_or_default);
        list.iter()
            .map(|it| one(it).join(" ").trim().to_owned())
            .collect()
    }

    #[test]
    fn namespaces_are_made_left_out_or_joined() {
        let alone = Donors::default();
        let own = ["pid", "ipc", "uts", "mount", "cgroup", "network"];
        assert_eq!(kinds(&Namespaces::default(), &alone), own);
        let hosts = Namespaces {
            network: Network::Host,
            pid: Pid::Host,
            ipc: Ipc::Host,
            uts_of_host: true,
            cgroup_of_host: true,
            ..Namespaces::default()
        };
        assert_eq!(kinds(&hosts, &alone), ["mount"]);
        let name = || "box".to_owned();
        let joined = Namespaces {
            network: Network::Container(name()),
            pid: Pid::Container(name()),
            ipc: Ipc::Container(name()),
            ..Namespaces::default()
        };
        let donor = || {
            Some(Donor {
                process: 7,
                ..Donor::default()
            })
        };
        let donors = Donors {
            network: donor(),
            pid: donor(),
            ipc: donor(),
        };
        let expected = [
            "pid /proc/7/ns/pid",
            "ipc /proc/7/ns/ipc",
            "uts",
            "mount",
            "cgroup",
            "network /proc/7/ns/net",
        ];
        assert_eq!(kinds(&joined, &donors), expected);
    }
}
