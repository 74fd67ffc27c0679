//! Everything that is mounted in a container besides its root, in the order in which it is mounted.

use crate::spec::binds::{self, Bind};
use crate::spec::devices::Device;
use crate::spec::host::Host;
use crate::spec::namespaces::{Ipc, Network, Pid};
use crate::spec::request::Request;
use crate::spec::view::Shown;
use crate::spec::{files, tmpfs, tree};
use anyhow::{Result, bail, ensure};
use serde::Serialize;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// A mount as config.json has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Mount {
    pub(crate) destination: PathBuf,
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) source: PathBuf,
    pub(crate) options: Vec<String>,
}

/// What is to be mounted, and what goes with it.
#[derive(Debug)]
pub(crate) struct Mounts {
    /// Whatever holds another mount comes before it.
    pub(crate) list: Vec<Mount>,
    /// Devices to be made in the container's `/dev`; in a user namespace, which cannot make any, they are in `list`.
    pub(crate) nodes: Vec<Device>,
    /// How mounts of the host spread into the container (`mount_namespaces(7)`): as far as the bind that asks for most.
    pub(crate) root_propagation: &'static str,
    /// Host directories to be made, because a `-v` names them and they are not there.
    pub(crate) missing: Vec<PathBuf>,
}

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

/// Decides on all mounts. `root` is the image's tree, `devices` are those that the container is to have.
pub(crate) fn plan(
    request: &Request,
    host: &Host,
    mut devices: Vec<Device>,
    root: BorrowedFd<'_>,
) -> Result<Mounts> {
    let binds = binds(request, host)?;
    let missing = missing(&binds, root)?;
    let root_propagation = root_propagation(&binds);
    let mut wanted: Vec<Mount> = binds.into_iter().map(bind_mount).collect();
    for text in &request.files.tmpfs {
        wanted.push(tmpfs_mount(text)?);
    }
    refuse_duplicates(&wanted)?;

    // What the user mounts from the host, `/dev` itself or a part, must not be added to.
    let hosts = |path: &Path| {
        let mut binds = wanted.iter().filter(|mount| mount.kind == "bind");
        binds.any(|bind| path.starts_with(&bind.destination))
    };
    devices.retain(|device| !hosts(&device.path));
    let mut list = file_systems(request, host);
    list.retain(|mount| !(mount.destination.starts_with("/dev") && hosts(&mount.destination)));
    list.extend(files::NAMES.map(|name| etc_file(name, request)));
    if let Some(zone) = &request.time_zone {
        let zone = time_zone(zone)?;
        list.push(Mount::bind(
            zone,
            "/etc/localtime".into(),
            &["rprivate", "ro"],
        ));
    }
    list.retain(|mount| {
        wanted
            .iter()
            .all(|other| other.destination != mount.destination)
    });
    if host.mapping.is_some() {
        list.extend(devices.drain(..).map(device));
    }
    list.extend(wanted);
    refuse_other_than_utf8(&list)?;
    // A stable sort: what is equally deep cannot hide one another, and stays in our order.
    list.sort_by_key(|mount| mount.destination.components().count());
    Ok(Mounts {
        list,
        nodes: devices,
        root_propagation,
        missing,
    })
}

fn binds(request: &Request, host: &Host) -> Result<Vec<Bind>> {
    let directory = host.current_directory.as_deref();
    let texts = request.files.volumes.iter();
    texts
        .map(|text| {
            let mut bind = binds::parse(text, directory)?;
            bind.target = target(&bind.target)?;
            Ok(bind)
        })
        .collect()
}

/// Returns how far mounts have to spread for all binds to get what they ask for.
fn root_propagation(binds: &[Bind]) -> &'static str {
    let asked = |word| binds.iter().any(|bind| bind.propagation.ends_with(word));
    if asked("shared") {
        "shared"
    } else if asked("slave") {
        "rslave"
    } else {
        "rprivate"
    }
}

