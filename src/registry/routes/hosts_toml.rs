//! containerd's `hosts.toml` (its docs/hosts.md): hosts that answer for a registry, one file a registry.

use crate::reference::Reference;
use crate::registry::routes::{Base, Files, Places, Route, Security};
use anyhow::{Context, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    /// In the order in which they stand there: it is the order in which they are asked.
    #[serde(default, deserialize_with = "in_order")]
    host: Vec<(String, Host)>,
    #[serde(flatten)]
    settings: Host,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Host {
    capabilities: Option<Vec<String>>,
    skip_verify: bool,
    ca: OneOrMany<PathBuf>,
    client: Option<Client>,
    override_path: bool,
    header: BTreeMap<String, OneOrMany<String>>,
}

/// One file with certificate and key, or a list of such files and of pairs of both.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(PathBuf),
    Many(Vec<OneOrMany<PathBuf>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Returns the hosts for `reference`, and its registry. `None` if there is no file.
pub(super) fn find(
    places: &Places,
    reference: &Reference,
) -> Result<Option<(Vec<Route>, Option<Route>)>> {
    let Some(system) = &places.system else {
        return Ok(None);
    };
    let directory = system.join("containerd/certs.d");
    for name in [reference.registry(), "_default"] {
        let path = directory.join(name).join("hosts.toml");
        if let Some(text) = super::read(places, &path)? {
            let context = || path.display().to_string();
            let file: File = super::toml(&path, &text)?;
            return routes(&file, &path, reference)
                .with_context(context)
                .map(Some);
        }
    }
    Ok(None)
}

fn routes(file: &File, path: &Path, reference: &Reference) -> Result<(Vec<Route>, Option<Route>)> {
    let mut mirrors = Vec::new();
    for (url, host) in &file.host {
        let can = |what: &str| {
            let capabilities = host.capabilities.as_ref();
            capabilities.is_none_or(|list| list.iter().any(|it| it == what))
        };
        if !can("pull") {
            continue;
        }
        let mut route = host.route(url, path, reference)?;
        route.digests_only = !can("resolve");
        mirrors.push(route);
    }
    let server = file.server.as_deref().unwrap_or(reference.registry());
    let mut origin = file.settings.route(server, path, reference)?;
    if origin.registry == reference.registry() {
        origin.namespace = None;
    }
    Ok((mirrors, Some(origin)))
}

impl Host {
    fn route(&self, url: &str, path: &Path, reference: &Reference) -> Result<Route> {
        let base: Base = url
            .parse()
            .with_context(|| format!("host `{}`", shown(url)))?;
        let mut route = Route::mirror(&base, reference);
        // `/v2` is often written out.
        if (self.override_path && !base.path.is_empty()) || base.path.ends_with("/v2") {
            route.path = base.path;
        }
        route.namespace = Some(reference.registry().to_owned());
        if self.skip_verify && route.security == Security::Verified {
            route.security = Security::Insecure;
        }
        route.headers = self.headers()?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        route.files = self.files(directory);
        Ok(route)
    }

    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.header {
            for value in values.as_slice() {
                // The value may be a secret, and is not shown.
                let context = || format!("header `{name}` is none");
                let name: HeaderName = name.parse().with_context(context)?;
                let mut value = HeaderValue::from_str(value).with_context(context)?;
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        Ok(headers)
    }

    fn files(&self, directory: &Path) -> Files {
        let in_directory = |path: &PathBuf| directory.join(path);
        // Only one can be shown to the server: the first.
        let client: &[PathBuf] = match &self.client {
            None => &[],
            Some(Client::One(file)) => std::slice::from_ref(file),
            Some(Client::Many(list)) => list.first().map_or(&[], OneOrMany::as_slice),
        };
        let key = client.get(1).filter(|key| !key.as_os_str().is_empty());
        Files {
            roots: self.ca.as_slice().iter().map(in_directory).collect(),
            client: client
                .first()
                .map(|it| (in_directory(it), key.map(in_directory))),
        }
    }
}

/// Returns a URL without what may be a password in it.
fn shown(url: &str) -> &str {
    url.rsplit('@').next().unwrap_or_default()
}

/// Reads a table as the list of its entries.
fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Host)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, Host)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of hosts")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries)
}
