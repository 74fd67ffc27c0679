//! Everything that is mounted in a container besides its root, in the order in which it is mounted.

use crate::spec::devices::Device;
use crate::spec::given::Given;
use crate::spec::host::Host;
use crate::spec::idmap::IdMaps;
use crate::spec::own_mounts::{device, etc_file, file_systems};
use crate::spec::request::Request;
use crate::spec::user::User;
use crate::spec::view::Shown;
use crate::spec::wanted::{Below, Content, Image, MountPoint, Wanted};
use crate::spec::{files, gather, given, propagation, time_zone, tmpfs, tree};
use crate::store::{self, Claim};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount as config.json has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Mount {
    pub(crate) destination: PathBuf,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) source: PathBuf,
    pub(crate) options: Vec<String>,
    #[serde(flatten)]
    pub(crate) ids: IdMaps,
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
    /// Volumes that have to be there.
    pub(crate) volumes: Vec<VolumeUse>,
    /// What becomes the property of the container's user.
    pub(crate) given: Vec<Given>,
    /// What was asked for, to be written down.
    pub(crate) points: Vec<MountPoint>,
}

/// A volume that the container has.
#[derive(Debug)]
pub(crate) struct VolumeUse {
    pub(crate) claim: Claim,
    /// The image's directory at its place, which an empty volume is filled from.
    pub(crate) content: Option<OwnedFd>,
}

/// The options of an image that is mounted: every one that the kernel's configuration could decide (overlayfs.rst).
const OVERLAY: [&str; 6] = [
    "ro",
    "index=off",
    "metacopy=off",
    "xino=off",
    "nfs_export=off",
    "redirect_dir=nofollow",
];
/// Decides on all mounts. `root` is the image's tree, `devices` are those that the container is to have.
pub(crate) fn plan(
    image_volumes: &[String],
    request: &Request,
    host: &Host,
    user: &User,
    mut devices: Vec<Device>,
    root: BorrowedFd<'_>,
) -> Result<Mounts> {
    let wanted = gather::all(image_volumes, request, host)?;
    let missing = missing(&wanted, root)?;
    let root_propagation = root_propagation(&wanted);
    let volumes = volumes(&wanted, root)?;
    let given = given::plan(&wanted, request, user)?;
    let points = wanted.iter().map(|it| point(it, request)).collect();
    let wanted: Vec<Mount> = wanted
        .into_iter()
        .map(|wanted| mount(wanted, request, host, root))
        .collect::<Result<_>>()?;

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
        let zone = time_zone::file(zone)?;
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
        volumes,
        given,
        points,
    })
}

/// Returns the volumes, each with what it is to hold at first.
fn volumes(wanted: &[Wanted], root: BorrowedFd<'_>) -> Result<Vec<VolumeUse>> {
    let mut uses = Vec::new();
    for Wanted {
        target, content, ..
    } in wanted
    {
        let Content::Volume(volume) = content else {
            continue;
        };
        let found = tree::find(root, target)?;
        ensure!(
            !found.as_ref().is_some_and(tree::Entry::is_file),
            "cannot mount a volume on `{}`: a volume is a directory, and that is a file in the image",
            target.display()
        );
        let content = found.filter(|_| volume.copy && volume.subpath.is_none());
        uses.push(VolumeUse {
            claim: Claim {
                name: volume.name.clone(),
                anonymous: volume.anonymous,
                labels: volume.labels.clone(),
            },
            content: content.map(tree::Entry::into_descriptor),
        });
    }
    Ok(uses)
}

/// Returns how far mounts have to spread for all binds to get what they ask for.
fn root_propagation(wanted: &[Wanted]) -> &'static str {
    let asked = |word| {
        wanted.iter().any(|wanted| match &wanted.content {
            Content::Bind(bind) => bind.propagation.ends_with(word),
            _ => false,
        })
    };
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
    pub(crate) fn bind(source: PathBuf, destination: PathBuf, options: &[&str]) -> Self {
        let options = ["rbind"].iter().chain(options);
        Self {
            destination,
            kind: "bind",
            source,
            options: options.map(|&option| option.to_owned()).collect(),
            ids: IdMaps::default(),
        }
    }
}

