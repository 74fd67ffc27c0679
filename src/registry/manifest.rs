//! Manifests and indexes: what a registry serves for a name, read strictly.

use crate::digest::{Digest, Hasher};
use crate::human::printable;
use crate::platform::Platform;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// What we ask for; schema 1 only so that a registry which has nothing else says so.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, \
    application/vnd.docker.distribution.manifest.v1+json;q=0.1";

/// OCI's media types (image-spec media-types.md), and Docker's of the same things.
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Largest size that a descriptor may claim: the integers that every JSON parser keeps (RFC 7493, 2.2).
const MAX_SIZE: u64 = (1 << 53) - 1;

/// A name for content: its digest, its size and what it is (image-spec descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    /// In bytes. A claim, to be checked while reading; nothing is allocated by it.
    #[serde(deserialize_with = "size")]
    pub(crate) size: u64,
    /// The content itself, in base64, if it is small; a claim as well.
    pub(crate) data: Option<String>,
}

impl Descriptor {
    /// Returns the content if the descriptor brings it along, verified; `None` if it must be fetched.
    pub(crate) fn inline(&self) -> Result<Option<Vec<u8>>> {
        let Some(data) = &self.data else {
            return Ok(None);
        };
        let name = || format!("the content of `{}` in its descriptor", self.digest.short());
        let bytes = STANDARD.decode(data);
        let bytes = bytes.with_context(|| format!("{} is no base64", name()))?;
        ensure!(
            bytes.len() as u64 == self.size,
            "{} has {} bytes, and {} were promised",
            name(),
            bytes.len(),
            self.size
        );
        let mut hasher = Hasher::new(self.digest.algorithm());
        hasher.update(&bytes);
        ensure!(
            hasher.finish() == self.digest,
            "{} has another digest",
            name()
        );
        Ok(Some(bytes))
    }
}

/// Tells whether a layer of this media type may not be handed on by registries (image-spec, "Non-Distributable
/// Layers"): its descriptor names other places for it, which we do not ask.
pub(crate) fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".foreign.") || media_type.contains(".nondistributable.")
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if size > MAX_SIZE {
        return Err(D::Error::custom(format!("size {size} is no real size")));
    }
    Ok(size)
}

/// Refuses a layer whose media type names something else than a tar, plain or in a compression that we
/// know. Which of these it is, its own first bytes tell.
fn check_layer(layer: &Descriptor) -> Result<()> {
    const TARS: [&str; 4] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let suffix = TARS
        .iter()
        .find_map(|tar| layer.media_type.strip_prefix(tar));
    ensure!(
        matches!(suffix, Some("" | "+gzip" | ".gzip" | "+zstd" | ".zstd")),
        "layer `{}` has the unknown media type `{}`",
        layer.digest.short(),
        printable(&layer.media_type)
    );
    Ok(())
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) config: Descriptor,
    /// Base first.
    pub(crate) layers: Vec<Descriptor>,
}

/// The images that one name has, for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    descriptor: Descriptor,
    platform: Option<Platform>,
}

/// What a registry serves for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manifest {
    Index(Index),
    Image(Image),
}

/// Both kinds of manifest as one: which it is shows in the fields.
/// serde refuses fields that come twice, so that no two readers can see two different images.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<WireEntry>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    media_type: String,
    digest: Digest,
    #[serde(deserialize_with = "size")]
    size: u64,
    data: Option<String>,
    platform: Option<WirePlatform>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Manifest {
    /// Reads the manifest in `bytes`, served as `content_type` for `name` (which errors show).
    ///
    /// Whatever could be read in two ways is refused (CVE-2021-41190), and so is what is no image.
    pub(crate) fn parse(bytes: &[u8], content_type: &str, name: &str) -> Result<Self> {
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| anyhow::anyhow!("{}", printable(&error.to_string())))
            .with_context(|| format!("the manifest of `{name}` is malformed"))?;
        let served = content_type.split(';').next().unwrap_or_default().trim();
        let served = served.to_ascii_lowercase();
        if wire.schema_version == Some(1)
            || wire.fs_layers.is_some()
            || served.contains("docker.distribution.manifest.v1+")
        {
            bail!(
                "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. \
                 Suggest the author of {name} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2."
            );
        }
        ensure!(
            wire.schema_version == Some(2),
            "the manifest of `{name}` has no schema version that we know"
        );
        let is_index = kind(&wire, &served, name)?;
        if is_index {
            let entries = wire.manifests.unwrap_or_default();
            let entries = entries.into_iter().filter_map(entry).collect();
            return Ok(Self::Index(Index { entries }));
        }
        let config = wire
            .config
            .with_context(|| format!("the manifest of `{name}` names no config"))?;
        check_config(&config, wire.artifact_type.as_deref())?;
        let layers = wire.layers.unwrap_or_default();
        for layer in &layers {
            check_layer(layer)?;
        }
        Ok(Self::Image(Image { config, layers }))
    }
}

