//! Credentials: the user's name and password for a registry, from Docker's configuration file.

use crate::reference::DOCKER_HUB;
use crate::registry::error::Identity;
use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The key under which Docker keeps Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A name and a password. It has no `Debug`, so that it cannot end up in a message.
pub(crate) struct Login {
    user: String,
    password: String,
    origin: String,
}

impl Login {
    /// Returns whom these credentials make us.
    pub(crate) fn identity(&self) -> Identity {
        Identity::User {
            name: self.user.clone(),
            origin: self.origin.clone(),
        }
    }

    /// Returns the `Authorization` header of RFC 7617.
    pub(crate) fn basic(&self) -> HeaderValue {
        let pair = STANDARD.encode(format!("{}:{}", self.user, self.password));
        let mut value =
            HeaderValue::try_from(format!("Basic {pair}")).expect("base64 is a header value");
        value.set_sensitive(true);
        value
    }
}

/// The part of Docker's `config.json` that is read.
#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

/// Where credentials are looked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// `None` for a user without a home.
    file: Option<PathBuf>,
}

impl Credentials {
    /// Returns those of this process's user.
    pub(crate) fn of_user() -> Self {
        let directory = match std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
            Some(directory) => Some(PathBuf::from(directory)),
            None => std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")),
        };
        let file = directory.map(|directory| directory.join("config.json"));
        Self { file }
    }

    #[cfg(test)]
    pub(crate) fn in_file(path: PathBuf) -> Self {
        Self { file: Some(path) }
    }

    /// Returns what there is for `registry`, `None` if there is nothing.
    ///
    /// It is read at each call: a login in another terminal counts at once.
    pub(crate) fn find(&self, registry: &str) -> Result<Option<Login>> {
        let Some(path) = &self.file else {
            return Ok(None);
        };
        match fs_err::read(path) {
            Ok(text) => find_in(&text, path, registry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("reading the credentials"),
        }
    }
}

fn find_in(text: &[u8], path: &Path, registry: &str) -> Result<Option<Login>> {
    // Of an error only the place is shown: serde would quote the value, which may be a password.
    let configuration: Configuration = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!(
            "{} is no Docker configuration (line {line}, column {column})",
            path.display()
        )
    })?;
    let exact = if registry == DOCKER_HUB {
        HUB_KEY
    } else {
        registry
    };
    let entry = configuration.auths.get_key_value(exact).or_else(|| {
        configuration
            .auths
            .iter()
            .find(|(key, _)| host(key) == registry)
    });
    let Some((key, entry)) = entry else {
        return Ok(None);
    };
    let origin = format!("key `{key}` in {}", path.display());
    let Some((user, password)) = decode(entry).with_context(|| origin.clone())? else {
        return Ok(None);
    };
    Ok(Some(Login {
        user,
        password,
        origin,
    }))
}

/// Returns the host that a key is about: older clients wrote `https://host/v1/`.
fn host(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

/// Returns the name and the password; `None` for an entry that has neither, such as `{}`.
fn decode(entry: &Entry) -> Result<Option<(String, String)>> {
    if entry.auth.is_empty() {
        let found = !entry.username.is_empty();
        return Ok(found.then(|| (entry.username.clone(), entry.password.clone())));
    }
    let bytes = STANDARD.decode(entry.auth.trim()).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.context("`auth` is no base64 of a text")?;
    let (user, password) = text
        .split_once(':')
        .context("`auth` has no colon between user and password")?;
    Ok(Some((
        user.to_owned(),
        password.trim_matches('\0').to_owned(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str) -> Result<Option<(String, String)>> {
        let login = find_in(text.as_bytes(), Path::new("/c.json"), registry)?;
        Ok(login.map(|login| (login.user, login.password)))
    }

    #[test]
    fn credentials_are_found_under_every_form_of_the_key() {
        // alice:se:cret, bob:pw followed by a NUL
        let text = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"YWxpY2U6c2U6Y3JldA=="},
            "r.example:5000":{"auth":"Ym9iOnB3AA=="},
            "https://old.example/v1/":{"username":"carol","password":"x"},
            "helper.example":{}}, "credsStore":"desktop", "HttpHeaders":{"a":"b"}}"#;
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (registry, expected) in [
            ("docker.io", pair("alice", "se:cret")),
            ("r.example:5000", pair("bob", "pw")),
            ("r.example", None),
            ("old.example", pair("carol", "x")),
            ("helper.example", None),
        ] {
            assert_eq!(found(text, registry).unwrap(), expected, "{registry}");
        }
        assert_eq!(found("{}", "docker.io").unwrap(), None);
    }

    #[test]
    fn errors_name_the_place_and_never_the_secret() {
        for text in [
            r#"{"auths":{"r":{"auth":["c2VjcmV0"]}}}"#,
            r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r":{"auth":"c2VjcmV0!"}}}"#,
        ] {
            let error = format!("{:#}", found(text, "r").unwrap_err());
            assert!(error.contains("/c.json"), "{error}");
            assert!(
                !error.contains("c2VjcmV0") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
