//! The container of which a spec is made: what it is asked to be, and what is known of it by the time it starts.

use crate::options::ContainerOptions;
use crate::spec::namespaces::Donors;
use crate::spec::point::MountPoint;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The container of which a spec is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) options: ContainerOptions,
    /// The container's ID: 64 lower-case hex digits.
    pub(crate) id: String,
    /// The container's directory in the store: where `hostname`, `hosts` and `resolv.conf` will lie.
    pub(crate) directory: PathBuf,
    /// The directory of the host that is the root; `None` if that is the overlay in `directory`.
    pub(crate) root: Option<PathBuf>,
    /// The directory in the store that volumes lie in.
    pub(crate) volumes: PathBuf,
    /// `--dry-run`: nothing is changed on the host, so missing sources of `-v` are not made.
    pub(crate) dry_run: bool,
    /// What was mounted when it started before: volumes without a name stay what they are.
    pub(crate) mounted: Vec<MountPoint>,
    /// The images that `--mount type=image` names, and the directories that each is merged from, base first.
    pub(crate) images: BTreeMap<String, Vec<PathBuf>>,
    /// What `host-gateway` means: the host's addresses in the container's network, known when that is ready.
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) donors: Donors,
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
