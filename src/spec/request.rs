//! What the user asked a container to be: the flags of `run`, as typed and not yet interpreted.

use crate::spec::namespaces::Namespaces;
use crate::spec::wanted::MountPoint;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The flags of `run` that shape the container. `spec::build` checks and interprets them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// The container's ID: 64 lower-case hex digits.
    pub(crate) id: String,
    /// The container's directory in the store: where `hostname`, `hosts` and `resolv.conf` will lie.
    pub(crate) directory: PathBuf,
    /// The directory of the host that is the root; `None` if that is the overlay in `directory`.
    pub(crate) root: Option<PathBuf>,
    /// The directory in the store that volumes lie in.
    pub(crate) volumes: PathBuf,
    /// What follows the image on the command line.
    pub(crate) command: Vec<String>,
    /// `--entrypoint`: a program or a JSON array; an empty string resets the image's.
    pub(crate) entrypoint: Option<String>,
    /// `-e`, in order: `K=V`, or `K` for the caller's own value.
    pub(crate) environment: Vec<String>,
    /// `--env-file`, in order.
    pub(crate) environment_files: Vec<PathBuf>,
    pub(crate) default_environment: DefaultEnvironment,
    /// `-w`
    pub(crate) working_directory: Option<String>,
    /// `-u`: `NAME|UID[:GROUP|GID]`
    pub(crate) user: Option<String>,
    /// `--group-add`, in order: names or numbers.
    pub(crate) groups: Vec<String>,
    /// `--umask`
    pub(crate) umask: Option<u32>,
    /// `--tz`: a zone of the host's zoneinfo(5), or `local`.
    pub(crate) time_zone: Option<String>,
    /// `-h`; the ID's first 12 digits otherwise.
    pub(crate) hostname: Option<String>,
    /// `--domainname`
    pub(crate) domain_name: Option<String>,
    /// `-t`
    pub(crate) terminal: bool,
    /// `--dry-run`: nothing is changed on the host, so missing sources of `-v` are not made.
    pub(crate) dry_run: bool,
    /// `--annotation`
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) files: Files,
    pub(crate) namespaces: Namespaces,
    pub(crate) names: NetworkNames,
    pub(crate) limits: Limits,
    pub(crate) devices: Devices,
    pub(crate) security: Security,
}

/// What becomes of the variables that the user did not name.
#[derive(Debug, Clone, Default)]
pub(crate) struct DefaultEnvironment {
    /// `--env-host`
    pub(crate) with_callers: bool,
    /// `--unsetenv`
    pub(crate) unset: Vec<String>,
    /// `--unsetenv-all`
    pub(crate) unset_all: bool,
    /// `--env-merge`, in order: `NAME=TEXT`, in which `${NAME}` is the default.
    pub(crate) merged: Vec<String>,
}

/// What the container sees of files besides its image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// `--read-only`
    pub(crate) read_only: bool,
    /// `--read-only-tmpfs`
    pub(crate) read_only_tmpfs: bool,
    /// `-v`, in order: `[SOURCE:]TARGET[:OPTIONS]`
    pub(crate) volumes: Vec<String>,
    /// `--mount`, in order: `KEY=VALUE,…`
    pub(crate) mounts: Vec<String>,
    /// `--tmpfs`, in order: `TARGET[:OPTIONS]`
    pub(crate) tmpfs: Vec<String>,
    /// `--shm-size`, in bytes.
    pub(crate) shm_size: Option<u64>,
    /// `--image-volume`
    pub(crate) image_volumes: ImageVolumes,
    /// The mounts of the containers that `--volumes-from` names, in order.
    pub(crate) inherited: Vec<MountPoint>,
    /// The images that `--mount type=image` names, and the directories that each is merged from, base first.
    pub(crate) images: BTreeMap<String, Vec<PathBuf>>,
}

/// What becomes of the volumes that the image declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ImageVolumes {
    /// Each is a new volume without a name.
    #[default]
    Anonymous,
    Tmpfs,
    /// They are directories of the image like others.
    Ignored,
}

