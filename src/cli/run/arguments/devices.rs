//! The flags of `ddock run` about devices: which ones the container may use.

use crate::options::{DeviceOptions, DeviceRule, Devices};
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Devices")]
pub(super) struct DeviceFlags {
    /// Give the container a device of the host, or all in a directory; ACCESS is of r, w, m
    #[arg(long, value_name = "HOST[:CONTAINER[:ACCESS]]")]
    device: Vec<DeviceOptions>,
    /// Allow devices by number: `c 1:* rwm`
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<DeviceRule>,
}

impl From<DeviceFlags> for Devices {
    fn from(flags: DeviceFlags) -> Self {
        Self {
            nodes: flags.device,
            rules: flags.device_cgroup_rule,
        }
    }
}
