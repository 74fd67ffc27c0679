//! `config.json` of a bundle (OCI runtime-spec, `config.md`): of its fields those that are carried out here.
//!
//! What is not named here is refused when it is read, never dropped.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Config<'a> {
    #[serde(rename = "ociVersion")]
    _version: IgnoredAny,
    /// For others to read.
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
    pub(super) root: Root,
    pub(super) hostname: Option<String>,
    pub(super) domainname: Option<String>,
    pub(super) process: Process,
    #[serde(default)]
    pub(super) mounts: Vec<Mount>,
    #[serde(borrow)]
    pub(super) linux: Linux<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) readonly: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Process {
    #[serde(default)]
    pub(super) terminal: bool,
    pub(super) user: User,
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) capabilities: Capabilities,
    pub(super) apparmor_profile: Option<String>,
    #[serde(default)]
    pub(super) no_new_privileges: bool,
    #[serde(default)]
    pub(super) rlimits: Vec<Rlimit>,
    pub(super) oom_score_adj: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) umask: Option<u32>,
    #[serde(default)]
    pub(super) additional_gids: Vec<u32>,
}

/// Their names, `CAP_CHOWN` and so on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capabilities {
    pub(super) bounding: Vec<String>,
    pub(super) effective: Vec<String>,
    pub(super) permitted: Vec<String>,
    pub(super) inheritable: Vec<String>,
    pub(super) ambient: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rlimit {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) destination: PathBuf,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: PathBuf,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default)]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(default)]
    pub(super) gid_mappings: Vec<IdMapping>,
}

/// IDs in a row (config-linux.md, "User namespace mappings").
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(super) container: u32,
    #[serde(rename = "hostID")]
    pub(super) host: u32,
    pub(super) size: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Linux<'a> {
    pub(super) namespaces: Vec<Namespace>,
    pub(super) cgroups_path: PathBuf,
    pub(super) resources: Resources,
    #[serde(default)]
    pub(super) sysctl: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    /// The mounts say the same, each for itself.
    #[serde(rename = "rootfsPropagation")]
    _rootfs_propagation: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) masked_paths: Vec<String>,
    #[serde(default)]
    pub(super) readonly_paths: Vec<String>,
    /// As it is written: most containers have the same, which is compiled already.
    #[serde(borrow)]
    pub(super) seccomp: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Namespace {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DeviceType {
    /// All, in a rule.
    A,
    B,
    C,
    /// Unbuffered, which is the same (mknod(1)).
    U,
    P,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    #[serde(rename = "type")]
    pub(super) kind: DeviceType,
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    pub(super) file_mode: Option<u32>,
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resources {
    pub(super) memory: Memory,
    pub(super) cpu: Cpu,
    pub(super) pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub(super) block_io: BlockIo,
    pub(super) devices: Vec<DeviceRule>,
}

/// In bytes; -1 is "unlimited".
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Memory {
    pub(super) limit: Option<i64>,
    pub(super) swap: Option<i64>,
    pub(super) reservation: Option<i64>,
    pub(super) swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub(super) disable_oom_killer: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cpu {
    pub(super) shares: Option<u64>,
    pub(super) quota: Option<i64>,
    pub(super) period: Option<u64>,
    pub(super) realtime_runtime: Option<i64>,
    pub(super) realtime_period: Option<u64>,
    pub(super) cpus: String,
    pub(super) mems: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pids {
    /// None, if it is 0 or less.
    pub(super) limit: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BlockIo {
    pub(super) weight: Option<u16>,
    pub(super) weight_device: Vec<WeightDevice>,
    pub(super) throttle_read_bps_device: Vec<ThrottleDevice>,
    pub(super) throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice")]
    pub(super) throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub(super) throttle_write_iops_device: Vec<ThrottleDevice>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightDevice {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) weight: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThrottleDevice {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) rate: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceRule {
    pub(super) allow: bool,
    #[serde(rename = "type")]
    pub(super) kind: Option<DeviceType>,
    /// -1 is "all", as in the files of the kernel.
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) access: Option<String>,
}