impl Mounts {
    /// Puts files of the container's `directory` over the kernel's, where the user has not put anything else.
    pub(crate) fn show(&mut self, shown: &[Shown], directory: &Path) {
        for Shown { target, file } in shown {
            let target = Path::new(target);
            let is_replaced = self.list.iter().any(|mount| {
                let is_kernels =
                    matches!(mount.kind, "proc" | "sysfs") || mount.source == mount.destination;
                target.starts_with(&mount.destination) && !is_kernels
            });
            if !is_replaced {
                let options = ["rprivate", "nosuid", "nodev", "noexec", "ro"];
                let source = directory.join(file.name);
                self.list.push(Mount::bind(source, target.into(), &options));
            }
        }
    }
}

impl Mount {
    /// Returns a mount of a path of the host with all that is mounted below it.
    fn bind(source: PathBuf, destination: PathBuf, options: &[&str]) -> Self {
        let options = ["rbind"].iter().chain(options);
        Self {
            destination,
            kind: "bind",
            source,
            options: options.map(|&option| option.to_owned()).collect(),
        }
    }
}

/// Returns the file systems of every container, as far as this one can have them.
fn file_systems(request: &Request, host: &Host) -> Vec<Mount> {
    let group = host
        .mapping
        .is_none_or(|mapping| mapping.groups > TTY_GROUP);
    let mount = |(destination, kind, source, options): (&str, &'static str, &str, &str)| {
        if destination == SHM && request.namespaces.ipc == Ipc::None {
            return None;
        }
        let shared = shared(kind, destination, request, host);
        let bind = shared.is_some();
        let extra: &[&str] = match kind {
            _ if !bind => &[],
            "sysfs" | "cgroup" => &["rbind", "rprivate", "rro"],
            _ => &["rbind", "rprivate"],
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
            "ro" | "rro" => !request.security.privileged,
            "gid=5" => group,
            _ => true,
        });
        Some(Mount {
            destination: destination.into(),
            kind: if bind { "bind" } else { kind },
            source: if bind { destination } else { source }.into(),
            options: options.map(str::to_owned).collect(),
        })
    };
    FILE_SYSTEMS.into_iter().filter_map(mount).collect()
}

/// Returns what is shown instead of a new file system that shows what is shared.
///
/// These file systems belong to a namespace: only who owns that may mount a new one, and an ordinary user does not own
/// the host's. Shared memory is a file system of its own without belonging to a namespace.
fn shared(kind: &str, destination: &str, request: &Request, host: &Host) -> Option<PathBuf> {
    let namespaces = &request.namespaces;
    let is_hosts = match kind {
        "sysfs" => namespaces.network == Network::Host,
        "proc" => namespaces.pid == Pid::Host,
        "cgroup" => namespaces.cgroup_of_host,
        "mqueue" => namespaces.ipc == Ipc::Host,
        _ => false,
    };
    match &namespaces.ipc {
        Ipc::Host if destination == SHM => Some(SHM.into()),
        Ipc::Container(donor) if destination == SHM => Some(donor.path(Path::new(SHM))),
        _ => (is_hosts && host.mapping.is_some()).then(|| destination.into()),
    }
}

fn device(device: Device) -> Mount {
    let options = ["rprivate", "nosuid", "noexec"];
    Mount::bind(device.path.clone(), device.path, &options)
}

fn etc_file(name: &str, request: &Request) -> Mount {
    let directory = match &request.namespaces.network {
        Network::Container(donor) => &donor.directory,
        Network::Private | Network::Host => &request.directory,
    };
    let source = directory.join(name);
    let destination = Path::new("/etc").join(name);
    let write = if request.files.read_only { "ro" } else { "rw" };
    Mount::bind(source, destination, &["rprivate", write])
}

