//! The plan of a container: its OCI spec, parsed once, with nothing optional left.

use crate::runtime::idmap::Idmap;
use crate::runtime::join::{Elsewhere, Namespace};
use crate::runtime::options::Options;
use crate::runtime::seccomp::Filter;
use anyhow::{Context, Result, bail, ensure};
use nix::sched::CloneFlags;
use oci_spec::runtime::{
    Capabilities, Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, LinuxResources,
    PosixRlimitType, Process, Spec,
};
use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;
use std::ffi::CString;
use std::path::PathBuf;

/// Everything the runtime does, decided.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The namespaces to make; those neither named here nor joined stay the caller's.
    pub(crate) namespaces: CloneFlags,
    /// The namespaces of other containers to join.
    pub(crate) joined: Vec<Namespace>,
    pub(crate) hostname: String,
    pub(crate) domain_name: Option<String>,
    pub(crate) read_only_root: bool,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) masked: Vec<String>,
    pub(crate) read_only: Vec<String>,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) process: Command,
    /// From the root of the hierarchy, or of what this user was handed of it; the last name is the container's ID.
    pub(crate) cgroups_path: PathBuf,
    /// The system calls that the command may make; all, if none.
    pub(crate) seccomp: Option<Filter>,
    pub(crate) resources: LinuxResources,
}

/// A mount inside the container, in the order in which they are made.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) target: PathBuf,
    /// `proc`, `tmpfs` …; for a bind whatever the spec says.
    pub(crate) kind: String,
    pub(crate) source: PathBuf,
    /// Where the source is, if it is in another container.
    pub(crate) elsewhere: Option<Elsewhere>,
    pub(crate) options: Options,
    /// Whose the files are, if not who they belong to on the disk.
    pub(crate) idmap: Option<Idmap>,
}

/// A device node under `/dev`.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    pub(crate) device: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The command, and as whom it runs.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) capabilities: CapabilityPlan,
    pub(crate) no_new_privileges: bool,
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    pub(crate) oom_score: Option<i32>,
    /// Whether PID 1 is an init of ours, and the command its child: not in the spec, which knows none.
    pub(crate) has_init: bool,
    /// Rows and columns of the terminal, if there is one.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// The five sets of capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilityPlan {
    pub(crate) bounding: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) inheritable: CapabilitySet,
    pub(crate) ambient: CapabilitySet,
}

impl Plan {
    /// Interprets `spec`; what is asked for and not implemented is refused, never dropped.
    pub(crate) fn from_spec(spec: &Spec) -> Result<Self> {
        let root = spec.root().as_ref().context("the spec has no root")?;
        let process = spec.process().as_ref().context("the spec has no process")?;
        let linux = spec.linux().as_ref().context("the spec is not for Linux")?;
        refuse_unimplemented(spec, process, linux)?;
        let (namespaces, joined) = namespaces(linux)?;
        Ok(Self {
            namespaces,
            joined,
            hostname: spec.hostname().clone().unwrap_or_default(),
            domain_name: spec.domainname().clone(),
            read_only_root: root.readonly().unwrap_or(false),
            mounts: mounts(spec)?,
            nodes: linux
                .devices()
                .iter()
                .flatten()
                .map(node)
                .collect::<Result<_>>()?,
            masked: linux.masked_paths().clone().unwrap_or_default(),
            read_only: linux.readonly_paths().clone().unwrap_or_default(),
            sysctls: sysctls(linux),
            process: command(process)?,
            cgroups_path: linux
                .cgroups_path()
                .clone()
                .context("the spec has no cgroup")?,
            seccomp: linux.seccomp().as_ref().map(Filter::compile).transpose()?,
            resources: linux
                .resources()
                .clone()
                .context("the spec has no resources")?,
        })
    }
}

fn refuse_unimplemented(spec: &Spec, process: &Process, linux: &Linux) -> Result<()> {
    let asked = [
        ("hooks", spec.hooks().is_some()),
        (
            "uidMappings",
            linux
                .uid_mappings()
                .as_ref()
                .is_some_and(|maps| !maps.is_empty()),
        ),
        (
            "gidMappings",
            linux
                .gid_mappings()
                .as_ref()
                .is_some_and(|maps| !maps.is_empty()),
        ),
        (
            "timeOffsets",
            linux
                .time_offsets()
                .as_ref()
                .is_some_and(|offsets| !offsets.is_empty()),
        ),
        ("personality", linux.personality().is_some()),
        ("intelRdt", linux.intel_rdt().is_some()),
        ("mountLabel", linux.mount_label().is_some()),
        ("apparmorProfile", process.apparmor_profile().is_some()),
        ("selinuxLabel", process.selinux_label().is_some()),
        ("ioPriority", process.io_priority().is_some()),
        ("scheduler", process.scheduler().is_some()),
    ];
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        Some((field, _)) => bail!("the spec asks for `{field}`, which is not there yet"),
        None => Ok(()),
    }
}

