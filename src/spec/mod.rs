//! What to run: an image's config and the user's flags, as an OCI runtime spec.

mod capabilities;
mod command;
mod devices;
mod disks;
mod environment;
mod files;
mod gather;
mod given;
mod hiding;
mod host;
mod idmap;
mod limits;
mod mounts;
mod namespaces;
mod own_mounts;
mod point;
mod propagation;
mod resolv;
mod rights;
mod seccomp;
mod security;
mod settled;
mod subject;
mod sysctls;
mod time_zone;
mod tmpfs;
mod tree;
mod ulimits;
mod user;
mod view;
mod visitor;

pub(crate) use command::merge as arguments;
pub(crate) use files::File;
pub(crate) use given::Given;
pub(crate) use host::{Host, Mapping};
pub(crate) use mounts::VolumeUse;
pub(crate) use namespaces::{Donor, Donors, SHAREABLE_IPC};
pub(crate) use point::MountPoint;
pub(crate) use resolv::{HostServers, ask_responder};
pub(crate) use security::has_selinux;
pub(crate) use settled::Settled;
pub(crate) use subject::{ImageDefaults, Subject};
pub(crate) use user::{Unmapped, User};
pub(crate) use visitor::{environment as environment_of_visitor, find_user as find_visitor};

use crate::options::{ContainerOptions, Ipc, Network, UserName, check_name, clean};
use crate::sys::file;
use anyhow::{Context, Result, bail, ensure};
use devices::Device;
use mounts::Mounts;
use rights::Rights;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// The version of the runtime spec whose words are used (`rro` came with 1.1).
const VERSION: &str = "1.1.0";

/// Set here so that no container depends on who starts it.
const UMASK: u32 = 0o022;

/// A container as it is to be run.
#[derive(Debug)]
pub(crate) struct Built {
    /// The OCI spec, as the text of `config.json`. Its root is `rootfs` in the container's directory; its cgroup `ddock/<id>`, from the root of the hierarchy if the path is absolute.
    pub(crate) config: String,
    /// To be written into the container's directory before it starts.
    pub(crate) files: Vec<File>,
    /// To be there before it starts.
    pub(crate) volumes: Vec<VolumeUse>,
    /// To be handed over before it starts, volumes too.
    pub(crate) given: Vec<Given>,
    /// What the container is called in its networks: with its domain, if it has one.
    pub(crate) full_name: String,
    /// What is mounted because somebody asked for it.
    pub(crate) mount_points: Vec<MountPoint>,
    /// What the user should know, for stderr.
    pub(crate) notes: Vec<String>,
}

/// Builds the spec of a container, of which all is `settled` that needs no image.
///
/// `root` is the image's merged tree: users and groups are looked up in it.
/// Makes the missing source directories of `-v`, last, when nothing else can be refused.
pub(crate) fn build(
    image: &ImageDefaults,
    subject: &Subject,
    settled: Settled,
    host: &Host,
    root: BorrowedFd<'_>,
) -> Result<Built> {
    let options = &subject.options;
    let Settled {
        rights,
        limits,
        devices: asked,
    } = settled;
    let user = find_user(image, options, host, root)?;
    let hostname = hostname(subject, host)?;
    let domain_name = domain_name(subject)?;
    let mut devices = if options.security.privileged {
        devices::of_host()?
    } else {
        devices::default()
    };
    devices::add(&mut devices, asked.nodes);
    let resources = resources(options, host, limits, asked.rules);
    let sysctls = sysctls::build(&options.limits.sysctls, own(options, host));
    let shown = if options.namespaces.proc_of_host {
        Vec::new()
    } else {
        view::build(&resources, &read_if_there)?
    };
    let mut notes = rights.notes();
    let mut mounts = mounts::plan(&image.volumes, subject, host, &user, devices, root)?;
    mounts.show(&shown, &subject.directory);
    let document = Document {
        version: VERSION,
        root: json!({ "path": root_path(subject), "readonly": options.files.read_only }),
        hostname: (!options.namespaces.uts_of_host).then_some(&hostname), // else the host's to set
        domain_name,
        annotations: annotations(options),
        process: process(image, options, host, &user, &hostname, &rights)?,
        mounts: &mounts.list,
        linux: linux(subject, host, &mounts, (&resources, &sysctls), rights)?,
    };
    let ipv6 = host.ipv6 && !sysctls::disable_ipv6(&sysctls);
    let mut files = files::build(subject, &hostname, ipv6)?;
    files.extend(shown.into_iter().map(|shown| shown.file));
    if !subject.dry_run {
        notes.extend(make_directories(&mounts.missing)?);
    }
    Ok(Built {
        full_name: match domain_name {
            Some(domain) => format!("{hostname}.{domain}"),
            None => hostname.clone(),
        },
        config: serde_json::to_string_pretty(&document).context("writing the OCI spec")?,
        files,
        volumes: mounts.volumes,
        given: mounts.given,
        mount_points: mounts.points,
        notes,
    })
}

