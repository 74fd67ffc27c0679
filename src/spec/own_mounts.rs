//! What every container has mounted, whatever is asked for: the kernel's file systems, devices, files in `/etc`.

use crate::options::{IdMaps, Ipc, Network, Pid};
use crate::spec::devices::Device;
use crate::spec::host::Host;
use crate::spec::mounts::Mount;
use crate::spec::subject::Subject;
use std::path::{Path, PathBuf};

/// The file systems of every container: where, type, source, options.
const FILE_SYSTEMS: [(&str, &str, &str, &str); 7] = [
    ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        "nosuid,strictatime,mode=755,size=65536k",
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        "nosuid,noexec,nodev,mode=1777,size=65536k",
    ),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        "nosuid,noexec,nodev,ro",
    ),
];

const SHM: &str = "/dev/shm";

/// The group of terminals in devpts.
const TTY_GROUP: u32 = 5;

/// Returns the file systems of every container, as far as this one can have them.
pub(crate) fn file_systems(subject: &Subject, host: &Host) -> Vec<Mount> {
    let group = host
        .mapping
        .is_none_or(|mapping| mapping.groups > TTY_GROUP);
    let mount = |(destination, kind, source, options): (&str, &'static str, &str, &str)| {
        if destination == SHM && subject.options.namespaces.ipc == Ipc::None {
            return None;
        }
        let shared = shared(kind, destination, subject, host);
        let bind = shared.is_some();
        let extra: &[&str] = match kind {
            _ if !bind => &[],
            "sysfs" | "cgroup" => &["rbind", "rprivate", "rro"],
            _ => &["rbind", "rprivate"],
        };
        let options = match subject.options.files.shm_size {
            Some(size) if source == "shm" => {
                options.replace("size=65536k", &format!("size={size}"))
            }
            _ => options.to_owned(),
        };
        match shared {
            Some(source) if destination == SHM => {
                let options = ["rprivate", "nosuid", "noexec", "nodev"];
                return Some(Mount::bind(source, SHM.into(), &options));
            }
            // Many hosts have no message queues mounted; the calls that use them need no mount.
            Some(source) if kind == "mqueue" && !source.exists() => return None,
            _ => {}
        }
        let options = extra.iter().copied().chain(options.split(','));
        let options = options.filter(|&option| match option {
            "ro" | "rro" => !subject.options.security.privileged,
            "gid=5" => group,
            _ => true,
        });
        Some(Mount {
            destination: destination.into(),
            kind: if bind { "bind" } else { kind },
            source: if bind { destination } else { source }.into(),
            options: options.map(str::to_owned).collect(),
            ids: IdMaps::default(),
        })
    };
    FILE_SYSTEMS.into_iter().filter_map(mount).collect()
}

/// Returns what is shown instead of a new file system that shows what is shared.
///
/// These file systems belong to a namespace: only who owns that may mount a new one, and an ordinary user does not own
/// the host's. Shared memory is a file system of its own without belonging to a namespace.
fn shared(kind: &str, destination: &str, subject: &Subject, host: &Host) -> Option<PathBuf> {
    let namespaces = &subject.options.namespaces;
    let is_hosts = match kind {
        "sysfs" => namespaces.network == Network::Host,
        "proc" => namespaces.pid == Pid::Host,
        "cgroup" => namespaces.cgroup_of_host,
        "mqueue" => namespaces.ipc == Ipc::Host,
        _ => false,
    };
    match (&namespaces.ipc, &subject.donors.ipc) {
        (Ipc::Host, _) if destination == SHM => Some(SHM.into()),
        (_, Some(donor)) if destination == SHM => Some(donor.path(Path::new(SHM))),
        _ => (is_hosts && host.mapping.is_some()).then(|| destination.into()),
    }
}

pub(crate) fn device(device: Device) -> Mount {
    let options = ["rprivate", "nosuid", "noexec"];
    Mount::bind(device.host, device.path, &options)
}

pub(crate) fn etc_file(name: &str, subject: &Subject) -> Mount {
    let donor = subject.donors.network.as_ref();
    let directory = donor.map_or(&subject.directory, |donor| &donor.directory);
    let source = directory.join(name);
    let destination = Path::new("/etc").join(name);
    let write = if subject.options.files.read_only {
        "ro"
    } else {
        "rw"
    };
    Mount::bind(source, destination, &["rprivate", write])
}
