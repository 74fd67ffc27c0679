//! The flags of `ddock run` about files: what the container sees besides its image.

use crate::cli::failure::Refusal;
use crate::human;
use crate::options::{
    Files, ImageVolumes, MountOptions, VolumesFrom, parse_mount, parse_tmpfs, parse_volume,
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::env;

#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileFlags {
    /// Take a directory of the host instead of an image: `DIR[:O] COMMAND…`, with `:O` leaving the directory as it is
    #[arg(long, conflicts_with_all = [
        "pull", "creds", "authfile", "retry", "retry_delay", "mirror", "insecure_registry", "tls_verify",
    ])]
    pub(super) rootfs: bool,
    /// Show a directory or file of the host, or a volume, in the container (`idmap`: its owner is root inside; `U`: its files become the user's)
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]", value_parser = parse_volume)]
    volume: Vec<MountOptions>,
    /// Mount a bind, volume, tmpfs or image (type=…,source=…,target=…)
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_mount)]
    mount: Vec<MountOptions>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = parse_tmpfs)]
    tmpfs: Vec<MountOptions>,
    /// Mount the volumes and binds of another container
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    volumes_from: Vec<VolumesFrom>,
    /// What becomes of the image's volumes
    #[arg(long, value_enum, default_value = "anonymous", value_name = "KIND")]
    image_volume: ImageVolume,
    /// Which driver makes new volumes: `local`
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Limit `/dev/shm`, in bytes or with b, k, m, g [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = shm_size)]
    shm_size: Option<u64>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Keep `/run`, `/tmp` and `/var/tmp` writable under `--read-only`, in memory
    #[arg(long)]
    read_only_tmpfs: bool,
    /// Options of the storage driver: there are none
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    storage_opt: Vec<String>,
}

/// `--image-volume`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ImageVolume {
    #[value(alias = "bind")]
    Anonymous,
    Tmpfs,
    Ignore,
}

impl FileFlags {
    /// Returns what the flags say, as seen from this process's directory.
    pub(super) fn read(self) -> Result<Files> {
        if let Some(option) = self.storage_opt.first() {
            return Err(Refusal::new(format!(
                "`--storage-opt {option}` is not there: overlayfs has no size of its own"
            ))
            .hint("limit the store by the file system or quota that `--root` is on")
            .into());
        }
        let driver = self.volume_driver.filter(|driver| driver != "local");
        if let Some(driver) = driver {
            return Err(Refusal::new(format!(
                "there is no volume driver `{driver}`: ddock has `local` alone"
            ))
            .into());
        }
        let mounts = self.volume.into_iter().chain(self.mount).chain(self.tmpfs);
        let mut files = Files {
            read_only: self.read_only,
            read_only_tmpfs: self.read_only_tmpfs,
            mounts: mounts.collect(),
            // Docker: 0 is the default.
            shm_size: self.shm_size.filter(|size| *size > 0),
            image_volumes: match self.image_volume {
                ImageVolume::Anonymous => ImageVolumes::Anonymous,
                ImageVolume::Tmpfs => ImageVolumes::Tmpfs,
                ImageVolume::Ignore => ImageVolumes::Ignored,
            },
            volumes_from: self.volumes_from,
            // Looked up when the container is made.
            inherited: Vec::new(),
        };
        // A deleted directory matters only to whoever names a source relative to it.
        files.settle(env::current_dir().ok().as_deref())?;
        Ok(files)
    }
}

fn shm_size(text: &str) -> Result<u64, &'static str> {
    human::parse_bytes(text).ok_or("expected a size such as `64m` or `1g`")
}
