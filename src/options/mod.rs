//! What is asked for, typed: a container, its mounts and networks; each with its syntax, and as it is kept.

mod block;
mod capability;
mod container;
mod device;
mod environment;
mod exec;
mod files;
mod idmap;
mod lifetime;
mod limits;
mod log;
mod membership;
mod mount;
mod mount_flag;
mod names;
mod namespaces;
mod pair;
mod publish;
mod root;
mod security;
mod sysctl;
mod tmpfs;
mod ulimit;
mod user;
mod volume_flag;

pub(crate) use block::{DeviceBytes, DeviceOperations, DeviceWeight, Io};
pub(crate) use capability::{CAPABILITIES, Capability};
pub(crate) use container::{ContainerOptions, Streams, check_name, parse_entrypoint};
pub(crate) use device::{DeviceOptions, DeviceRule, Devices};
pub(crate) use environment::{Environment, Merged, Variable, parse_file as parse_variables};
pub(crate) use exec::ExecOptions;
pub(crate) use files::{Files, ImageVolumes, VolumesFrom};
pub(crate) use idmap::{IdMaps, IdRange, Idmap};
pub(crate) use lifetime::Stop;
pub(crate) use limits::Limits;
pub(crate) use log::{Driver, Log, LogOption, Rotation};
pub(crate) use membership::{Membership, address4, address6, alias, choose as choose_network, mac};
pub(crate) use mount::{
    Below, Bind, Content, ImageMount, MountOptions, Propagation, Volume, clean, target,
};
pub(crate) use mount_flag::parse as parse_mount;
pub(crate) use names::{AddedHost, HostAddress, NetworkNames};
pub(crate) use namespaces::{Ipc, Namespaces, Network, Pid, UserNamespace};
pub(crate) use pair::{Pair, labels_of_file};
pub(crate) use publish::{Ports, Publications, Publish};
pub(crate) use root::Root;
pub(crate) use security::{SeccompProfile, Security, SecurityOption};
pub(crate) use sysctl::Sysctl;
pub(crate) use tmpfs::{options as tmpfs_options, parse as parse_tmpfs};
pub(crate) use ulimit::Ulimit;
pub(crate) use user::{GroupName, LARGEST, UserName, parse_number};
pub(crate) use volume_flag::parse as parse_volume;
