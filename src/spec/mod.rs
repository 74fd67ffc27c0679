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
mod mount_flag;
mod mounts;
mod namespaces;
mod own_mounts;
mod propagation;
mod request;
mod resolv;
mod rights;
mod seccomp;
mod security;
mod sysctls;
mod time_zone;
mod tmpfs;
mod tree;
mod ulimits;
mod user;
mod view;
mod volume_flag;
mod wanted;

pub(crate) use files::File;
pub(crate) use gather::images;
pub(crate) use given::Given;
pub(crate) use host::{Host, Mapping};
pub(crate) use mounts::VolumeUse;
pub(crate) use namespaces::{
    Donor, Ipc, Joined, Membership, Namespaces, Network, Pid, SHAREABLE_IPC,
};
pub(crate) use request::{
    DefaultEnvironment, Devices, Files, HostAddress, ImageDefaults, ImageVolumes, Io, Limits,
    NetworkNames, Request, Security,
};
pub(crate) use resolv::{HostServers, ask_responder};
pub(crate) use security::has_selinux;
pub(crate) use user::Unmapped;
pub(crate) use wanted::MountPoint;

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
use user::User;

/// The version of the runtime spec whose words are used (`rro` came with 1.1).
const VERSION: &str = "1.1.0";

/// Set here so that no container depends on who starts it.
const UMASK: u32 = 0o022;

/// The longest hostname of the kernel (sethostname(2)), in bytes.
const HOSTNAME_LIMIT: usize = 64;

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

