//! What is known of a container, as its `state.json` keeps it.

use crate::container::log::{Driver, Rotation};
use crate::digest::Digest;
use crate::network::{Attachment, Port, Published};
use crate::spec::MountPoint;
use crate::sys::signal;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A container, running or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) origin: Origin,
    pub(crate) command: Vec<String>,
    pub(crate) created: DateTime<Utc>,
    /// `--rm`: nothing is kept when it has ended.
    pub(crate) auto_remove: bool,
    /// The image's, and those that the user gave.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) stop: Stop,
    #[serde(default)]
    pub(crate) log: Log,
    /// What is mounted in it because somebody asked for it.
    #[serde(default)]
    pub(crate) mounts: Vec<MountPoint>,
    /// The networks it is in while it runs, in the order of their links; the first that is not internal is the way out.
    #[serde(default)]
    pub(crate) networks: Vec<Attachment>,
    /// An ordinary user's, in the user namespace that the containers of his networks share: while it runs its monitor holds
    /// those, also when it is in none of them any more.
    #[serde(default)]
    pub(crate) holds_switch: bool,
    /// The ports that are published while it runs.
    #[serde(default)]
    pub(crate) ports: Vec<Published>,
    /// The ports that it says it serves, published or not.
    #[serde(default)]
    pub(crate) exposed: Vec<Port>,
    pub(crate) status: Status,
}

/// What a container's root is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Origin {
    Image {
        /// The image's ID.
        image: Digest,
        /// The image as the user named it.
        image_name: String,
    },
    /// A directory of the host.
    Directory { rootfs: PathBuf },
}

impl Origin {
    /// Returns the image's ID, if there is an image.
    pub(crate) fn image(&self) -> Option<&Digest> {
        match self {
            Self::Image { image, .. } => Some(image),
            Self::Directory { .. } => None,
        }
    }
}

/// How a container is asked to end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stop {
    /// As the user or the image named it, and checked; SIGTERM otherwise.
    pub(crate) signal: Option<String>,
    /// Seconds until it is killed, for ever if negative; ten otherwise.
    pub(crate) timeout: Option<i64>,
}

/// How long a command has to end by itself unless somebody says otherwise, in seconds, as with Docker.
const GRACE: i64 = 10;

impl Stop {
    /// Returns the number of the signal that asks the command to end.
    pub(crate) fn number(&self) -> i32 {
        let named = self.signal.as_deref().and_then(signal::parse);
        named.unwrap_or(libc::SIGTERM)
    }

    /// Returns how long it then has; `None` is for ever.
    pub(crate) fn grace(&self) -> Option<Duration> {
        // A negative one is no duration: then there is no end to the patience.
        let seconds = u64::try_from(self.timeout.unwrap_or(GRACE));
        seconds.ok().map(Duration::from_secs)
    }
}

/// What becomes of what its command writes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) driver: Driver,
    pub(crate) rotation: Rotation,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum Status {
    Created,
    Running {
        /// Host PID of the container's PID 1.
        pid: u32,
        /// In clock ticks since boot: with the PID it names the process for good.
        start_time: u64,
        started: DateTime<Utc>,
    },
    Exited {
        code: u8,
        /// A process was killed because the memory limit was reached.
        out_of_memory: bool,
        finished: DateTime<Utc>,
    },
}
