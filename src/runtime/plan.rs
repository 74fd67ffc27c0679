//! The plan of a container: its OCI spec, parsed once, with nothing optional left.

use crate::runtime::cgroup::Limits;
use crate::runtime::config::{self, Config, DeviceType};
use crate::runtime::idmap::Idmap;
use crate::runtime::join::{Elsewhere, Namespace};
use crate::runtime::options::Options;
use crate::runtime::resources;
use crate::runtime::seccomp::Filter;
use anyhow::{Context, Result, bail, ensure};
use nix::sched::CloneFlags;
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
    /// The directory of the host that is the root; none if that is an overlay, which has no place there.
    pub(crate) root_directory: Option<PathBuf>,
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
    pub(crate) limits: Limits,
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
    /// The AppArmor profile that confines it, if one is to.
    pub(crate) profile: Option<String>,
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
    /// Returns the PID namespace that is joined, if one is.
    pub(crate) fn joined_processes(&self) -> Option<&Namespace> {
        let mut joined = self.joined.iter();
        joined.find(|namespace| namespace.kind == CloneFlags::CLONE_NEWPID)
    }

    /// Interprets the text of `config.json`; what is asked for and not implemented is refused, never dropped.
    pub(crate) fn parse(config: &str) -> Result<Self> {
        let config: Config<'_> = serde_json::from_str(config).context("reading the OCI spec")?;
        let linux = config.linux;
        let (namespaces, joined) = namespaces(&linux.namespaces)?;
        let seccomp = linux.seccomp.map(|text| Filter::compile(text.get()));
        Ok(Self {
            namespaces,
            joined,
            hostname: config.hostname.unwrap_or_default(),
            domain_name: config.domainname,
            // What is relative is in the bundle, where nothing lies: the caller has it.
            root_directory: Some(config.root.path).filter(|path| path.is_absolute()),
            read_only_root: config.root.readonly,
            mounts: config
                .mounts
                .into_iter()
                .map(mount)
                .collect::<Result<_>>()?,
            nodes: linux.devices.into_iter().map(node).collect::<Result<_>>()?,
            masked: linux.masked_paths,
            read_only: linux.readonly_paths,
            sysctls: linux.sysctl.into_iter().collect(),
            process: command(config.process)?,
            cgroups_path: linux.cgroups_path,
            seccomp: seccomp.transpose()?,
            limits: resources::limits(linux.resources)?,
        })
    }
}

/// Returns the namespaces to make, and those to join, opened.
fn namespaces(asked: &[config::Namespace]) -> Result<(CloneFlags, Vec<Namespace>)> {
    let mut flags = CloneFlags::empty();
    let mut joined = Vec::new();
    for namespace in asked {
        let kind = match namespace.kind.as_str() {
            "mount" => CloneFlags::CLONE_NEWNS,
            "cgroup" => CloneFlags::CLONE_NEWCGROUP,
            "uts" => CloneFlags::CLONE_NEWUTS,
            "ipc" => CloneFlags::CLONE_NEWIPC,
            "pid" => CloneFlags::CLONE_NEWPID,
            "network" => CloneFlags::CLONE_NEWNET,
            other => bail!("a namespace of type `{other}` is not there yet"),
        };
        match &namespace.path {
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

fn mount(mount: config::Mount) -> Result<Mount> {
    ensure!(
        mount.destination.is_absolute(),
        "the mount target `{}` is not absolute",
        mount.destination.display()
    );
    let options = Options::parse(mount.options.iter().map(String::as_str));
    Ok(Mount {
        idmap: Idmap::of(&mount, &options)?,
        target: mount.destination,
        kind: mount.kind,
        elsewhere: Elsewhere::find(&mount.source)?,
        source: mount.source,
        options,
    })
}

fn node(device: config::Device) -> Result<Node> {
    let kind = match device.kind {
        DeviceType::C | DeviceType::U => FileType::CharacterDevice,
        DeviceType::B => FileType::BlockDevice,
        DeviceType::P => FileType::Fifo,
        DeviceType::A => bail!("`{}` has no device type", device.path.display()),
    };
    Ok(Node {
        path: device.path,
        kind,
        device: rustix::fs::makedev(device.major, device.minor),
        mode: device.file_mode.unwrap_or(0o666),
        uid: device.uid,
        gid: device.gid,
    })
}

pub(super) fn command(process: config::Process) -> Result<Command> {
    let texts = |texts: Vec<String>| {
        let texts = texts.into_iter().map(CString::new);
        texts
            .collect::<Result<_, _>>()
            .context("a NUL in an argument or the environment")
    };
    let arguments: Vec<CString> = texts(process.args)?;
    ensure!(!arguments.is_empty(), "no command specified");
    let limits = process.rlimits.iter().map(limit);
    Ok(Command {
        arguments,
        environment: texts(process.env)?,
        directory: process.cwd,
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids,
        umask: process.user.umask.unwrap_or(0o022),
        capabilities: capabilities(&process.capabilities)?,
        profile: process.apparmor_profile,
        no_new_privileges: process.no_new_privileges,
        limits: limits.collect::<Result<_>>()?,
        oom_score: process.oom_score_adj,
        has_init: false,
        // What is not known yet.
        terminal: process.terminal.then_some((0, 0)),
    })
}

fn capabilities(sets: &config::Capabilities) -> Result<CapabilityPlan> {
    Ok(CapabilityPlan {
        bounding: capability_set(&sets.bounding)?,
        effective: capability_set(&sets.effective)?,
        permitted: capability_set(&sets.permitted)?,
        inheritable: capability_set(&sets.inheritable)?,
        ambient: capability_set(&sets.ambient)?,
    })
}

fn capability_set(names: &[String]) -> Result<CapabilitySet> {
    let find = |name: &String| {
        let found = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
        found.with_context(|| format!("`{name}` is no capability"))
    };
    names.iter().map(find).collect()
}

fn limit(limit: &config::Rlimit) -> Result<(Resource, Rlimit)> {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    let (current, maximum) = (bound(limit.soft), bound(limit.hard));
    Ok((resource(&limit.kind)?, Rlimit { current, maximum }))
}

fn resource(name: &str) -> Result<Resource> {
    Ok(match name {
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_STACK" => Resource::Stack,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        other => bail!("`{other}` is no resource limit"),
    })
}
