//! What a command in a container that runs already is asked to be.

use crate::options::user::UserName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is different from the container's own command, which it is like otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExecOptions {
    pub(crate) command: Vec<String>,
    /// `--env-file`, then `-e`, in order; without a value it is removed.
    pub(crate) environment: Vec<(String, Option<String>)>,
    pub(crate) user: Option<UserName>,
    pub(crate) directory: Option<PathBuf>,
    /// With all the capabilities that ddock can give, and no AppArmor profile.
    pub(crate) privileged: bool,
    pub(crate) terminal: bool,
}
