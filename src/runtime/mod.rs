//! Starts a container from its OCI bundle.

pub(crate) mod apparmor;
mod cgroup;
mod cgroup_view;
mod config;
mod configure;
mod descendants;
mod diagnosis;
mod exec;
mod failure;
mod gate;
mod hiding;
mod identity;
mod idmap;
mod inherited;
mod init;
mod join;
mod kill;
mod mounts;
mod options;
mod plan;
mod program;
mod reaper;
mod resources;
mod rlimits;
mod rootfs;
mod seccomp;
mod seen;
mod start;
mod stat;
mod target;
mod terminal;
mod told;

pub(crate) use failure::StartError;
pub(crate) use inherited::Leftover;
pub(crate) use join::Donor;
pub(crate) use kill::kill;
pub(crate) use plan::{Command, Plan};
pub(crate) use reaper::{init_for, reap};
pub(crate) use rootfs::Rootfs;
pub(crate) use seccomp::{COMPILED_PROFILE, Filter};
pub(crate) use start::{
    Connect, ExitStatus, Privilege, Running, Streams, remove_cgroup, servants_entrance, start,
};
