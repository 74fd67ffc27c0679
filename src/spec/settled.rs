//! What options come to on this machine whatever the image is: refused, if it is, before anything is pulled or made.

use crate::options::ContainerOptions;
use crate::spec::devices::{self, Asked};
use crate::spec::host::Host;
use crate::spec::limits;
use crate::spec::rights::Rights;
use anyhow::Result;
use serde_json::{Map, Value};

/// The decisions that need no image.
pub(crate) struct Settled {
    pub(super) rights: Rights,
    /// `linux.resources`, without the devices.
    pub(super) limits: Map<String, Value>,
    pub(super) devices: Asked,
}

impl Settled {
    pub(crate) fn choose(options: &ContainerOptions, host: &Host) -> Result<Self> {
        let owner = devices::Owner {
            is_privileged: options.security.privileged,
            in_user_namespace: host.mapping.is_some(),
        };
        Ok(Self {
            devices: devices::find(&options.devices, owner)?,
            rights: Rights::choose(&options.security, host)?,
            limits: limits::build(&options.limits, host.cpus)?,
        })
    }
}
