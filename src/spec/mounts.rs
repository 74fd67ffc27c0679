//! Everything that is mounted in a container besides its root, in the order in which it is mounted.

use crate::options::{Below, Content, IdMaps, ImageMount, Propagation};
use crate::spec::devices::Device;
use crate::spec::gather::Wanted;
use crate::spec::given::Given;
use crate::spec::host::Host;
use crate::spec::own_mounts::{device, etc_file, file_systems};
use crate::spec::point::MountPoint;
use crate::spec::subject::Subject;
use crate::spec::user::User;
use crate::spec::view::Shown;
use crate::spec::{files, gather, given, idmap, propagation, time_zone, tmpfs, tree};
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
    subject: &Subject,
    host: &Host,
    user: &User,
    mut devices: Vec<Device>,
    root: BorrowedFd<'_>,
) -> Result<Mounts> {
    let mut wanted = gather::all(image_volumes, subject)?;
    tmpfs::find_covered(&mut wanted, &subject.mounted, root)?;
    let missing = missing(&wanted, root)?;
    let root_propagation = root_propagation(&wanted);
    let volumes = volumes(&wanted, &subject.mounted, root)?;
    let given = given::plan(&wanted, subject, user)?;
    let points = wanted.iter().map(|it| point(it, subject)).collect();
    let wanted: Vec<Mount> = wanted
        .into_iter()
        .map(|wanted| mount(wanted, subject, host))
        .collect::<Result<_>>()?;

    // What the user mounts from the host, `/dev` itself or a part, must not be added to.
    let hosts = |path: &Path| {
        let mut binds = wanted.iter().filter(|mount| mount.kind == "bind");
        binds.any(|bind| path.starts_with(&bind.destination))
    };
    devices.retain(|device| !hosts(&device.path));
    let mut list = file_systems(subject, host);
    list.retain(|mount| !(mount.destination.starts_with("/dev") && hosts(&mount.destination)));
    list.extend(files::NAMES.map(|name| etc_file(name, subject)));
    if let Some(zone) = &subject.options.time_zone {
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
fn volumes(
    wanted: &[Wanted],
    mounted: &[MountPoint],
    root: BorrowedFd<'_>,
) -> Result<Vec<VolumeUse>> {
    let mut uses = Vec::new();
    for Wanted {
        options,
        volume: name,
        ..
    } in wanted
    {
        let target = &options.target;
        let (Content::Volume(volume), Some(name)) = (&options.content, name) else {
            continue;
        };
        let found = tree::find(root, target)?;
        ensure!(
            !found.as_ref().is_some_and(tree::Entry::is_file),
            "cannot mount a volume on `{}`: a volume is a directory, and that is a file in the image",
            target.display()
        );
        // Once, when the container starts for the first time.
        let is_new = mounted.iter().all(|point| point.target != *target);
        let content = found.filter(|_| is_new && volume.copy && volume.subpath.is_none());
        uses.push(VolumeUse {
            claim: Claim {
                name: name.clone(),
                anonymous: volume.name.is_none(),
                labels: volume.labels.clone(),
            },
            content: content.map(tree::Entry::into_descriptor),
        });
    }
    Ok(uses)
}

/// Returns how far mounts have to spread for all binds to get what they ask for.
fn root_propagation(wanted: &[Wanted]) -> &'static str {
    let asked = |is_such: fn(Propagation) -> bool| {
        let mut wanted = wanted.iter();
        wanted.any(|wanted| match &wanted.options.content {
            Content::Bind(bind) => is_such(bind.propagation),
            _ => false,
        })
    };
    if asked(Propagation::is_shared) {
        "shared"
    } else if asked(Propagation::is_slave) {
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
fn mount(wanted: Wanted, subject: &Subject, host: &Host) -> Result<Mount> {
    let Wanted {
        options: wanted,
        volume: name,
        covered,
    } = wanted;
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
            let mut options = [vec![word, bind.propagation.word()], write(bind.below)].concat();
            let maps = bind.idmap.map(|it| idmap::maps(&it, &bind.source, host));
            if let Some(maps) = maps.transpose()?.flatten() {
                options.push(idmap);
                ids = maps;
            }
            ("bind", bind.source, owned(&options), None)
        }
        Content::Volume(volume) => {
            let options = [vec!["rbind", "rprivate"], write(Below::Alike)].concat();
            let name = name.context("a volume has a name by now")?;
            let source = store::volume_data(&subject.volumes, &name);
            ("bind", source, owned(&options), volume.subpath)
        }
        Content::Tmpfs(mut options) => {
            tmpfs::refuse_unmapped(&options, host)?;
            options.extend(tmpfs::mode(&options, covered));
            ("tmpfs", "tmpfs".into(), options, None)
        }
        Content::Image(ImageMount { name, subpath }) => {
            let layers = subject.images.get(&name);
            let layers = layers.with_context(|| format!("the image `{name}` is not there"))?;
            let (kind, source, options) = image(layers, host)?;
            (kind, source, options, subpath)
        }
    };
    options.extend(wanted.flags);
    options.extend(subpath.map(|path| format!("subpath={}", path.display())));
    Ok(Mount {
        destination: wanted.target,
        kind,
        source,
        options,
        ids,
    })
}

/// Returns the type, source and options of the mount of an image with these layers.
fn image(layers: &[PathBuf], host: &Host) -> Result<(&'static str, PathBuf, Vec<String>)> {
    Ok(match layers {
        [] => ("tmpfs", "tmpfs".into(), owned(&["ro", "mode=755"])),
        // Overlayfs merges two or more.
        [layer] => ("bind", layer.clone(), owned(&["bind", "rprivate", "ro"])),
        layers => ("overlay", "overlay".into(), merged(layers, host)?),
    })
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
fn point(wanted: &Wanted, subject: &Subject) -> MountPoint {
    let options = &wanted.options;
    let mut idmap = None;
    let (kind, source, propagation) = match &options.content {
        Content::Bind(bind) => {
            idmap.clone_from(&bind.idmap);
            ("bind", bind.source.clone(), bind.propagation.word())
        }
        Content::Volume(_) => {
            let source = wanted.volume.as_ref();
            let source = source.map(|name| store::volume_data(&subject.volumes, name));
            ("volume", source.unwrap_or_default(), "")
        }
        Content::Tmpfs(_) => ("tmpfs", PathBuf::new(), ""),
        Content::Image(image) => ("image", image.name.as_str().into(), ""),
    };
    MountPoint {
        kind: kind.to_owned(),
        volume: wanted.volume.clone(),
        source,
        target: options.target.clone(),
        mode: options.mode.clone(),
        read_only: options.read_only || kind == "image",
        propagation: propagation.to_owned(),
        idmap,
        covered: wanted.covered,
    }
}

/// Returns the sources that are missing and are to be made, and refuses what cannot be bound as it is to be.
///
/// Docker makes a directory of each that a `-v` names. Where the container has a file, that is certainly not what was meant.
fn missing(wanted: &[Wanted], root: BorrowedFd<'_>) -> Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for Wanted { options, .. } in wanted {
        let target = &options.target;
        let Content::Bind(bind) = &options.content else {
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
    use crate::options::{ContainerOptions, Files, Network, parse_tmpfs, parse_volume};
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

    fn subject(volumes: &[&str], tmpfs: &[&str]) -> Subject {
        let volumes = volumes.iter().map(|text| parse_volume(text).unwrap());
        let tmpfs = tmpfs.iter().map(|text| parse_tmpfs(text).unwrap());
        let files = Files {
            mounts: volumes.chain(tmpfs).collect(),
            ..Files::default()
        };
        Subject {
            directory: "/c".into(),
            options: ContainerOptions {
                files,
                ..ContainerOptions::default()
            },
            ..Subject::default()
        }
    }

    fn planned(subject: &Subject, host: &Host) -> Result<Mounts> {
        let (_dir, root) = tree();
        plan(
            &[],
            subject,
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
        let mounts = planned(&subject(&[], &[]), &host()).unwrap();
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
            &subject(&["/tmp:/a/b/c", "/tmp:/a", "/tmp:/sys"], &["/a/b"]),
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
            let mounts = planned(&subject(&[volume], &[]), &host()).unwrap();
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
        let mounts = planned(&subject(&volumes, &["/dev/mqueue:size=1m"]), &host()).unwrap();
        assert_eq!(options_of(&mounts, "/etc/hosts"), "rbind,rprivate,rw");
        assert_eq!(
            options_of(&mounts, "/dev/mqueue"),
            "rw,noexec,nosuid,nodev,size=1m"
        );
        assert_eq!(mounts.list.len(), 11);
        assert_eq!(mounts.nodes.len(), 5);

        let mounts = planned(&subject(&["/dev:/dev"], &[]), &host()).unwrap();
        assert!(mounts.nodes.is_empty());
        let in_dev = |mount: &&Mount| mount.destination.starts_with("/dev");
        assert_eq!(mounts.list.iter().filter(in_dev).count(), 1);
    }

    #[test]
    fn a_read_only_root_has_read_only_files_and_writable_tmpfs() {
        let mut subject = subject(&[], &["/run"]);
        subject.options.files.read_only = true;
        let mounts = planned(&subject, &host()).unwrap();
        assert_eq!(options_of(&mounts, "/etc/hosts"), "rbind,rprivate,ro");
        assert_eq!(options_of(&mounts, "/run"), "rw,noexec,nosuid,nodev");
    }

    #[test]
    fn privileged_containers_write_to_sys() {
        let mut subject = subject(&[], &[]);
        subject.options.security.privileged = true;
        let mounts = planned(&subject, &host()).unwrap();
        assert_eq!(options_of(&mounts, "/sys"), "nosuid,noexec,nodev");
        assert_eq!(options_of(&mounts, "/sys/fs/cgroup"), "nosuid,noexec,nodev");
    }

    #[test]
    fn ordinary_users_get_what_their_namespace_can_have() {
        let user = |mapping| Host {
            mapping: Some(mapping),
            ..host()
        };
        let mut subject = subject(&[], &[]);
        let mounts = planned(&subject, &user(SINGLE)).unwrap();
        assert!(mounts.nodes.is_empty());
        assert_eq!(
            options_of(&mounts, "/dev/null"),
            "rbind,rprivate,nosuid,noexec"
        );
        assert!(!options_of(&mounts, "/dev/pts").contains("gid="));
        assert_eq!(options_of(&mounts, "/sys"), "nosuid,noexec,nodev,ro");

        subject.options.namespaces.network = Network::Host;
        let mounts = planned(&subject, &user(RANGES)).unwrap();
        assert!(options_of(&mounts, "/dev/pts").contains("gid=5"));
        let sys = "/sys bind /sys rbind,rprivate,rro,nosuid,noexec,nodev,ro";
        assert!(lines(&mounts).iter().any(|line| line == sys));
    }

    #[test]
    fn a_directory_that_is_not_utf8_is_refused_not_panicked_over() {
        let mut subject = subject(&["./a:/t"], &[]);
        let directory = Path::new(OsStr::from_bytes(b"/tmp/\xff"));
        subject.options.files.settle(Some(directory)).unwrap();
        let error = planned(&subject, &host()).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }

    #[test]
    fn a_missing_source_is_to_be_made_unless_a_file_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a/b");
        let text = source.display();
        let volumes = [format!("{text}:/new"), format!("{text}:/etc")];
        let mounts = planned(
            &subject(&volumes.each_ref().map(String::as_str), &[]),
            &host(),
        );
        assert_eq!(mounts.unwrap().missing, std::slice::from_ref(&source));
        assert!(!source.exists(), "planning does nothing");

        for target in ["/etc/passwd", "/link", "/etc/hosts"] {
            let error =
                planned(&subject(&[&format!("{text}:{target}")], &[]), &host()).unwrap_err();
            let expected = format!(
                "bind source path does not exist: `{text}`; it is not made for you, because `{target}` is a file in the container"
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}
