//! Files: what Docker and podman write about registries, and the entries in it.

use crate::registry::credentials::key;
use crate::registry::credentials::login::{Login, Proof};
use crate::registry::credentials::secret::Secret;
use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The part of Docker's `config.json` and podman's `auth.json` that is about credentials.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Configuration {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Entry>,
    #[serde(deserialize_with = "or_default")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    creds_store: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Secret,
    username: String,
    password: Secret,
    identitytoken: Secret,
    registrytoken: Secret,
}

/// Go, which Docker and podman are written in, reads `null` as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Configuration {
    /// Reads `text`. `origin` names it in errors, which never quote it.
    pub(crate) fn parse(text: &[u8], origin: &str) -> Result<Self> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(text).map_err(|error| malformed(&error, origin))
    }

    /// Reads the text of a `.dockercfg`, in which the entries have nothing around them.
    pub(crate) fn parse_flat(text: &[u8], origin: &str) -> Result<Self> {
        let auths = serde_json::from_slice(text).map_err(|error| malformed(&error, origin))?;
        Ok(Self {
            auths,
            ..Self::default()
        })
    }

    /// Returns the name of the helper that keeps what is about `registry`.
    pub(crate) fn helper(&self, registry: &str) -> Option<&str> {
        let own = key::best(self.cred_helpers.keys(), registry, "");
        let name = own.map_or(self.creds_store.as_str(), |key| &self.cred_helpers[key]);
        // An empty name for a registry means that the file itself keeps it.
        Some(name).filter(|name| !name.is_empty())
    }

    /// Returns the entry for `repository` of `registry`. `None` if there is none or it is empty:
    /// that marks what a helper keeps.
    pub(crate) fn entry(
        &self,
        registry: &str,
        repository: &str,
        origin: &str,
    ) -> Result<Option<Login>> {
        let Some(key) = key::best(self.auths.keys(), registry, repository) else {
            return Ok(None);
        };
        let origin = format!("key `{key}` in {origin}");
        let login = self.auths[key].login().with_context(|| origin.clone())?;
        Ok(login.map(|(user, proof)| Login {
            user,
            proof,
            origin,
        }))
    }
}

fn malformed(error: &serde_json::Error, origin: &str) -> anyhow::Error {
    // Of the error only the place is shown: serde would quote the value, which may be a password.
    let (line, column) = (error.line(), error.column());
    anyhow!("{origin} is no Docker configuration (line {line}, column {column})")
}

impl Entry {
    fn login(&self) -> Result<Option<(String, Proof)>> {
        let (user, password) = self.pair()?;
        let proof = if !self.registrytoken.is_empty() {
            Proof::RegistryToken(self.registrytoken.clone())
        } else if !self.identitytoken.is_empty() {
            Proof::IdentityToken(self.identitytoken.clone())
        } else if user.is_empty() && password.is_empty() {
            return Ok(None);
        } else {
            Proof::Password(password)
        };
        Ok(Some((user, proof)))
    }

