//! What a container may do, of all that limits it: capabilities, system calls, files of the kernel, profiles.

use crate::spec::host::Host;
use crate::spec::request::Security;
use crate::spec::security::{self, Confinement};
use crate::spec::{capabilities, seccomp};
use anyhow::Result;
use serde_json::value::RawValue;

/// What the container may do.
pub(super) struct Rights {
    pub(super) capabilities: capabilities::Names,
    pub(super) no_new_privileges: bool,
    /// `process.apparmorProfile`
    pub(super) profile: Option<String>,
    /// `linux.seccomp`
    pub(super) filter: Option<Box<RawValue>>,
    pub(super) hides_paths: bool,
    /// What the container would have by default, and nobody here can give.
    withheld: capabilities::Names,
}

impl Rights {
    pub(super) fn choose(request: &Security, host: &Host) -> Result<Self> {
        let (added, dropped) = (&request.capabilities_added, &request.capabilities_dropped);
        let capabilities = if request.privileged {
            capabilities::all(host.capabilities)
        } else {
            capabilities::choose(added, dropped, host.capabilities)?
        };
        let withheld = capabilities::withheld(&capabilities, dropped, host.capabilities)?;
        let options = security::Security::parse(&request.options, request.privileged)?;
        Ok(Self {
            filter: seccomp::build(&options.seccomp, &capabilities)?,
            profile: match options.apparmor {
                Confinement::Default => host.profile.map(str::to_owned),
                Confinement::Unconfined => None,
                Confinement::Profile(name) => Some(name),
            },
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
}
