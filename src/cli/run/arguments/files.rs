//! The flags of `ddock run` about files: what the container sees besides its image.

use crate::cli::failure::Refusal;
use crate::human;
use crate::spec::{Files, ImageVolumes};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;

#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileFlags {
    /// Take a directory of the host instead of an image: `DIR[:O] COMMAND…`, with `:O` leaving the directory as it is
    #[arg(long, conflicts_with_all = [
        "pull", "creds", "authfile", "retry", "retry_delay", "mirror", "insecure_registry", "tls_verify",
    ])]
    pub(super) rootfs: bool,
    /// Show a directory or file of the host, or a volume, in the container (`idmap`: its owner is root inside; `U`: its files become the user's)
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount a bind, volume, tmpfs or image (type=…,source=…,target=…)
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount the volumes and binds of another container
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    pub(super) volumes_from: Vec<String>,
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

impl TryFrom<FileFlags> for Files {
    type Error = Refusal;

    fn try_from(flags: FileFlags) -> Result<Self, Refusal> {
        if let Some(option) = flags.storage_opt.first() {
            return Err(Refusal::new(format!(
                "`--storage-opt {option}` is not there: overlayfs has no size of its own"
            ))
            .hint("limit the store by the file system or quota that `--root` is on"));
        }
        let driver = flags.volume_driver.filter(|driver| driver != "local");
        if let Some(driver) = driver {
            return Err(Refusal::new(format!(
                "there is no volume driver `{driver}`: ddock has `local` alone"
            )));
        }
        Ok(Self {
            read_only: flags.read_only,
            read_only_tmpfs: flags.read_only_tmpfs,
            volumes: flags.volume,
            mounts: flags.mount,
            tmpfs: flags.tmpfs,
            // Docker: 0 is the default.
            shm_size: flags.shm_size.filter(|size| *size > 0),
            image_volumes: match flags.image_volume {
                ImageVolume::Anonymous => ImageVolumes::Anonymous,
                ImageVolume::Tmpfs => ImageVolumes::Tmpfs,
                ImageVolume::Ignore => ImageVolumes::Ignored,
            },
            // Looked up when the store is open.
            inherited: Vec::new(),
            images: BTreeMap::new(),
        })
    }
}

fn shm_size(text: &str) -> Result<u64, &'static str> {
    human::parse_bytes(text).ok_or("expected a size such as `64m` or `1g`")
}
