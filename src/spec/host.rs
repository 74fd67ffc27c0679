//! What the machine is: the facts a spec depends on besides image and flags.

use crate::human;
use anyhow::{Context, Result};

/// Facts about the machine.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// The IDs that containers of an ordinary user have; none for root, who has them all.
    pub(crate) mapping: Option<Mapping>,
    /// Counts the machine's processors.
    pub(crate) cpus: fn() -> Result<u32>,
    /// The capabilities that a container can be given, by their numbers' bits.
    pub(crate) capabilities: u64,
    /// The AppArmor profile of containers that ask for none; none where there is no AppArmor, or no right to it.
    pub(crate) profile: Option<&'static str>,
    /// The host's own name.
    pub(crate) hostname: String,
    /// Whether a new network speaks IPv6.
    pub(crate) ipv6: bool,
}

/// How many IDs a user namespace has, counted from 0, and who the caller is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) users: u32,
    pub(crate) groups: u32,
    pub(crate) own_user: u32,
    pub(crate) own_group: u32,
}

impl Host {
    /// Returns the facts about this machine; `mapping` is none for root.
    pub(crate) fn detect(mapping: Option<Mapping>) -> Result<Self> {
        let name = rustix::system::uname();
        Ok(Self {
            mapping,
            cpus: processors,
            capabilities: capabilities(mapping)?,
            profile: None,
            hostname: name.nodename().to_string_lossy().into_owned(),
            ipv6: speaks_ipv6(),
        })
    }
}

/// Tells whether a new network speaks IPv6: it does without if the kernel has none, if the kernel's parameter says so, or if
/// a new network takes over the settings of another that does without (`devconf_inherit_init_net`, ip-sysctl.rst).
fn speaks_ipv6() -> bool {
    let value = |path: &str| fs_err::read_to_string(path).map(|it| it.trim().to_owned());
    match value("/proc/sys/net/ipv6/conf/default/disable_ipv6").as_deref() {
        Ok("0") => true,
        Err(_) => false,
        Ok(_) => {
            let inherits = value("/proc/sys/net/core/devconf_inherit_init_net");
            let never = value("/sys/module/ipv6/parameters/disable_ipv6");
            !matches!(inherits.as_deref(), Ok("1" | "3")) && never.is_ok_and(|never| never == "0")
        }
    }
}

/// The processors that run, whichever of them our caller left to us.
pub(super) const PROCESSORS: &str = "/sys/devices/system/cpu/online";

fn processors() -> Result<u32> {
    let list = fs_err::read_to_string(PROCESSORS)?;
    let numbers = human::parse_numbers(list.trim()).context("counting processors")?;
    Ok(u32::try_from(numbers.len())?)
}

/// Root can give what it has itself; a user namespace starts with all that the kernel knows (`user_namespaces(7)`).
fn capabilities(mapping: Option<Mapping>) -> Result<u64> {
    let path = "/proc/sys/kernel/cap_last_cap";
    let last: u32 = fs_err::read_to_string(path)?
        .trim()
        .parse()
        .with_context(|| format!("reading `{path}`"))?;
    let known = u64::MAX >> 63_u32.saturating_sub(last);
    if mapping.is_some() {
        return Ok(known);
    }
    let own = rustix::thread::capabilities(None).context("reading our capabilities")?;
    Ok(own.permitted.bits() & known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let host = Host::detect(None).unwrap();
        assert!((host.cpus)().unwrap() >= 1);
        assert_ne!(
            host.capabilities & 1,
            0,
            "tests run as root, with CAP_CHOWN"
        );
    }

    #[test]
    fn a_user_namespace_has_every_capability() {
        let mapping = Mapping {
            users: 1,
            groups: 1,
            own_user: 0,
            own_group: 0,
        };
        let all = capabilities(Some(mapping)).unwrap();
        assert!(all.count_ones() >= 38, "{all:x}");
        assert_eq!(
            all & capabilities(None).unwrap(),
            capabilities(None).unwrap()
        );
    }
}