/// Tells an index from an image. The media type in the document, the one it was served as, and
/// its fields must agree as far as they are there.
fn kind(wire: &Wire, served: &str, name: &str) -> Result<bool> {
    let looks_like_image = wire.config.is_some() || wire.layers.is_some();
    let looks_like_index = wire.manifests.is_some();
    ensure!(
        looks_like_image != looks_like_index,
        "the manifest of `{name}` is {}",
        if looks_like_image {
            "an image and an index at once"
        } else {
            "neither an image nor an index"
        }
    );
    let written = wire.media_type.as_deref().filter(|text| !text.is_empty());
    // `application/json` and `text/plain` say nothing; the types of registries are all vendor types.
    let served = Some(served).filter(|text| text.starts_with("application/vnd."));
    if let (Some(written), Some(served)) = (written, served) {
        ensure!(
            written == served,
            "the manifest of `{name}` calls itself `{}` but was served as `{}`",
            printable(written),
            printable(served)
        );
    }
    if let Some(media_type) = written.or(served) {
        let is_index = match media_type {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            other => bail!(
                "the manifest of `{name}` has the unknown media type `{}`",
                printable(other)
            ),
        };
        ensure!(
            is_index == looks_like_index,
            "the manifest of `{name}` calls itself `{media_type}` but looks different"
        );
    }
    Ok(looks_like_index)
}

/// Returns an entry of an index; `None` for attestations and other artifacts, which are no images.
fn entry(wire: WireEntry) -> Option<Entry> {
    let annotations = wire.annotations.unwrap_or_default();
    if wire.artifact_type.is_some() || annotations.contains_key("vnd.docker.reference.type") {
        return None;
    }
    let platform = wire.platform.filter(|platform| !platform.os.is_empty());
    let platform = platform.map(|platform| {
        Platform::new(
            &platform.os,
            &platform.architecture,
            platform.variant.as_deref(),
        )
    });
    if platform
        .as_ref()
        .is_some_and(|platform| platform.os == "unknown")
    {
        return None;
    }
    let descriptor = Descriptor {
        media_type: wire.media_type,
        digest: wire.digest,
        size: wire.size,
        data: wire.data,
    };
    Some(Entry {
        descriptor,
        platform,
    })
}

/// Refuses charts, models, modules and the like, by name.
fn check_config(config: &Descriptor, artifact_type: Option<&str>) -> Result<()> {
    if matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        return Ok(());
    }
    let media_type = artifact_type.unwrap_or(&config.media_type);
    let kinds = [
        ("helm", "a Helm chart"),
        ("wasm", "a WebAssembly module"),
        ("model", "a model"),
        ("ollama", "a model"),
        ("in-toto", "an attestation"),
        ("signature", "a signature"),
        ("cosign", "a signature"),
        ("sigstore", "a signature"),
        ("spdx", "a bill of materials"),
        ("cyclonedx", "a bill of materials"),
        ("buildkit.cache", "a build cache"),
        ("docker.plugin", "a Docker plugin"),
        ("compose", "a Compose file"),
        ("sif", "a Singularity image"),
    ];
    let kind = kinds.iter().find(|(word, _)| media_type.contains(word));
    let kind = kind.map_or("something else", |(_, kind)| kind);
    bail!(
        "this is no container image but {kind} (`{}`)",
        printable(media_type)
    )
}

