//! What is known of a container, as its `state.json` keeps it.

use crate::digest::Digest;
use crate::network::{Attachment, Port, Published};
use crate::options::{ContainerOptions, Log, Stop};
use crate::spec::MountPoint;
use crate::store::UsedVolume;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A container, running or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) origin: Origin,
    /// What it was asked to be. Absent in an older ddock's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) options: Option<Asked>,
    /// What it needs of the store, as its list says it too: only this is on disk for sure. Absent in an older ddock's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holds: Option<Vec<Digest>>,
    /// The volumes it uses, likewise.
    #[serde(default)]
    pub(crate) volumes: Vec<UsedVolume>,
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
    /// Its record is damaged, or says something that only a newer ddock understands.
    Unknown {},
}

impl Origin {
    /// Returns the image's ID, if there is an image.
    pub(crate) fn image(&self) -> Option<&Digest> {
        match self {
            Self::Image { image, .. } => Some(image),
            Self::Directory { .. } | Self::Unknown {} => None,
        }
    }
}

/// What a container was asked to be, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Of the options: an older ddock does not guess what newer ones mean.
    version: u32,
    container: ContainerOptions,
}

/// The version of options that this ddock writes and understands.
const VERSION: u32 = 1;

impl Asked {
    pub(crate) fn now(container: ContainerOptions) -> Self {
        Self {
            version: VERSION,
            container,
        }
    }

    /// Returns the options, if they can be understood.
    pub(crate) fn options(&self) -> Option<&ContainerOptions> {
        (self.version == VERSION).then_some(&self.container)
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum Status {
    /// `run` makes it: it goes with its maker.
    Starting,
    /// Somebody made it, and it has not run yet. In an older ddock's it is the same as `Starting`.
    Created,
    Running {
        /// Host PID of the container's PID 1.
        pid: u32,
        /// In clock ticks since boot: with the PID it names the process for good.
        start_time: u64,
        started: DateTime<Utc>,
        /// The kernel's ID of its boot: after another one nothing of this runs. Absent in an older ddock's.
        #[serde(default)]
        boot: Option<String>,
    },
    Exited {
        code: u8,
        /// A process was killed because the memory limit was reached.
        out_of_memory: bool,
        finished: DateTime<Utc>,
    },
    /// Its record is damaged, or says something that only a newer ddock understands.
    #[serde(other)]
    Unknown,
}

impl Record {
    /// Reads the record of the container `id`, made `made`; what of it cannot be understood is left out, down to nothing.
    pub(super) fn read(id: &str, made: DateTime<Utc>, bytes: &[u8]) -> Self {
        let mut record = serde_json::from_slice(bytes)
            .unwrap_or_else(|_| Self::salvage(Self::unknown(id, made), bytes));
        // The directory's name is what everything else goes by.
        id.clone_into(&mut record.id);
        record
    }

    /// Returns the record of a container of which nothing is known.
    pub(super) fn unknown(id: &str, made: DateTime<Utc>) -> Self {
        Self {
            id: id.to_owned(),
            name: String::new(),
            origin: Origin::Unknown {},
            options: None,
            holds: None,
            volumes: Vec::new(),
            command: Vec::new(),
            created: made,
            auto_remove: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            stop: Stop::default(),
            log: Log::default(),
            mounts: Vec::new(),
            networks: Vec::new(),
            holds_switch: false,
            ports: Vec::new(),
            exposed: Vec::new(),
            status: Status::Unknown,
        }
    }

    /// Takes over those properties of a record, as JSON, that are understood.
    fn salvage(unknown: Self, bytes: &[u8]) -> Self {
        let (Ok(Value::Object(found)), Ok(Value::Object(mut known))) = (
            serde_json::from_slice(bytes),
            serde_json::to_value(&unknown),
        ) else {
            return unknown;
        };
        for (key, value) in found {
            let mut more = known.clone();
            more.insert(key, value);
            if serde_json::from_value::<Self>(Value::Object(more.clone())).is_ok() {
                known = more;
            }
        }
        serde_json::from_value(Value::Object(known)).unwrap_or(unknown)
    }

    /// Tells whether its command has run once.
    pub(crate) fn has_started(&self) -> bool {
        !matches!(self.status, Status::Starting | Status::Created)
    }

    /// Tells whether more is known of the container than that it is there.
    pub(crate) fn is_known(&self) -> bool {
        self.status != Status::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_of_a_record_is_read() {
        let made = DateTime::UNIX_EPOCH;
        let mut record = Record::unknown("a", made);
        record.name = "web".to_owned();
        record.status = Status::Created;
        let mut text = serde_json::to_value(&record).unwrap();
        text["image"] = serde_json::json!(Digest::of(b"x").to_string());
        text["image_name"] = serde_json::json!("x");
        let read = |text: &Value| Record::read("b", made, text.to_string().as_bytes());
        assert_eq!((&*read(&text).id, read(&text).is_known()), ("b", true));

        for (key, value) in [
            ("status", serde_json::json!("paused")),
            ("status", serde_json::json!(7)),
            ("log", serde_json::json!({"driver": "journald"})),
            ("networks", serde_json::json!([{"kind": "macvlan"}])),
            ("news", serde_json::json!({})),
        ] {
            let mut newer = text.clone();
            newer[key] = value;
            let read = read(&newer);
            assert_eq!(read.name, "web", "{newer}");
            assert_eq!(read.origin.image(), Some(&Digest::of(b"x")), "{newer}");
            assert_eq!(read.is_known(), key != "status", "{newer}");
        }
        for damaged in ["", "{", "[]", "null", "\u{0}", "{\"id\": 1}"] {
            let read = Record::read("b", made, damaged.as_bytes());
            assert!(!read.is_known() && read.id == "b", "{damaged}");
        }
    }
}
