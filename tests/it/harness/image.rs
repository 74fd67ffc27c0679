//! Images made in code: layers, config and manifest in every form that a registry serves.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::tree::Tree;

pub(crate) struct Blob {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: &str, bytes: Vec<u8>) -> Blob {
        Blob {
            media_type: media_type.to_owned(),
            digest: digest(&bytes),
            bytes,
        }
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

/// What a push consists of: blobs, manifests named by an index, and last what the tag names.
pub(crate) struct Image {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifests: Vec<Blob>,
}

impl Image {
    /// Returns the manifest or index that the tag names.
    pub(crate) fn top(&self) -> &Blob {
        self.manifests.last().expect("an image has a manifest")
    }

    /// Returns the image's ID, which is its config's digest.
    pub(crate) fn id(&self) -> String {
        let digest = &self.top().json()["config"]["digest"];
        digest.as_str().expect("not an index").to_owned()
    }

    /// Returns the layers' compressed digests, base first.
    pub(crate) fn layers(&self) -> Vec<String> {
        let manifest = self.top().json();
        let layers = manifest["layers"].as_array().expect("not an index");
        let digests = layers.iter().map(|l| l["digest"].as_str().unwrap());
        digests.map(str::to_owned).collect()
    }

    /// Joins images of several platforms ("linux/amd64", "linux/arm/v7") in an index.
    pub(crate) fn index(entries: Vec<(&str, Image)>) -> Image {
        let mut joined = Image {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        let mut descriptors = Vec::new();
        for (platform, image) in entries {
            let mut descriptor = image.top().descriptor();
            let mut words = platform.split('/');
            let (os, architecture) = (words.next().unwrap(), words.next().unwrap());
            descriptor["platform"] = json!({"os": os, "architecture": architecture});
            if let Some(variant) = words.next() {
                descriptor["platform"]["variant"] = json!(variant);
            }
            descriptors.push(descriptor);
            joined.blobs.extend(image.blobs);
            joined.manifests.extend(image.manifests);
        }
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors});
        joined.manifests.push(Blob::new(media_type, bytes(&index)));
        joined
    }

    /// Reads the image of `scripts/debian-image`, an OCI image layout with one image.
    pub(crate) fn distribution() -> Image {
        Image::of_layout(Path::new("cache/test-images/distribution"))
    }