/// How the container finds others by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkNames {
    /// `--dns`, in order, instead of the host's servers.
    pub(crate) servers: Vec<IpAddr>,
    /// `--dns-search`, in order, instead of the host's; `.` is none.
    pub(crate) search: Vec<String>,
    /// `--dns-option`, in order, instead of the host's.
    pub(crate) options: Vec<String>,
    /// `--add-host`, in order: a name and an address, or `host-gateway`.
    pub(crate) hosts: Vec<(String, HostAddress)>,
    /// What `host-gateway` means: the host's addresses in the container's network, known when that is ready.
    pub(crate) gateways: Vec<IpAddr>,
}

/// What a name of `--add-host` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAddress {
    Address(IpAddr),
    /// `host-gateway`
    Gateway,
}

/// How much of the machine the container may use. Zero is no limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// `--memory`, in bytes.
    pub(crate) memory: Option<u64>,
    /// `--memory-swap`, in bytes, memory included; -1 is no limit.
    pub(crate) memory_swap: Option<i64>,
    /// `--memory-reservation`, in bytes.
    pub(crate) memory_reservation: Option<u64>,
    /// `--memory-swappiness`, in percent; -1 is the machine's own.
    pub(crate) memory_swappiness: Option<i64>,
    /// `--oom-kill-disable`
    pub(crate) oom_kill_disable: bool,
    /// `--oom-score-adj`
    pub(crate) oom_score: Option<i32>,
    /// `--cpus`, in billionths of a processor.
    pub(crate) nano_cpus: Option<u64>,
    /// `--cpu-shares`, of 1024.
    pub(crate) cpu_shares: Option<u64>,
    /// `--cpu-period`, in microseconds, like all times here.
    pub(crate) cpu_period: Option<u64>,
    /// `--cpu-quota`; negative is no limit.
    pub(crate) cpu_quota: Option<i64>,
    /// `--cpu-rt-period`
    pub(crate) cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// `--cpuset-cpus`: `0-2,7`
    pub(crate) cpuset_cpus: String,
    /// `--cpuset-mems`: `0-2,7`
    pub(crate) cpuset_mems: String,
    /// `--pids-limit`; 0 and -1 are no limit.
    pub(crate) pids: Option<i64>,
    pub(crate) io: Io,
    /// `--cgroup-parent`
    pub(crate) cgroup_parent: String,
    /// `--ulimit`, in order: `TYPE=SOFT[:HARD]`
    pub(crate) ulimits: Vec<String>,
    /// `--sysctl`, in order: `NAME=VALUE`
    pub(crate) sysctls: Vec<String>,
}

/// How much of the block devices' time the container may use: `DEVICE:NUMBER` each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Io {
    /// `--blkio-weight`, 10 to 1000.
    pub(crate) weight: Option<u16>,
    /// `--blkio-weight-device`
    pub(crate) weight_devices: Vec<String>,
    /// `--device-read-bps`
    pub(crate) read_bytes: Vec<String>,
    /// `--device-write-bps`
    pub(crate) write_bytes: Vec<String>,
    /// `--device-read-iops`
    pub(crate) read_operations: Vec<String>,
    /// `--device-write-iops`
    pub(crate) write_operations: Vec<String>,
}

/// The devices that the container may use besides those that all have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices {
    /// `--device`, in order: `HOST[:CONTAINER[:ACCESS]]`
    pub(crate) nodes: Vec<String>,
    /// `--device-cgroup-rule`, in order: `TYPE MAJOR:MINOR ACCESS`
    pub(crate) rules: Vec<String>,
}

/// What the container may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    /// `--privileged`
    pub(crate) privileged: bool,
    /// `--cap-add`, in order.
    pub(crate) capabilities_added: Vec<String>,
    /// `--cap-drop`, in order.
    pub(crate) capabilities_dropped: Vec<String>,
    /// `--security-opt`, in order.
    pub(crate) options: Vec<String>,
}

/// What the image's config says about running it, as far as a spec takes it over; empty where the config is silent.
///
/// Labels and the rest of a config are data: nothing of them is ever interpreted.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageDefaults {
    pub(crate) user: String,
    pub(crate) environment: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) working_directory: String,
    /// Paths, as the image writes them.
    pub(crate) volumes: Vec<String>,
}
