//! An image as `docker inspect` describes it.

use crate::digest::Digest;
use crate::platform::Platform;
use crate::reference::Reference;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// An image as its description needs it.
pub(crate) struct View {
    pub(crate) id: Digest,
    pub(crate) tags: Vec<Reference>,
    pub(crate) repo_digests: Vec<Reference>,
    pub(crate) created: Option<DateTime<Utc>>,
    pub(crate) author: String,
    pub(crate) platform: Platform,
    /// Unpacked, in bytes.
    pub(crate) size: u64,
    /// The config's `config` object, as the image has it.
    pub(crate) config: Value,
    pub(crate) diff_ids: Vec<Digest>,
    /// Where the layers lie unpacked, base first.
    pub(crate) lower_directories: Vec<PathBuf>,
}

/// Returns Docker's description of `image`.
pub(crate) fn describe(image: &View) -> Value {
    let names = |references: &[Reference]| -> Vec<String> {
        references.iter().map(Reference::familiar).collect()
    };
    // overlayfs and Docker list the topmost layer first.
    let lower: Vec<_> = image
        .lower_directories
        .iter()
        .rev()
        .map(|path| path.to_string_lossy())
        .collect();
    let document = Document {
        id: image.id.to_string(),
        repo_tags: names(&image.tags),
        repo_digests: image.repo_digests.iter().map(repo_digest).collect(),
        created: image
            .created
            .map(|created| created.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        author: &image.author,
        config: &image.config,
        architecture: &image.platform.architecture,
        variant: image.platform.variant.as_deref(),
        os: &image.platform.os,
        size: image.size,
        graph_driver: json!({"Data": {"LowerDir": lower.join(":")}, "Name": "overlay2"}),
        root_fs: json!({
            "Type": "layers",
            "Layers": image.diff_ids.iter().map(Digest::to_string).collect::<Vec<_>>(),
        }),
    };
    serde_json::to_value(document).expect("a document of strings and numbers is JSON")
}

/// `ubuntu@sha256:…`, without a tag.
fn repo_digest(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.familiar_name()),
        None => reference.familiar(),
    }
}

/// The fields in Docker's order (Engine API, `ImageInspect`).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    author: &'a str,
    config: &'a Value,
    architecture: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    os: &'a str,
    size: u64,
    graph_driver: Value,
    #[serde(rename = "RootFS")]
    root_fs: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_layer_comes_first_in_lowerdir_and_last_in_layers() {
        let tag: Reference = "ubuntu".parse().unwrap();
        let image = View {
            id: Digest::of(b"config"),
            tags: vec![tag.clone()],
            repo_digests: vec![tag.with_digest(Digest::of(b"index"))],
            created: "2026-01-01T10:00:00.5Z".parse().ok(),
            author: String::new(),
            platform: "linux/arm/v7".parse().unwrap(),
            size: 78_000_000,
            config: json!({"Env": ["PATH=/bin"], "Cmd": ["bash"]}),
            diff_ids: vec![Digest::of(b"base"), Digest::of(b"top")],
            lower_directories: vec!["/s/base/fs".into(), "/s/top/fs".into()],
        };
        insta::assert_json_snapshot!(describe(&image), @r#"
        {
          "Id": "sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910",
          "RepoTags": [
            "ubuntu:latest"
          ],
          "RepoDigests": [
            "ubuntu@sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6"
          ],
          "Created": "2026-01-01T10:00:00.500Z",
          "Author": "",
          "Config": {
            "Env": [
              "PATH=/bin"
            ],
            "Cmd": [
              "bash"
            ]
          },
          "Architecture": "arm",
          "Variant": "v7",
          "Os": "linux",
          "Size": 78000000,
          "GraphDriver": {
            "Data": {
              "LowerDir": "/s/top/fs:/s/base/fs"
            },
            "Name": "overlay2"
          },
          "RootFS": {
            "Type": "layers",
            "Layers": [
              "sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2",
              "sha256:28720365c5e7476a011e4f43ac003ee5f16247a263b9d623aa85ed311d73bf39"
            ]
          }
        }
        "#);
    }
}