    /// Reads the first image of a layout.
    pub(crate) fn of_layout(layout: &Path) -> Image {
        let index = fs_err::read(layout.join("index.json"))
            .expect("a script makes it; scripts/test calls that first");
        let index: Value = serde_json::from_slice(&index).unwrap();
        let read = |descriptor: &Value| {
            let hex = &descriptor["digest"].as_str().unwrap()["sha256:".len()..];
            let bytes = fs_err::read(layout.join("blobs/sha256").join(hex)).unwrap();
            Blob::new(descriptor["mediaType"].as_str().unwrap(), bytes)
        };
        let manifest = read(&index["manifests"][0]);
        let parsed = manifest.json();
        let mut blobs = vec![read(&parsed["config"])];
        blobs.extend(parsed["layers"].as_array().unwrap().iter().map(read));
        Image {
            blobs,
            manifests: vec![manifest],
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// With the window of `zstd -19`: its reader must be able to look back 8 MiB.
    ZstdWide,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Format {
    Oci,
    Schema2,
}

/// An image in the making: layers base first, then what its config says.
pub(crate) struct ImageBuilder {
    layers: Vec<(Vec<u8>, Compression)>,
    format: Format,
    platform: String,
    config: Value,
    diff_ids: Option<Vec<String>>,
}

impl ImageBuilder {
    pub(crate) fn new() -> ImageBuilder {
        ImageBuilder {
            layers: Vec::new(),
            format: Format::Oci,
            platform: format!("linux/{}", host_architecture()),
            config: json!({}),
            diff_ids: None,
        }
    }

    pub(crate) fn format(mut self, format: Format) -> ImageBuilder {
        self.format = format;
        self
    }

    /// Sets os/architecture[/variant].
    pub(crate) fn platform(mut self, platform: &str) -> ImageBuilder {
        platform.clone_into(&mut self.platform);
        self
    }

    /// Adds a gzip layer.
    pub(crate) fn layer(self, tree: Tree) -> ImageBuilder {
        self.layer_as(tree.tar(), Compression::Gzip)
    }

    pub(crate) fn layer_as(mut self, tar: Vec<u8>, compression: Compression) -> ImageBuilder {
        self.layers.push((tar, compression));
        self
    }

    /// Sets a field of the config's `config` object: `Env`, `Cmd`, `Entrypoint`, `User`, `WorkingDir` …
    pub(crate) fn config(mut self, key: &str, value: Value) -> ImageBuilder {
        self.config[key] = value;
        self
    }

    /// Claims these diff IDs instead of the true ones.
    pub(crate) fn claim_diff_ids(mut self, diff_ids: Vec<String>) -> ImageBuilder {
        self.diff_ids = Some(diff_ids);
        self
    }

    pub(crate) fn build(self) -> Image {
        let true_ids = self.layers.iter().map(|(tar, _)| digest(tar)).collect();
        let diff_ids: Vec<String> = self.diff_ids.unwrap_or(true_ids);
        let mut words = self.platform.split('/');
        let mut config = json!({
            "created": "2024-01-02T03:04:05Z",
            "os": words.next(),
            "architecture": words.next(),
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "a test"}],
        });
        if let Some(variant) = words.next() {
            config["variant"] = json!(variant);
        }
        let oci = self.format == Format::Oci;
        let config = Blob::new(
            if oci {
                "application/vnd.oci.image.config.v1+json"
            } else {
                "application/vnd.docker.container.image.v1+json"
            },
            bytes(&config),
        );
        let layers: Vec<Blob> = self
            .layers
            .into_iter()
            .map(|(tar, compression)| {
                Blob::new(layer_type(oci, compression), compress(tar, compression))
            })
            .collect();
        let media_type = if oci {
            "application/vnd.oci.image.manifest.v1+json"
        } else {
            "application/vnd.docker.distribution.manifest.v2+json"
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let mut blobs = vec![config];
        blobs.extend(layers);
        Image {
            blobs,
            manifests: vec![Blob::new(media_type, bytes(&manifest))],
        }
    }
}

fn layer_type(oci: bool, compression: Compression) -> &'static str {
    match (oci, compression) {
        (true, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
        (true, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (true, Compression::Zstd | Compression::ZstdWide) => {
            "application/vnd.oci.image.layer.v1.tar+zstd"
        }
        (false, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
        (false, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (false, Compression::Zstd | Compression::ZstdWide) => {
            "application/vnd.docker.image.rootfs.diff.tar.zstd"
        }
    }
}

pub(crate) fn compress(tar: Vec<u8>, compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar,
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &tar).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(tar.as_slice(), 1).unwrap(),
        Compression::ZstdWide => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(23).unwrap();
            std::io::Write::write_all(&mut encoder, &tar).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// Returns `sha256:` and the hex digest.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// Returns this machine's architecture in OCI's (Go's) words.
pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns a small image that can run: a static busybox with its applets, root and `alice` (1000) in /etc/passwd.
pub(crate) fn busybox() -> ImageBuilder {
    ImageBuilder::new()
        .layer(busybox_tree())
        .config(
            "Env",
            json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        )
        .config("Cmd", json!(["sh"]))
}

pub(crate) fn busybox_tree() -> Tree {
    let applets = "awk cat chmod chown cp cut dd df dmesg echo env expr false find free grep head hostname id \
        ifconfig ip kill less ln ls mkdir mknod mount mv nc nproc ping printf ps pwd readlink rm rmdir sed seq sh \
        sha256sum sleep sort stat stty su tail tee test time top touch tr true tty umount uname uniq vi wc wget which \
        xargs yes";
    let program = fs_err::read("/bin/busybox").expect("busybox-static is installed");
    let mut tree =
        Tree::new()
            .dir("./", 0o755)
            .dir("bin/", 0o755)
            .file("bin/busybox", 0o755, program);
    for applet in applets.split_whitespace() {
        tree = tree.symlink(&format!("bin/{applet}"), "busybox");
    }
    tree.dir("etc/", 0o755)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        )
        .file(
            "etc/group",
            0o644,
            "root:x:0:\nalice:x:1000:\nwheel:x:10:alice\nstaff:x:50:alice,bob\n",
        )
        .dir("root/", 0o700)
        .dir("tmp/", 0o1777)
        .dir("home/", 0o755)
        .owner(1000, 1000)
        .dir("home/alice/", 0o700)
}