/// `config.json`
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "ociVersion")]
    version: &'static str,
    root: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a String>,
    #[serde(rename = "domainname", skip_serializing_if = "Option::is_none")]
    domain_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Value>,
    process: Value,
    mounts: &'a [mounts::Mount],
    linux: Linux,
}

#[derive(Serialize)]
struct Linux {
    #[serde(flatten)]
    fields: Value,
    /// A text of its own: it is long, and the same for most containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp: Option<Box<RawValue>>,
}

/// Returns the spec's `linux`.
fn linux(
    subject: &Subject,
    host: &Host,
    mounts: &Mounts,
    (resources, sysctls): (&Map<String, Value>, &BTreeMap<String, String>),
    rights: Rights,
) -> Result<Linux> {
    let options = &subject.options;
    let nodes: Vec<Value> = mounts.nodes.iter().map(Device::to_json).collect();
    let fields = json!({
        "namespaces": namespaces::list(&options.namespaces, &subject.donors),
        "cgroupsPath": cgroup_path(subject, host),
        "resources": resources,
        "sysctl": sysctls,
        "devices": nodes,
        "rootfsPropagation": mounts.root_propagation,
        "maskedPaths": if rights.hides_paths { hiding::masked()? } else { Vec::new() },
        "readonlyPaths": if rights.hides_paths { &hiding::READ_ONLY[..] } else { &[] },
    });
    Ok(Linux {
        fields,
        seccomp: rights.filter,
    })
}

/// Returns the host's directory, or where other runtimes find the root in a bundle.
fn root_path(subject: &Subject) -> &Path {
    subject.root.as_deref().unwrap_or(Path::new("rootfs"))
}

/// Returns the user's annotations and our own; none if there are none.
fn annotations(options: &ContainerOptions) -> Option<Value> {
    let mut annotations = json!(options.annotations);
    if options.namespaces.ipc == Ipc::Shareable {
        annotations[SHAREABLE_IPC] = "true".into();
    }
    let is_empty = annotations.as_object().is_some_and(Map::is_empty);
    (!is_empty).then_some(annotations)
}

fn find_user(
    image: &ImageDefaults,
    options: &ContainerOptions,
    host: &Host,
    root: BorrowedFd<'_>,
) -> Result<User> {
    let asked = options.user.as_ref().map(UserName::as_str);
    let asked = asked.filter(|user| !user.is_empty());
    let passwd = tree::read(root, Path::new("/etc/passwd"))?;
    let group = tree::read(root, Path::new("/etc/group"))?;
    let user = user::look_up(asked.unwrap_or(&image.user), &passwd, &group)?;
    let user = match host.mapping {
        Some(mapping) => user.fit(mapping)?,
        None => user,
    };
    user.with_groups(&options.groups, &group, host.mapping)
}

fn hostname(subject: &Subject, host: &Host) -> Result<String> {
    let options = &subject.options;
    let asked = options.hostname.as_deref().filter(|name| !name.is_empty());
    let donor = subject.donors.network.as_ref();
    let name = match (asked, &options.namespaces.network) {
        (Some(name), _) => name,
        (None, Network::Container(_)) => donor.map_or("", |donor| &donor.hostname),
        (None, _) if options.namespaces.uts_of_host => host.hostname.as_str(),
        (None, Network::Host) => host.hostname.as_str(),
        (None, Network::Bridge | Network::Named(_) | Network::None) => subject
            .id
            .get(..12)
            .context("the container's ID is too short")?,
    };
    check_name("hostname", Some(name))?;
    Ok(name.to_owned())
}

