//! Whose namespaces a container is to be in: its own, the host's, or another container's.

use crate::network::Mac;
use crate::options::membership::Membership;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What the container shares with others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Namespaces {
    /// `--network`
    pub(crate) network: Network,
    /// `--mac-address` in the default network.
    pub(crate) mac: Option<Mac>,
    /// `--pid`
    pub(crate) pid: Pid,
    /// `--ipc`
    pub(crate) ipc: Ipc,
    /// `--uts host`
    pub(crate) uts_of_host: bool,
    /// `--cgroupns host`
    pub(crate) cgroup_of_host: bool,
    /// `--proc host`: no limit is shown in `/proc` and `/sys`.
    pub(crate) proc_of_host: bool,
    /// `--userns`
    pub(crate) user: UserNamespace,
}

/// `--network`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// A network namespace of its own, connected to the default network.
    #[default]
    Bridge,
    /// A network namespace of its own with loopback up and no way out.
    None,
    /// The host's.
    Host,
    /// Another container's, by any of its names.
    Container(String),
    /// A network namespace of its own, connected to these networks, which somebody defined.
    Named(Vec<Membership>),
}

/// `--pid`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pid {
    #[default]
    Private,
    Host,
    /// Another container's, by any of its names.
    Container(String),
}

/// `--ipc`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ipc {
    #[default]
    Private,
    /// Private, and without `/dev/shm`.
    None,
    /// Its own, which others may join.
    Shareable,
    Host,
    /// Another container's, by any of its names.
    Container(String),
}

/// `--userns`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UserNamespace {
    /// None for root; for an ordinary user one in which he is root.
    #[default]
    Default,
    /// An ordinary user is himself inside, or this user and group.
    KeepId(Option<u32>, Option<u32>),
}

impl Network {
    /// Tells whether the container has a network namespace of its own.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Bridge | Self::Named(_) | Self::None)
    }
}

/// Returns the container that `container:NAME` names.
fn donor(mode: &str) -> Option<String> {
    let name = mode.strip_prefix("container:")?;
    (!name.is_empty()).then(|| name.to_owned())
}

impl FromStr for Pid {
    type Err = anyhow::Error;

    fn from_str(mode: &str) -> Result<Self> {
        match (mode, donor(mode)) {
            (_, Some(donor)) => Ok(Self::Container(donor)),
            ("" | "private", _) => Ok(Self::Private),
            ("host", _) => Ok(Self::Host),
            _ => bail!("--pid: invalid PID mode"),
        }
    }
}

impl FromStr for Ipc {
    type Err = anyhow::Error;

    fn from_str(mode: &str) -> Result<Self> {
        match (mode, donor(mode)) {
            (_, Some(donor)) => Ok(Self::Container(donor)),
            ("" | "private", _) => Ok(Self::Private),
            ("none", _) => Ok(Self::None),
            ("shareable", _) => Ok(Self::Shareable),
            ("host", _) => Ok(Self::Host),
            (other, _) => bail!("Invalid IPC mode: {other}"),
        }
    }
}

impl FromStr for UserNamespace {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const INVALID: &str = "--userns: invalid USER mode";
        let (mode, options) = text.split_once(':').unwrap_or((text, ""));
        match mode {
            "" | "host" if options.is_empty() => return Ok(Self::Default),
            "keep-id" => {}
            "auto" | "nomap" | "private" | "ns" | "container" => {
                bail!("`--userns {mode}` is not there yet")
            }
            _ => bail!(INVALID),
        }
        let (mut uid, mut gid) = (None, None);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, number) = option.split_once('=').unwrap_or((option, ""));
            let number = number.parse::<i32>().ok().and_then(|it| it.try_into().ok());
            ensure!(number.is_some(), INVALID);
            *match name {
                "uid" => &mut uid,
                "gid" => &mut gid,
                _ => bail!(INVALID),
            } = number;
        }
        Ok(Self::KeepId(uid, gid))
    }
}
