//! OCI image layouts on disk, for programs that read nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::ddock::{Output, output};
use crate::harness::image::Image;

/// An OCI image layout.
pub(crate) struct Layout {
    path: PathBuf,
    manifests: Vec<serde_json::Value>,
}

impl Layout {
    /// Makes an empty layout.
    pub(crate) fn new(path: &Path) -> Layout {
        fs_err::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs_err::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout {
            path: path.to_owned(),
            manifests: Vec::new(),
        }
    }

    /// Adds an image under `tag`.
    pub(crate) fn add(&mut self, tag: &str, image: &Image) {
        for blob in image.blobs.iter().chain(&image.manifests) {
            let hex = &blob.digest["sha256:".len()..];
            fs_err::write(self.path.join("blobs/sha256").join(hex), &blob.bytes).unwrap();
        }
        let mut descriptor = image.top().descriptor();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.manifests.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        fs_err::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    /// Has umoci unpack the image `tag` into a new bundle, whose `rootfs` is the merged tree.
    pub(crate) fn umoci_unpack(&self, tag: &str, bundle: &Path) -> Output {
        let image = format!("{}:{tag}", self.path.display());
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image", &image]).arg(bundle);
        output(&mut umoci)
    }
}