/// Returns the file of the host that describes a time zone: the image may have none (zoneinfo(5)).
fn time_zone(name: &str) -> Result<PathBuf> {
    let path = if name == "local" {
        "/etc/localtime".into()
    } else {
        let is_plain = Path::new(name)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(is_plain, "invalid time zone `{name}`");
        Path::new("/usr/share/zoneinfo").join(name)
    };
    match fs_err::canonicalize(&path) {
        Ok(file) if file.is_file() => Ok(file),
        _ => bail!(
            "unknown time zone `{name}`: this machine has no file `{}`",
            path.display()
        ),
    }
}

fn bind_mount(bind: Bind) -> Mount {
    let options: &[&str] = if bind.read_only {
        // `ro` is the mount itself, `rro` everything below it.
        &[bind.propagation, "ro", "rro"]
    } else {
        &[bind.propagation, "rw"]
    };
    Mount::bind(bind.source, bind.target, options)
}

fn tmpfs_mount(text: &str) -> Result<Mount> {
    let (path, options) = tmpfs::parse(text)?;
    Ok(Mount {
        destination: target(Path::new(path))?,
        kind: "tmpfs",
        source: "tmpfs".into(),
        options,
    })
}

/// Returns a mount's target as a plain absolute path, or says why nothing can be mounted there.
fn target(typed: &Path) -> Result<PathBuf> {
    ensure!(
        typed.is_absolute(),
        "invalid mount path: '{}' mount path must be absolute",
        typed.display()
    );
    let path = tree::clean(typed);
    ensure!(
        path != Path::new("/"),
        "invalid specification: destination can't be '/'"
    );
    ensure!(
        !path.starts_with("/proc"),
        "nothing can be mounted at `{}`: `/proc` is the container's own",
        path.display()
    );
    Ok(path)
}

/// Returns the sources that are missing and can be made.
///
/// Docker makes a directory of each. Where the container has a file, that is certainly not what was meant: an error.
fn missing(binds: &[Bind], root: BorrowedFd<'_>) -> Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for Bind { source, target, .. } in binds {
        match fs_err::metadata(source) {
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let own = files::NAMES
            .iter()
            .any(|name| *target == Path::new("/etc").join(name));
        ensure!(
            !own && !tree::find(root, target)?.is_some_and(|entry| entry.is_file()),
            "bind source path does not exist: `{}`; it is not made for you, because `{}` is a file in the container",
            source.display(),
            target.display()
        );
        if !missing.contains(source) {
            missing.push(source.clone());
        }
    }
    Ok(missing)
}

/// Only the caller's directory and the store's can be at fault: the flags are UTF-8.
fn refuse_other_than_utf8(mounts: &[Mount]) -> Result<()> {
    for Mount { source, .. } in mounts {
        ensure!(
            source.to_str().is_some(),
            "`{}` cannot be mounted: its name is not UTF-8, and config.json holds nothing else",
            source.display()
        );
    }
    Ok(())
}

