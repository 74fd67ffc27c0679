//! What to run: an image's config and the user's flags, as an OCI runtime spec.

mod binds;
mod capabilities;
mod command;
mod devices;
mod environment;
mod files;
mod hiding;
mod host;
mod limits;
mod mounts;
mod namespaces;
mod request;
mod tmpfs;
mod tree;
mod user;
mod view;

pub(crate) use files::File;
pub(crate) use host::{Host, Mapping};
pub(crate) use namespaces::{Donor, Ipc, Joined, Namespaces, Network, Pid, SHAREABLE_IPC};
pub(crate) use request::{DefaultEnvironment, Files, ImageDefaults, Limits, Request, Security};

use anyhow::{Context, Result, bail, ensure};
use devices::Device;
use oci_spec::runtime::Spec;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
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
    /// Its root is `rootfs` in the container's directory; its cgroup `ddock/<id>`, from the root of the hierarchy if the path is absolute.
    pub(crate) spec: Spec,
    /// The same as the text of `config.json`.
    pub(crate) config: String,
    /// To be written into the container's directory before it starts.
    pub(crate) files: Vec<File>,
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
    let devices = if request.security.privileged {
        devices::of_host()?
    } else {
        devices::default()
    };
    let resources = resources(request, host)?;
    let shown = if request.namespaces.proc_of_host {
        Vec::new()
    } else {
        view::build(&resources, &read_if_there)?
    };
    let mut mounts = mounts::plan(request, host, devices, root)?;
    mounts.show(&shown, &request.directory);
    let nodes: Vec<Value> = mounts.nodes.iter().map(Device::to_json).collect();
    let mut document = json!({
        "ociVersion": VERSION,
        "root": { "path": "rootfs", "readonly": request.files.read_only },
        "hostname": hostname,
        "domainname": domain_name(request)?,
        "process": process(image, request, host, &user, &hostname)?,
        "mounts": mounts.list,
        "linux": {
            "namespaces": request.namespaces.list(),
            "cgroupsPath": cgroup_path(request, host),
            "resources": resources,
            "devices": nodes,
            "rootfsPropagation": mounts.root_propagation,
            "maskedPaths": if request.security.privileged { Vec::new() } else { hiding::masked()? },
            "readonlyPaths": if request.security.privileged { &[][..] } else { &hiding::READ_ONLY },
        },
    });
    if request.namespaces.uts_of_host {
        // The names are the host's to set.
        document["hostname"].take();
    }
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    if request.namespaces.ipc == Ipc::Shareable {
        document["annotations"] = json!({ SHAREABLE_IPC: "true" });
    }
    // From JSON, not from the crate's builders: those fill what is left out with opinions of their own.
    let spec = Spec::deserialize(&document).context("building the OCI spec")?;
    let mut files = files::build(&request.namespaces.network, &hostname, host.ipv6)?;
    files.extend(shown.into_iter().map(|shown| shown.file));
    Ok(Built {
        spec,
        // The document's text rather than the spec's: that has its sets in hash maps, in another order each time.
        config: serde_json::to_string_pretty(&document).context("writing the OCI spec")?,
        files,
        notes: if request.dry_run {
            Vec::new()
        } else {
            make_directories(&mounts.missing)?
        },
    })
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
        (None, Network::Private) => request
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
) -> Result<Value> {
    let security = &request.security;
    let (added, dropped) = (&security.capabilities_added, &security.capabilities_dropped);
    let capabilities = if security.privileged {
        capabilities::all(host.capabilities)
    } else {
        capabilities::choose(added, dropped, host.capabilities)?
    };
    Ok(json!({
        "terminal": request.terminal,
        "user": { "uid": user.uid, "gid": user.gid, "umask": request.umask.unwrap_or(UMASK), "additionalGids": user.groups },
        "args": command::merge(image, request)?,
        "env": environment::build(image, request, hostname, &user.home, host)?,
        "cwd": working_directory(image, request)?,
        "capabilities": capabilities::sets(capabilities, user.uid),
        // Docker's default: su, sudo and ping of an image work.
        "noNewPrivileges": false,
    }))
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
fn cgroup_path(request: &Request, host: &Host) -> String {
    let start = if host.mapping.is_none() { "/" } else { "" };
    format!("{start}ddock/{}", request.id)
}

/// Reads a file of the machine.
fn read_if_there(path: &str) -> Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn resources(request: &Request, host: &Host) -> Result<Map<String, Value>> {
    let mut resources = limits::build(&request.limits, host.cpus)?;
    // Inside a user namespace the kernel itself keeps devices out: no node can be made there.
    if host.mapping.is_none() {
        let rules = devices::cgroup_rules(request.security.privileged);
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