    fn pair(&self) -> Result<(String, Secret)> {
        if self.auth.is_empty() {
            return Ok((self.username.clone(), self.password.clone()));
        }
        let bytes = STANDARD.decode(self.auth.expose().trim()).ok();
        let bytes = bytes.map(Zeroizing::new);
        let text = bytes.as_ref().and_then(|b| std::str::from_utf8(b).ok());
        let text = text.context("`auth` is no base64 of a text")?;
        let (user, password) = text
            .split_once(':')
            .context("`auth` has no colon between user and password")?;
        // Old clients padded it (docker/cli, `DecodeAuth`).
        let password = password.trim_matches('\0').to_owned();
        Ok((user.to_owned(), password.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str) -> Result<Option<(String, Proof)>> {
        let configuration = Configuration::parse(text.as_bytes(), "/c.json")?;
        let login = configuration.entry(registry, "x", "/c.json")?;
        Ok(login.map(|login| (login.user, login.proof)))
    }

    fn secret(text: &str) -> Secret {
        text.to_owned().into()
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        // alice:se:cret, bob:pw followed by a NUL, an empty name and password
        let text = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"YWxpY2U6c2U6Y3JldA=="},
            "r.example:5000":{"auth":"Ym9iOnB3AA=="},
            "https://old.example/v1/":{"username":"carol","password":"x"},
            "identity.example":{"auth":"Ym9iOg==","identitytoken":"i"},
            "token.example":{"registrytoken":"r","identitytoken":"i"},
            "empty.example":{"auth":"Og=="},
            "helper.example":{}}, "credsStore":null, "HttpHeaders":{"a":"b"}}"#;
        let password = |user: &str, text| Some((user.to_owned(), Proof::Password(secret(text))));
        for (registry, expected) in [
            ("docker.io", password("alice", "se:cret")),
            ("r.example:5000", password("bob", "pw")),
            ("r.example", None),
            ("old.example", password("carol", "x")),
            (
                "identity.example",
                Some(("bob".to_owned(), Proof::IdentityToken(secret("i")))),
            ),
            (
                "token.example",
                Some((String::new(), Proof::RegistryToken(secret("r")))),
            ),
            ("empty.example", None),
            ("helper.example", None),
        ] {
            assert_eq!(found(text, registry).unwrap(), expected, "{registry}");
        }
        assert_eq!(found("{}", "docker.io").unwrap(), None);
        assert_eq!(found("\n", "docker.io").unwrap(), None);
        assert_eq!(found(r#"{"auths":null}"#, "docker.io").unwrap(), None);
    }

    #[test]
    fn the_old_flat_form_is_read() {
        let text = br#"{"https://index.docker.io/v1/":{"auth":"YWxpY2U6cHc=","email":"a@b"}}"#;
        let flat = Configuration::parse_flat(text, "/.dockercfg").unwrap();
        let login = flat.entry("docker.io", "library/x", "/.dockercfg").unwrap();
        let login = login.unwrap();
        assert_eq!(login.user, "alice");
        assert_eq!(
            login.origin,
            "key `https://index.docker.io/v1/` in /.dockercfg"
        );
    }

    #[test]
    fn a_registrys_own_helper_beats_the_general_one() {
        let text = br#"{"credsStore":"desktop","credHelpers":{"r.example":"own","https://index.docker.io/v1/":"hub","file.example":""}}"#;
        let configuration = Configuration::parse(text, "/c.json").unwrap();
        for (registry, expected) in [
            ("r.example", Some("own")),
            ("docker.io", Some("hub")),
            ("file.example", None),
            ("other.example", Some("desktop")),
        ] {
            assert_eq!(configuration.helper(registry), expected, "{registry}");
        }
    }

    #[test]
    fn errors_name_the_place_and_never_the_secret() {
        for text in [
            r#"{"auths":{"r":{"auth":["c2VjcmV0"]}}}"#,
            r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r":{"auth":"c2VjcmV0!"}}}"#,
            r#"{"auths":{"r":{"password":{"c2VjcmV0":1}}}}"#,
            r#"{"auths":{"r":"c2VjcmV0"}}"#,
        ] {
            let error = format!("{:#}", found(text, "r").unwrap_err());
            assert!(error.contains("/c.json"), "{error}");
            assert!(
                !error.contains("c2VjcmV0") && !error.contains("secret"),
                "{error}"
            );
        }
        let text = br#"{"auths":{"r":{"auth":"c2VjcmV0OnNlY3JldA==","identitytoken":"hidden"}}}"#;
        let configuration = Configuration::parse(text, "/c.json").unwrap();
        let login = configuration.entry("r", "x", "/c.json").unwrap().unwrap();
        let shown = format!("{configuration:?} {:?}", login.proof);
        assert!(
            !shown.contains("hidden") && !shown.contains("c2VjcmV0"),
            "{shown}"
        );
    }
}