/// Returns the namespaces to make, and those to join, opened.
fn namespaces(linux: &Linux) -> Result<(CloneFlags, Vec<Namespace>)> {
    let mut flags = CloneFlags::empty();
    let mut joined = Vec::new();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            other => bail!("a namespace of type `{other:?}` is not there yet"),
        };
        match namespace.path() {
            Some(path) => joined.push(Namespace::open(kind, path)?),
            None => flags |= kind,
        }
    }
    // Without its own mount namespace every mount of ours would be the host's.
    ensure!(
        flags.contains(CloneFlags::CLONE_NEWNS),
        "a container needs a mount namespace"
    );
    Ok((flags, joined))
}

fn mounts(spec: &Spec) -> Result<Vec<Mount>> {
    let mounts = spec.mounts().iter().flatten();
    mounts
        .map(|mount| {
            let words = mount.options().iter().flatten().map(String::as_str);
            ensure!(
                mount.destination().is_absolute(),
                "the mount target `{}` is not absolute",
                mount.destination().display()
            );
            let source = mount.source().clone().unwrap_or_default();
            let options = Options::parse(words);
            Ok(Mount {
                target: mount.destination().clone(),
                kind: mount.typ().clone().unwrap_or_default(),
                elsewhere: Elsewhere::find(&source)?,
                source,
                idmap: Idmap::of(mount, &options)?,
                options,
            })
        })
        .collect()
}

fn node(device: &LinuxDevice) -> Result<Node> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => bail!("`{}` has no device type", device.path().display()),
    };
    let number = |number: i64| u32::try_from(number).context("a device number is out of range");
    Ok(Node {
        path: device.path().clone(),
        kind,
        device: rustix::fs::makedev(number(device.major())?, number(device.minor())?),
        mode: device.file_mode().unwrap_or(0o666),
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// In the order of their names: the spec keeps them in a hash map.
fn sysctls(linux: &Linux) -> Vec<(String, String)> {
    let mut sysctls: Vec<_> = linux
        .sysctl()
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    sysctls.sort();
    sysctls
}

fn command(process: &Process) -> Result<Command> {
    let user = process.user();
    let text = |text: &String| {
        CString::new(text.as_str()).context("a NUL in an argument or the environment")
    };
    let texts =
        |texts: &Option<Vec<String>>| texts.iter().flatten().map(text).collect::<Result<Vec<_>>>();
    let arguments = texts(process.args())?;
    ensure!(!arguments.is_empty(), "no command specified");
    let size = process.console_size().map(|size| {
        let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
        (cells(size.height()), cells(size.width()))
    });
    Ok(Command {
        arguments,
        environment: texts(process.env())?,
        directory: process.cwd().clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        capabilities: capabilities(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits: limits(process),
        oom_score: process.oom_score_adj(),
        has_init: false,
        terminal: process
            .terminal()
            .unwrap_or(false)
            .then(|| size.unwrap_or((0, 0))),
    })
}

fn capabilities(process: &Process) -> Result<CapabilityPlan> {
    let sets = process
        .capabilities()
        .as_ref()
        .context("the spec has no capabilities")?;
    Ok(CapabilityPlan {
        bounding: capability_set(sets.bounding().as_ref()),
        effective: capability_set(sets.effective().as_ref()),
        permitted: capability_set(sets.permitted().as_ref()),
        inheritable: capability_set(sets.inheritable().as_ref()),
        ambient: capability_set(sets.ambient().as_ref()),
    })
}

fn capability_set(names: Option<&Capabilities>) -> CapabilitySet {
    let names = names.into_iter().flatten();
    names
        .filter_map(|capability| CapabilitySet::from_name(&capability.to_string()))
        .collect()
}

fn limits(process: &Process) -> Vec<(Resource, Rlimit)> {
    let limits = process.rlimits().iter().flatten();
    limits
        .map(|limit| {
            let bound = |value: u64| (value != u64::MAX).then_some(value);
            let (current, maximum) = (bound(limit.soft()), bound(limit.hard()));
            (resource(limit.typ()), Rlimit { current, maximum })
        })
        .collect()
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
