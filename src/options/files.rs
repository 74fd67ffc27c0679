//! What a container is to see of files besides its image.

use crate::options::mount::{self, Content, MountOptions};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::str::FromStr;

/// What the container sees of files besides its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Files {
    /// `--read-only`
    pub(crate) read_only: bool,
    /// `--read-only-tmpfs`
    pub(crate) read_only_tmpfs: bool,
    /// `-v`, `--mount` and `--tmpfs`, each in order.
    pub(crate) mounts: Vec<MountOptions>,
    /// `--shm-size`, in bytes.
    pub(crate) shm_size: Option<u64>,
    /// `--image-volume`
    pub(crate) image_volumes: ImageVolumes,
    /// `--volumes-from`, in order.
    pub(crate) volumes_from: Vec<VolumesFrom>,
    /// What those containers had mounted when this one was made, in order.
    pub(crate) inherited: Vec<MountOptions>,
}

impl Files {
    /// Makes sources that start with a dot absolute, as seen from the caller's `directory`; none if that was deleted.
    pub(crate) fn settle(&mut self, directory: Option<&Path>) -> Result<()> {
        let mut mounts = self.mounts.iter_mut();
        mounts.try_for_each(|mount| mount.settle(directory))
    }

    pub(crate) fn check(&self) -> Result<()> {
        mount::refuse_duplicates(&self.mounts)
    }

    /// Returns the images that mounts show.
    pub(crate) fn images(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match &mount.content {
            Content::Image(image) => Some(image.name.as_str()),
            Content::Bind(_) | Content::Volume(_) | Content::Tmpfs(_) => None,
        })
    }
}

/// What becomes of the volumes that the image declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImageVolumes {
    /// Each is a new volume without a name.
    #[default]
    Anonymous,
    Tmpfs,
    /// They are directories of the image like others.
    Ignored,
}

/// `--volumes-from CONTAINER[:ro|rw]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumesFrom {
    /// By any of its names.
    pub(crate) container: String,
    pub(crate) read_only: bool,
}

impl FromStr for VolumesFrom {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (container, mode) = text.split_once(':').unwrap_or((text, ""));
        let mut read_only = false;
        for word in mode.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ro" => read_only = true,
                "rw" => read_only = false,
                // Labels, which mean nothing here.
                "z" | "Z" => {}
                _ => bail!("invalid mode: {mode}"),
            }
        }
        let container = container.to_owned();
        Ok(Self {
            container,
            read_only,
        })
    }
}