/// Returns what was asked for as config.json has it.
fn mount(wanted: Wanted, request: &Request, host: &Host, root: BorrowedFd<'_>) -> Result<Mount> {
    let write = if wanted.read_only { "ro" } else { "rw" };
    // `ro` is the mount itself, `rro` everything below it.
    let write = |below| match (wanted.read_only, below) {
        (true, Below::Alike) => vec![write, "rro"],
        _ => vec![write],
    };
    let mut ids = IdMaps::default();
    let (kind, source, mut options, subpath) = match wanted.content {
        Content::Bind(bind) => {
            let (word, idmap) = match bind.below {
                Below::Absent => ("bind", "idmap"),
                _ => ("rbind", "ridmap"),
            };
            let mut options = [vec![word, bind.propagation], write(bind.below)].concat();
            let maps = bind.idmap.map(|idmap| idmap.maps(&bind.source, host));
            if let Some(maps) = maps.transpose()?.flatten() {
                options.push(idmap);
                ids = maps;
            }
            ("bind", bind.source, owned(&options), None)
        }
        Content::Volume(volume) => {
            let options = [vec!["rbind", "rprivate"], write(Below::Alike)].concat();
            let source = store::volume_data(&request.volumes, &volume.name);
            ("bind", source, owned(&options), volume.subpath)
        }
        Content::Tmpfs(mut options) => {
            tmpfs::refuse_unmapped(&options, host)?;
            options.extend(covered_mode(&options, &wanted.target, root)?);
            ("tmpfs", "tmpfs".into(), options, None)
        }
        Content::Image(Image { name, subpath }) => {
            let layers = request.files.images.get(&name);
            let layers = layers.with_context(|| format!("the image `{name}` is not there"))?;
            match layers.as_slice() {
                [] => {
                    let options = owned(&["ro", "mode=755"]);
                    ("tmpfs", "tmpfs".into(), options, subpath)
                }
                // Overlayfs merges two or more.
                [layer] => {
                    let options = owned(&["bind", "rprivate", "ro"]);
                    ("bind", layer.clone(), options, subpath)
                }
                layers => ("overlay", "overlay".into(), merged(layers, host)?, subpath),
            }
        }
    };
    options.extend(owned(&wanted.flags));
    options.extend(subpath.map(|path| format!("subpath={}", path.display())));
    Ok(Mount {
        destination: wanted.target,
        kind,
        source,
        options,
        ids,
    })
}

/// Returns the mode of the image's directory that a tmpfs covers, unless another is asked for: what is private stays so.
fn covered_mode(options: &[String], target: &Path, root: BorrowedFd<'_>) -> Result<Option<String>> {
    if options.iter().any(|option| option.starts_with("mode=")) {
        return Ok(None);
    }
    let found = tree::find(root, target)?.filter(|entry| !entry.is_file());
    Ok(found.map(|directory| format!("mode={:o}", directory.mode())))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Returns the options of an overlay of layers, base first: overlayfs wants the top one first.
fn merged(layers: &[PathBuf], host: &Host) -> Result<Vec<String>> {
    let mut options = owned(&OVERLAY);
    if host.mapping.is_some() {
        // In a user namespace overlayfs finds its marks under `user.` alone.
        options.push("userxattr".to_owned());
    }
    for layer in layers.iter().rev() {
        let path = layer.to_str().filter(|path| !path.contains(','));
        let path = path.with_context(|| {
            format!(
                "the store's path has a comma or is not UTF-8: `{}`",
                layer.display()
            )
        })?;
        options.push(format!("lowerdir+={path}"));
    }
    Ok(options)
}

/// Returns what is written down of a mount.
fn point(wanted: &Wanted, request: &Request) -> MountPoint {
    let idmap = match &wanted.content {
        Content::Bind(bind) => bind.idmap.clone(),
        _ => None,
    };
    let (kind, volume, source, propagation) = match &wanted.content {
        Content::Bind(bind) => ("bind", None, bind.source.clone(), bind.propagation),
        Content::Volume(volume) => {
            let source = store::volume_data(&request.volumes, &volume.name);
            ("volume", Some(volume.name.clone()), source, "")
        }
        Content::Tmpfs(_) => ("tmpfs", None, PathBuf::new(), ""),
        Content::Image(image) => ("image", None, image.name.as_str().into(), ""),
    };
    MountPoint {
        kind: kind.to_owned(),
        volume,
        source,
        target: wanted.target.clone(),
        mode: wanted.mode.clone(),
        read_only: wanted.read_only || kind == "image",
        propagation: propagation.to_owned(),
        idmap,
    }
}

/// Returns the sources that are missing and are to be made, and refuses what cannot be bound as it is to be.
///
/// Docker makes a directory of each that a `-v` names. Where the container has a file, that is certainly not what was meant.
fn missing(wanted: &[Wanted], root: BorrowedFd<'_>) -> Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for Wanted {
        target, content, ..
    } in wanted
    {
        let Content::Bind(bind) = content else {
            continue;
        };
        let source = &bind.source;
        match fs_err::metadata(source) {
            Ok(_) => {
                propagation::check(bind)?;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(
            bind.make,
            "bind source path does not exist: {}",
            source.display()
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Files;
    use crate::spec::Network;
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
        plan(
            &[],
            request,
            host,
            &User::default(),
            devices::default(),
            root.as_fd(),
        )
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
                let refused = format!("{:#}", planned(&request, &host()).unwrap_err());
                assert!(refused.ends_with(error), "{refused}");
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