/// Builds the spec of a container.
///
/// `root` is the image's merged tree: users and groups are looked up in it.
/// Makes the missing source directories of `-v`, last, when nothing else can be refused.
pub(crate) fn build(
    image: &ImageDefaults,
    request: &Request,
    host: &Host,
    root: BorrowedFd<'_>,
) -> Result<Built> {
    let user = find_user(image, request, host, root)?;
    let hostname = hostname(request, host)?;
    let domain_name = domain_name(request)?;
    let asked = devices::find(&request.devices, owner(request, host))?;
    let mut devices = if request.security.privileged {
        devices::of_host()?
    } else {
        devices::default()
    };
    devices::add(&mut devices, asked.nodes);
    let rights = Rights::choose(&request.security, host)?;
    let resources = resources(request, host, asked.rules)?;
    let sysctls = sysctls::build(&request.limits.sysctls, own(request, host))?;
    let shown = if request.namespaces.proc_of_host {
        Vec::new()
    } else {
        view::build(&resources, &read_if_there)?
    };
    let mut notes = rights.notes();
    let mut mounts = mounts::plan(&image.volumes, request, host, &user, devices, root)?;
    mounts.show(&shown, &request.directory);
    let document = Document {
        version: VERSION,
        root: json!({ "path": root_path(request), "readonly": request.files.read_only }),
        hostname: (!request.namespaces.uts_of_host).then_some(&hostname), // else the host's to set
        domain_name,
        annotations: annotations(request),
        process: process(image, request, host, &user, &hostname, &rights)?,
        mounts: &mounts.list,
        linux: linux(request, host, &mounts, (&resources, &sysctls), rights)?,
    };
    let ipv6 = host.ipv6 && !sysctls::disable_ipv6(&sysctls);
    let mut files = files::build(request, &hostname, ipv6)?;
    files.extend(shown.into_iter().map(|shown| shown.file));
    if !request.dry_run {
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
    request: &Request,
    host: &Host,
    mounts: &Mounts,
    (resources, sysctls): (&Map<String, Value>, &BTreeMap<String, String>),
    rights: Rights,
) -> Result<Linux> {
    let nodes: Vec<Value> = mounts.nodes.iter().map(Device::to_json).collect();
    let fields = json!({
        "namespaces": request.namespaces.list(),
        "cgroupsPath": cgroup_path(request, host),
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
fn root_path(request: &Request) -> &Path {
    request.root.as_deref().unwrap_or(Path::new("rootfs"))
}

/// Returns the user's annotations and our own; none if there are none.
fn annotations(request: &Request) -> Option<Value> {
    let mut annotations = json!(request.annotations);
    if request.namespaces.ipc == Ipc::Shareable {
        annotations[SHAREABLE_IPC] = "true".into();
    }
    let is_empty = annotations.as_object().is_some_and(Map::is_empty);
    (!is_empty).then_some(annotations)
}

fn find_user(
    image: &ImageDefaults,
    request: &Request,
    host: &Host,
    root: BorrowedFd<'_>,
) -> Result<User> {
    let asked = request.user.as_deref().filter(|user| !user.is_empty());
    let passwd = tree::read(root, Path::new("/etc/passwd"))?;
    let group = tree::read(root, Path::new("/etc/group"))?;
    let user = user::look_up(asked.unwrap_or(&image.user), &passwd, &group)?;
    let user = match host.mapping {
        Some(mapping) => user.fit(mapping)?,
        None => user,
    };
    user.with_groups(&request.groups, &group, host.mapping)
}

fn hostname(request: &Request, host: &Host) -> Result<String> {
    let asked = request.hostname.as_deref().filter(|name| !name.is_empty());
    let name = match (asked, &request.namespaces.network) {
        (Some(name), _) => name,
        (None, Network::Container(donor)) => donor.hostname.as_str(),
        (None, _) if request.namespaces.uts_of_host => host.hostname.as_str(),
        (None, Network::Host) => host.hostname.as_str(),
        (None, Network::Bridge | Network::Named(_) | Network::None) => request
            .id
            .get(..12)
            .context("the container's ID is too short")?,
    };
    check_name("hostname", name)?;
    Ok(name.to_owned())
}

/// The other container's, with its network.
fn domain_name(request: &Request) -> Result<Option<&str>> {
    let asked = request.domain_name.as_deref().filter(|it| !it.is_empty());
    let name = match (asked, &request.namespaces.network) {
        (None, Network::Container(donor)) => donor.domain_name.as_deref(),
        (asked, _) => asked,
    };
    check_name("domain name", name.unwrap_or_default())?;
    Ok(name.filter(|_| !request.namespaces.uts_of_host))
}

/// The kernel takes at most 64 bytes (sethostname(2), setdomainname(2)).
fn check_name(what: &str, name: &str) -> Result<()> {
    ensure!(
        name.len() <= HOSTNAME_LIMIT
            && !name.contains(|c: char| c.is_whitespace() || c.is_control()),
        "invalid {what} `{}`: at most {HOSTNAME_LIMIT} bytes without blanks",
        crate::human::printable(name)
    );
    Ok(())
}

fn process(
    image: &ImageDefaults,
    request: &Request,
    host: &Host,
    user: &User,
    hostname: &str,
    rights: &Rights,
) -> Result<Value> {
    let mut process = json!({
        "terminal": request.terminal,
        "user": { "uid": user.uid, "gid": user.gid, "umask": request.umask.unwrap_or(UMASK), "additionalGids": user.groups },
        "args": command::merge(image, request)?,
        "env": environment::build(image, request, hostname, &user.home, host)?,
        "cwd": working_directory(image, request)?,
        "capabilities": capabilities::sets(rights.capabilities.clone(), user.uid),
        // Not by default, as with Docker: su, sudo and ping of an image work.
        "noNewPrivileges": rights.no_new_privileges,
    });
    if let Some(profile) = &rights.profile {
        process["apparmorProfile"] = profile.as_str().into();
    }
    // What is not asked for is the caller's, so it is not named.
    let rlimits = ulimits::build(&request.limits.ulimits)?;
    if !rlimits.is_empty() {
        process["rlimits"] = rlimits.into();
    }
    if let Some(score) = request.limits.oom_score {
        ensure!(
            (-1000..=1000).contains(&score),
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        );
        process["oomScoreAdj"] = score.into();
    }
    Ok(process)
}

/// Returns the directory the command starts in.
fn working_directory(image: &ImageDefaults, request: &Request) -> Result<PathBuf> {
    let asked = request.working_directory.as_deref().unwrap_or_default();
    let text = match (asked, image.working_directory.as_str()) {
        ("", "") => "/",
        ("", default) => default,
        (asked, _) => asked,
    };
    ensure!(
        text.starts_with('/'),
        "the working directory '{text}' is invalid, it needs to be an absolute path"
    );
    Ok(tree::clean(Path::new(text)))
}

/// Only root owns the root of the hierarchy; a relative path leaves it to the runtime where the container's cgroup can be.
fn cgroup_path(request: &Request, host: &Host) -> PathBuf {
    let asked = request.limits.cgroup_parent.as_str();
    let parent = if asked.is_empty() { "ddock" } else { asked };
    // Like any path from a root, it does not lead out of that.
    let path = tree::clean(&Path::new("/").join(parent)).join(&request.id);
    match (host.mapping, path.strip_prefix("/")) {
        (Some(_), Ok(inside)) => inside.to_owned(),
        _ => path,
    }
}

fn owner(request: &Request, host: &Host) -> devices::Owner {
    devices::Owner {
        is_privileged: request.security.privileged,
        in_user_namespace: host.mapping.is_some(),
    }
}

fn own(request: &Request, host: &Host) -> sysctls::Own {
    sysctls::Own {
        network: request.namespaces.network.is_own(),
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
    request: &Request,
    host: &Host,
    device_rules: Vec<Value>,
) -> Result<Map<String, Value>> {
    let mut resources = limits::build(&request.limits, host.cpus)?;
    // Inside a user namespace the kernel itself keeps devices out: no node can be made there.
    if host.mapping.is_none() {
        let rules = devices::cgroup_rules(request.security.privileged, device_rules);
        resources.insert("devices".into(), Value::Array(rules));
    }
    Ok(resources)
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
