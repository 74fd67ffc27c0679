//! What a container may do, of all that limits it: capabilities, system calls, files of the kernel, profiles.

use crate::options::Security;
use crate::spec::host::Host;
use crate::spec::security::{Confinement, Refused};
use crate::spec::{capabilities, seccomp};
use anyhow::Result;
use serde_json::value::RawValue;

/// What the container may do.
pub(super) struct Rights {
    pub(super) capabilities: capabilities::Names,
    pub(super) no_new_privileges: bool,
    confinement: Confinement,
    /// `linux.seccomp`
    pub(super) filter: Option<Box<RawValue>>,
    pub(super) hides_paths: bool,
    /// What the container would have by default, and nobody here can give.
    withheld: capabilities::Names,
}

impl Rights {
    pub(super) fn choose(security: &Security, host: &Host) -> Result<Self> {
        let (added, dropped) = (&security.capabilities_added, &security.capabilities_dropped);
        let capabilities = if security.privileged {
            capabilities::all(host.capabilities)
        } else {
            capabilities::choose(added, dropped, host.capabilities)?
        };
        let withheld = capabilities::withheld(&capabilities, dropped, host.capabilities);
        let options = Refused::choose(&security.options, security.privileged)?;
        Ok(Self {
            filter: seccomp::build(&options.seccomp, &capabilities)?,
            confinement: options.apparmor,
            capabilities,
            no_new_privileges: options.no_new_privileges,
            hides_paths: options.hides_paths,
            withheld,
        })
    }

    /// Returns what the user should know: programs fail by what is missing, and nothing else tells why.
    pub(super) fn notes(&self) -> Vec<String> {
        if self.withheld.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = self.withheld.iter().copied().collect();
        vec![format!(
            "the container does without {}, which containers have by default: the caller's bounding set is without",
            names.join(", ")
        )]
    }

    /// Returns `process.apparmorProfile`.
    pub(super) fn profile<'a>(&'a self, host: &'a Host) -> Option<&'a str> {
        match &self.confinement {
            Confinement::Default => host.profile,
            Confinement::Unconfined => None,
            Confinement::Profile(name) => Some(name),
        }
    }
}