fn refuse_duplicates(mounts: &[Mount]) -> Result<()> {
    for (index, mount) in mounts.iter().enumerate() {
        let path = &mount.destination;
        ensure!(
            mounts[..index]
                .iter()
                .all(|other| other.destination != *path),
            "Duplicate mount point: {}",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Files;
    use crate::spec::devices;
    use crate::spec::host::Mapping;
    use crate::spec::tests::{host, tree};
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;

    const RANGES: Mapping = Mapping {
        users: 65536,
        groups: 65536,
        own_user: 0,
        own_group: 0,
    };
    const SINGLE: Mapping = Mapping {
        users: 1,
        groups: 1,
        own_user: 0,
        own_group: 0,
    };

    fn request(volumes: &[&str], tmpfs: &[&str]) -> Request {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Request {
            directory: "/c".into(),
            files: Files {
                volumes: own(volumes),
                tmpfs: own(tmpfs),
                ..Files::default()
            },
            ..Request::default()
        }
    }

    fn planned(request: &Request, host: &Host) -> Result<Mounts> {
        let (_dir, root) = tree();
        plan(request, host, devices::default(), root.as_fd())
    }

    fn lines(mounts: &Mounts) -> Vec<String> {
        let line = |mount: &Mount| {
            let (to, from) = (mount.destination.display(), mount.source.display());
            format!("{to} {} {from} {}", mount.kind, mount.options.join(","))
        };
        mounts.list.iter().map(line).collect()
    }

    fn options_of(mounts: &Mounts, destination: &str) -> String {
        let found = mounts
            .list
            .iter()
            .find(|mount| mount.destination == Path::new(destination));
        found.unwrap().options.join(",")
    }

    #[test]
    fn every_container_has_dockers_mounts() {
        let mounts = planned(&request(&[], &[]), &host()).unwrap();
        assert_eq!(
            lines(&mounts),
            [
                "/proc proc proc nosuid,noexec,nodev",
                "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
                "/sys sysfs sysfs nosuid,noexec,nodev,ro",
                "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
                "/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=65536k",
                "/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
                "/etc/hostname bind /c/hostname rbind,rprivate,rw",
                "/etc/hosts bind /c/hosts rbind,rprivate,rw",
                "/etc/resolv.conf bind /c/resolv.conf rbind,rprivate,rw",
                "/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev,ro",
            ]
        );
        assert_eq!(mounts.nodes, devices::default());
        assert_eq!(mounts.root_propagation, "rprivate");
    }

    #[test]
    fn parents_are_mounted_before_what_they_hold() {
        let mounts = planned(
            &request(&["/tmp:/a/b/c", "/tmp:/a", "/tmp:/sys"], &["/a/b"]),
            &host(),
        );
        let mounts = mounts.unwrap();
        for (index, mount) in mounts.list.iter().enumerate() {
            for earlier in &mounts.list[..index] {
                assert!(!earlier.destination.starts_with(&mount.destination));
            }
        }
        assert_eq!(options_of(&mounts, "/sys"), "rbind,rprivate,rw");
        assert_eq!(mounts.list.len(), 13);
    }

    #[test]
    fn binds_are_recursive_and_private() {
        for (volume, options, root) in [
            ("/tmp:/t", "rbind,rprivate,rw", "rprivate"),
            ("/tmp:/t:ro", "rbind,rprivate,ro,rro", "rprivate"),
            ("/tmp:/t:rslave", "rbind,rslave,rw", "rslave"),
            ("/tmp:/t:ro,shared", "rbind,shared,ro,rro", "shared"),
        ] {
            let mounts = planned(&request(&[volume], &[]), &host()).unwrap();
            assert_eq!(options_of(&mounts, "/t"), options, "{volume}");
            assert_eq!(mounts.root_propagation, root, "{volume}");
        }
    }

    #[test]
    fn the_user_replaces_what_is_ours() {
        let volumes = [
            "/etc/hosts:/etc/hosts",
            "/dev/shm:/dev//shm/",
            "/dev/zero:/dev/null",
        ];
        let mounts = planned(&request(&volumes, &["/dev/mqueue:size=1m"]), &host()).unwrap();
        assert_eq!(options_of(&mounts, "/etc/hosts"), "rbind,rprivate,rw");
        assert_eq!(
            options_of(&mounts, "/dev/mqueue"),
            "rw,noexec,nosuid,nodev,size=1m"
        );
        assert_eq!(mounts.list.len(), 11);
        assert_eq!(mounts.nodes.len(), 5);

        let mounts = planned(&request(&["/dev:/dev"], &[]), &host()).unwrap();
        assert!(mounts.nodes.is_empty());
        let in_dev = |mount: &&Mount| mount.destination.starts_with("/dev");
        assert_eq!(mounts.list.iter().filter(in_dev).count(), 1);
    }

    #[test]
    fn a_read_only_root_has_read_only_files_and_writable_tmpfs() {
        let mut request = request(&[], &["/run"]);
        request.files.read_only = true;
        let mounts = planned(&request, &host()).unwrap();
        assert_eq!(options_of(&mounts, "/etc/hosts"), "rbind,rprivate,ro");
        assert_eq!(options_of(&mounts, "/run"), "rw,noexec,nosuid,nodev");
    }

    #[test]
    fn privileged_containers_write_to_sys() {
        let mut request = request(&[], &[]);
        request.security.privileged = true;
        let mounts = planned(&request, &host()).unwrap();
        assert_eq!(options_of(&mounts, "/sys"), "nosuid,noexec,nodev");
        assert_eq!(options_of(&mounts, "/sys/fs/cgroup"), "nosuid,noexec,nodev");
    }

    #[test]
    fn ordinary_users_get_what_their_namespace_can_have() {
        let user = |mapping| Host {
            mapping: Some(mapping),
            ..host()
        };
        let mut request = request(&[], &[]);
        let mounts = planned(&request, &user(SINGLE)).unwrap();
        assert!(mounts.nodes.is_empty());
        assert_eq!(
            options_of(&mounts, "/dev/null"),
            "rbind,rprivate,nosuid,noexec"
        );
        assert!(!options_of(&mounts, "/dev/pts").contains("gid="));
        assert_eq!(options_of(&mounts, "/sys"), "nosuid,noexec,nodev,ro");

        request.namespaces.network = Network::Host;
        let mounts = planned(&request, &user(RANGES)).unwrap();
        assert!(options_of(&mounts, "/dev/pts").contains("gid=5"));
        let sys = "/sys bind /sys rbind,rprivate,rro,nosuid,noexec,nodev,ro";
        assert!(lines(&mounts).iter().any(|line| line == sys));
    }

    #[test]
    fn impossible_targets_are_refused() {
        for (target, error) in [
            ("/", "invalid specification: destination can't be '/'"),
            ("/a/..", "invalid specification: destination can't be '/'"),
            (
                "/proc",
                "nothing can be mounted at `/proc`: `/proc` is the container's own",
            ),
            (
                "/x/../proc/sys",
                "nothing can be mounted at `/proc/sys`: `/proc` is the container's own",
            ),
        ] {
            for request in [
                request(&[&format!("/tmp:{target}")], &[]),
                request(&[], &[target]),
            ] {
                assert_eq!(planned(&request, &host()).unwrap_err().to_string(), error);
            }
        }
        let error = planned(&request(&[], &["t"]), &host()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid mount path: 't' mount path must be absolute"
        );
    }

    #[test]
    fn a_directory_that_is_not_utf8_is_refused_not_panicked_over() {
        let mut host = host();
        let directory = OsStr::from_bytes(b"/tmp/\xff");
        host.current_directory = Some(directory.into());
        let error = planned(&request(&["./a:/t"], &[]), &host).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }

    #[test]
    fn two_mounts_at_one_place_are_refused() {
        for request in [
            request(&["/tmp:/x", "/var:/y/../x/"], &[]),
            request(&["/tmp:/x"], &["/x"]),
            request(&[], &["/x", "/x"]),
        ] {
            let error = planned(&request, &host()).unwrap_err();
            assert_eq!(error.to_string(), "Duplicate mount point: /x");
        }
    }

    #[test]
    fn a_missing_source_is_to_be_made_unless_a_file_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a/b");
        let text = source.display();
        let volumes = [format!("{text}:/new"), format!("{text}:/etc")];
        let mounts = planned(
            &request(&volumes.each_ref().map(String::as_str), &[]),
            &host(),
        );
        assert_eq!(mounts.unwrap().missing, std::slice::from_ref(&source));
        assert!(!source.exists(), "planning does nothing");

        for target in ["/etc/passwd", "/link", "/etc/hosts"] {
            let error =
                planned(&request(&[&format!("{text}:{target}")], &[]), &host()).unwrap_err();
            let expected = format!(
                "bind source path does not exist: `{text}`; it is not made for you, because `{target}` is a file in the container"
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}
