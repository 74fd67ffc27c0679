//! A mount as it is written down.

use crate::options::Idmap;
use crate::store::VolumeName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A mount as a container's record keeps it, and as `--volumes-from` takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`
    pub(crate) kind: String,
    /// Volumes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume: Option<VolumeName>,
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) mode: String,
    pub(crate) read_only: bool,
    /// Binds only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) propagation: String,
    /// Binds only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idmap: Option<Idmap>,
    /// The mode of the image's directory that a tmpfs covers, when the container was first started: where the image had
    /// none there is one since, which is the runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) covered: Option<u32>,
}
