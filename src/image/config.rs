//! An image's config: what it is made for, what it runs, how it came to be.

use crate::digest::Digest;
use crate::platform::Platform;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An image's config (image-spec config.md, and what Docker adds to it). The crates' types lack
/// `Healthcheck`, `OnBuild` and `Shell`. As Docker does, `null` is taken for an empty list or map, a lone string for a list of one,
/// and what is unknown is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
    #[serde(default)]
    pub(crate) created: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) author: String,
    /// What the commands see; the defaults of `run`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) config: ContainerConfig,
    pub(crate) rootfs: RootFs,
    /// Oldest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) history: Vec<History>,
}

impl ImageConfig {
    /// Reads a config, whose size the caller has limited.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).context("reading the image's config")
    }

    /// Returns the platform that the image is made for.
    pub(crate) fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// The layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct RootFs {
    /// Base first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    #[serde(default)]
    pub(crate) created: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) created_by: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) author: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) comment: String,
    /// True if the step made no layer.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) empty_layer: bool,
}

/// What containers of an image run with, unless the user says otherwise. Its JSON is Docker's, for `inspect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerConfig {
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) user: String,
    /// Keys are `80/tcp`.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) exposed_ports: Vec<String>,
    /// `NAME=VALUE`
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) env: Vec<String>,
    /// `None` if not set, which an empty list is not.
    #[serde(deserialize_with = "words")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub(crate) cmd: Option<Vec<String>>,
    /// Absolute paths.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) volumes: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<Healthcheck>,
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) on_build: Vec<String>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub(crate) shell: Option<Vec<String>>,
}

/// How to tell whether a container is well. Times are nanoseconds; 0 is Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Healthcheck {
    /// `NONE`, or `CMD` or `CMD-SHELL` and words.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Reads `null` as the empty value.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads a list of words; a lone string is a list of one (moby `StrSlice`).
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(
        Option::<Words>::deserialize(from)?.map(|words| match words {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        }),
    )
}

/// Reads the keys of a map whose values mean nothing: `{"80/tcp": {}}`.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let map = Option::<BTreeMap<String, Value>>::deserialize(from)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

/// The inverse of [`keys`].
fn as_keys<S: serde::Serializer>(keys: &[String], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(keys.iter().map(|key| (key, Value::Object(Map::new()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_takes_is_taken() {
        let text = r#"{"architecture":"arm64","os":"linux","variant":"v8","x":1,"author":null,
            "created":"2024-04-27T12:00:00.123456789Z","history":[{"created_by":"RUN x","empty_layer":true}],
            "config":{"Cmd":"sh","Entrypoint":null,"Env":null,"Volumes":{"/b":{},"/a":null},"Labels":null,
                "ExposedPorts":null,"OnBuild":null,"Healthcheck":{"Test":["NONE"],"Interval":5}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm64");
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.config.entrypoint, None);
        assert_eq!(config.config.volumes, ["/a", "/b"]);
        assert!(config.history[0].empty_layer);
        assert_eq!(config.config.healthcheck.unwrap().interval, 5);
        assert!(ImageConfig::parse(br#"{"config":null,"rootfs":{}}"#).is_ok());
        assert!(ImageConfig::parse(br#"{"config":{"Cmd":[1]},"rootfs":{}}"#).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["md5:0"]}}"#).is_err());
    }

    #[test]
    fn what_is_written_is_what_docker_writes() {
        let text = r#"{"User":"","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Entrypoint":null,"Cmd":["sh"],"WorkingDir":"/x","Labels":{"a":"b"}}"#;
        let config: ContainerConfig = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
    }
}