fn is_index(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type.as_str();
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

fn is_image(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type.as_str();
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

impl Index {
    /// Returns what may be or lead to the image that runs best on `wanted`, the best first; of equals, the first. What is
    /// an index itself is asked after the images that say as much of where they run.
    pub(crate) fn choose(&self, wanted: &Platform) -> Result<Vec<&Descriptor>> {
        let rank = |entry: &Entry| match &entry.platform {
            Some(platform) => wanted.rank(platform),
            // What does not say where it runs is meant if there is no other; an index says it inside.
            None if is_index(&entry.descriptor) => Some(usize::MAX),
            None => (self.entries.len() == 1).then_some(0),
        };
        let ranked = self.entries.iter().filter_map(|entry| {
            let descriptor = &entry.descriptor;
            Some(((rank(entry)?, is_index(descriptor)), descriptor))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        for (_, descriptor) in ranked.iter().take(1) {
            ensure!(
                is_index(descriptor) || is_image(descriptor),
                "the image for {wanted} has the unknown media type `{}`",
                printable(&descriptor.media_type)
            );
        }
        let known = ranked.into_iter().map(|(_, descriptor)| descriptor);
        Ok(known
            .filter(|descriptor| is_index(descriptor) || is_image(descriptor))
            .collect())
    }

    /// Returns the error that there is nothing for `wanted`.
    pub(crate) fn has_none(&self, wanted: &Platform) -> anyhow::Error {
        anyhow::anyhow!(
            "no matching manifest for {wanted} in the manifest list entries; {}",
            self.offers()
        )
    }

    fn offers(&self) -> String {
        let platforms = self
            .entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref());
        let mut names: Vec<_> = platforms
            .map(|platform| printable(&platform.to_string()))
            .collect();
        names.sort();
        names.dedup();
        // A hostile index has thousands.
        names.truncate(30);
        if names.is_empty() {
            return "it names no platform".to_owned();
        }
        format!("there is {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{HEX}"), "size": 7})
    }

    fn image() -> Value {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
               "config": descriptor(OCI_CONFIG), "layers": [descriptor(LAYER)]})
    }

    fn index(platforms: &[&str]) -> Value {
        let entries: Vec<_> = platforms
            .iter()
            .enumerate()
            .map(|(at, platform)| {
                let words: Vec<_> = platform.split('/').collect();
                let mut entry = descriptor(OCI_MANIFEST);
                entry["size"] = at.into();
                if words.len() > 1 {
                    entry["platform"] = json!({"os": words[0], "architecture": words[1]});
                }
                if let Some(variant) = words.get(2) {
                    entry["platform"]["variant"] = (*variant).into();
                }
                entry
            })
            .collect();
        json!({"schemaVersion": 2, "manifests": entries})
    }

    fn parse_as(document: &Value, content_type: &str) -> Result<Manifest> {
        Manifest::parse(
            document.to_string().as_bytes(),
            content_type,
            "r.example/x:1",
        )
    }

    fn refusal(document: &Value) -> String {
        format!("{:#}", parse_as(document, "application/json").unwrap_err())
    }

    fn choose(document: &Value, wanted: &str) -> Result<u64> {
        let Manifest::Index(index) = parse_as(document, "").unwrap() else {
            panic!("no index");
        };
        let wanted = wanted.parse().unwrap();
        let chosen = index.choose(&wanted)?;
        let best = chosen.first().ok_or_else(|| index.has_none(&wanted))?;
        Ok(best.size)
    }

    #[test]
    fn an_image_is_read_under_every_name_it_may_have() {
        let mut document = image();
        for content_type in [
            OCI_MANIFEST,
            "application/json",
            "text/plain; charset=utf-8",
            "",
        ] {
            let Manifest::Image(image) = parse_as(&document, content_type).unwrap() else {
                panic!("no image");
            };
            assert_eq!((image.layers.len(), image.config.size), (1, 7));
        }
        document["mediaType"] = Value::Null;
        document["layers"] = Value::Null;
        assert!(parse_as(&document, DOCKER_MANIFEST).is_ok());
    }

    #[test]
    fn documents_with_two_readings_are_refused() {
        let mut both = image();
        both["manifests"] = json!([]);
        assert!(refusal(&both).contains("an image and an index at once"));
        assert!(refusal(&json!({"schemaVersion": 2})).contains("neither"));
        let served_otherwise = parse_as(&image(), OCI_INDEX).unwrap_err();
        assert!(served_otherwise.to_string().contains("was served as"));
        let mut disguised = image();
        disguised["mediaType"] = OCI_INDEX.into();
        assert!(refusal(&disguised).contains("looks different"));
        let twice = image().to_string().replacen('{', r#"{"layers":[],"#, 1);
        assert!(Manifest::parse(twice.as_bytes(), "", "x").is_err());
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        for (media_type, name) in [
            ("application/vnd.cncf.helm.config.v1+json", "a Helm chart"),
            (
                "application/vnd.wasm.config.v0+json",
                "a WebAssembly module",
            ),
            ("application/vnd.cncf.model.config.v1+json", "a model"),
            ("application/vnd.oci.empty.v1+json", "something else"),
        ] {
            let mut document = image();
            document["config"] = descriptor(media_type);
            let refusal = refusal(&document);
            assert!(
                refusal.contains(name) && refusal.contains(media_type),
                "{refusal}"
            );
        }
        let mut layer = image();
        layer["layers"] = json!([descriptor(
            "application/vnd.oci.image.layer.v1.tar+lz4\u{1b}"
        )]);
        assert!(
            refusal(&layer).contains("tar+lz4\\u{1b}"),
            "{}",
            refusal(&layer)
        );
        let schema1 = json!({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []});
        assert!(refusal(&schema1).contains("Suggest the author of r.example/x:1 to upgrade"));
        let mut unknown = image();
        unknown["mediaType"] = "application/vnd.example+json".into();
        assert!(refusal(&unknown).contains("unknown media type"));
    }

    #[test]
    fn sizes_and_digests_that_cannot_be_are_refused() {
        for size in [
            json!(-1),
            json!(1e30),
            json!(1.5),
            json!(u64::MAX),
            json!(1_u64 << 53),
            json!("7"),
        ] {
            let mut document = image();
            document["layers"][0]["size"] = size.clone();
            assert!(refusal(&document).contains("malformed"), "{size}");
        }
        for digest in ["sha256:../../x?y", "md5:00", "sha256:"] {
            let mut document = image();
            document["config"]["digest"] = digest.into();
            assert!(refusal(&document).contains("invalid digest"), "{digest}");
        }
        let deep = format!(r#"{{"schemaVersion":2,"layers":{}"#, "[".repeat(200_000));
        assert!(Manifest::parse(deep.as_bytes(), "", "x").is_err());
    }

    #[test]
    fn tars_are_taken_in_every_known_compression_foreign_ones_too() {
        for media_type in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
            LAYER,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
        ] {
            let mut document = image();
            document["layers"] = json!([descriptor(media_type)]);
            assert!(parse_as(&document, "").is_ok(), "{media_type}");
        }
    }

    #[test]
    fn the_best_platform_is_chosen_and_of_equals_the_first() {
        let several = index(&[
            "windows/amd64",
            "linux/386",
            "linux/amd64",
            "linux/amd64",
            "linux/arm/v7",
        ]);
        assert_eq!(choose(&several, "linux/amd64/v3").unwrap(), 2);
        assert_eq!(choose(&several, "linux/arm64").unwrap(), 4);
        let error = choose(&several, "linux/riscv64").unwrap_err().to_string();
        assert_eq!(
            error,
            "no matching manifest for linux/riscv64 in the manifest list entries; \
             there is linux/386, linux/amd64, linux/arm/v7, windows/amd64"
        );
        assert_eq!(choose(&index(&["-"]), "linux/riscv64").unwrap(), 0);
        assert!(choose(&index(&["-", "linux/arm"]), "linux/amd64").is_err());
    }

    #[test]
    fn attestations_and_artifacts_are_never_chosen_and_no_inner_index_is_followed() {
        let mut document = index(&[
            "unknown/unknown",
            "linux/amd64",
            "linux/amd64",
            "linux/amd64",
        ]);
        document["manifests"][1]["annotations"] =
            json!({"vnd.docker.reference.type": "attestation-manifest"});
        document["manifests"][2]["artifactType"] = "application/vnd.example".into();
        assert_eq!(choose(&document, "linux/amd64").unwrap(), 3);
        document["manifests"][3]["mediaType"] = OCI_INDEX.into();
        // One inside it is looked at, and one that does not say for whom after all others.
        assert_eq!(choose(&document, "linux/amd64").unwrap(), 3);
        document["manifests"][3]["platform"] = Value::Null;
        assert_eq!(choose(&document, "linux/arm64").unwrap(), 3);
    }
}