/// The other container's, with its network.
fn domain_name(subject: &Subject) -> Result<Option<&str>> {
    let options = &subject.options;
    let asked = options.domain_name.as_deref().filter(|it| !it.is_empty());
    // None but one that joins another's network has a donor of that.
    let donor = subject.donors.network.as_ref();
    let name = asked.or(donor.and_then(|donor| donor.domain_name.as_deref()));
    check_name("domain name", name)?;
    Ok(name.filter(|_| !options.namespaces.uts_of_host))
}

fn process(
    image: &ImageDefaults,
    options: &ContainerOptions,
    host: &Host,
    user: &User,
    hostname: &str,
    rights: &Rights,
) -> Result<Value> {
    let mut process = json!({
        "terminal": options.terminal,
        "user": { "uid": user.uid, "gid": user.gid, "umask": options.umask.unwrap_or(UMASK), "additionalGids": user.groups },
        "args": command::merge(image, options)?,
        "env": environment::build(image, options, hostname, &user.home),
        "cwd": working_directory(image, options)?,
        "capabilities": capabilities::sets(rights.capabilities.clone(), user.uid),
        // Not by default, as with Docker: su, sudo and ping of an image work.
        "noNewPrivileges": rights.no_new_privileges,
    });
    if let Some(profile) = rights.profile(host) {
        process["apparmorProfile"] = profile.into();
    }
    // What is not asked for is the caller's, so it is not named.
    let rlimits = ulimits::build(&options.limits.ulimits);
    if !rlimits.is_empty() {
        process["rlimits"] = rlimits.into();
    }
    if let Some(score) = options.limits.oom_score {
        process["oomScoreAdj"] = score.into();
    }
    Ok(process)
}

/// Returns the directory the command starts in.
fn working_directory(image: &ImageDefaults, options: &ContainerOptions) -> Result<PathBuf> {
    let asked = options.working_directory.as_deref().unwrap_or_default();
    let text = match (asked, image.working_directory.as_str()) {
        ("", "") => "/",
        ("", default) => default,
        (asked, _) => asked,
    };
    ensure!(
        text.starts_with('/'),
        "the working directory '{text}' is invalid, it needs to be an absolute path"
    );
    Ok(clean(Path::new(text)))
}

/// Only root owns the root of the hierarchy; a relative path leaves it to the runtime where the container's cgroup can be.
fn cgroup_path(subject: &Subject, host: &Host) -> PathBuf {
    let asked = subject.options.limits.cgroup_parent.as_str();
    let parent = if asked.is_empty() { "ddock" } else { asked };
    // Like any path from a root, it does not lead out of that.
    let path = clean(&Path::new("/").join(parent)).join(&subject.id);
    match (host.mapping, path.strip_prefix("/")) {
        (Some(_), Ok(inside)) => inside.to_owned(),
        _ => path,
    }
}

fn own(options: &ContainerOptions, host: &Host) -> sysctls::Own {
    sysctls::Own {
        network: options.namespaces.network.is_own(),
        users: host.mapping.is_some(),
    }
}

/// Reads a file of the machine.
fn read_if_there(path: &str) -> Result<Option<String>> {
    match file::read_to_string(Path::new(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn resources(
    options: &ContainerOptions,
    host: &Host,
    limits: Map<String, Value>,
    device_rules: Vec<Value>,
) -> Map<String, Value> {
    let mut resources = limits;
    // Inside a user namespace the kernel itself keeps devices out: no node can be made there.
    if host.mapping.is_none() {
        let rules = devices::cgroup_rules(options.security.privileged, device_rules);
        resources.insert("devices".into(), Value::Array(rules));
    }
    resources
}

/// Makes the sources that are missing, and returns a note about each.
fn make_directories(missing: &[PathBuf]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for path in missing {
        if let Err(error) = fs_err::create_dir_all(path) {
            bail!(
                "bind source path does not exist: `{}`, and cannot be made: {error}",
                path.display()
            );
        }
        notes.push(format!(
            "`{}` did not exist: an empty directory was made there",
            path.display()
        ));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests;
