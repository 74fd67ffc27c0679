//! Routes: which hosts may answer for a repository, as flags and configuration files have it.

mod daemon_json;
mod flags;
mod hosts_toml;
mod places;
mod registries_conf;
mod route;

pub(crate) use flags::{Flags, Insecure, Mirror};
pub(crate) use places::Places;
pub(crate) use route::{Base, Files, Route, Security};

use crate::reference::{DOCKER_HUB, Reference};
use crate::registry::own_file;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Where a user's wishes about the way to registries are. The files are read at each call: no
/// daemon is to be restarted after a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    pub(crate) flags: Flags,
    pub(crate) places: Places,
}

impl Routes {
    /// Returns the ways to the repository of `reference`: its mirrors in order, then the registry itself.
    ///
    /// Mirrors are those of the first source that has any: flags, registries.conf, hosts.toml,
    /// daemon.json. The registry is where registries.conf, else hosts.toml says. It is insecure if
    /// any source says so.
    pub(crate) fn to(&self, reference: &Reference) -> Result<Vec<Route>> {
        let podman = registries_conf::find(&self.places, reference)?;
        let containerd = hosts_toml::find(&self.places, reference)?;
        let docker = daemon_json::read(&self.places)?;
        let (mut mirrors, origin) = podman.unwrap_or_default();
        let (others, server) = containerd.unwrap_or_default();
        let flags = self.flags.mirrors(reference);
        if !flags.is_empty() {
            mirrors = flags;
        } else if mirrors.is_empty() {
            mirrors = others;
        }
        if mirrors.is_empty() && reference.registry() == DOCKER_HUB {
            let hub = docker.registry_mirrors.iter();
            mirrors = hub.map(|base| Route::mirror(base, reference)).collect();
        }
        let origin = match origin.or(server) {
            Some(origin) => origin,
            None => Route::origin(reference)?,
        };
        let mut routes = mirrors;
        routes.push(Route {
            is_mirror: false,
            ..origin
        });
        for route in &mut routes {
            let insecure = docker.insecure_registries.iter().any(|it| it.means(route))
                || self.flags.insecure.iter().any(|it| it.means(route))
                || (!route.is_mirror && self.flags.skip_verify);
            if insecure && route.security == Security::Verified {
                route.security = Security::Insecure;
            }
        }
        Ok(routes)
    }
}

/// Reads a file; `None` if there is none. One of the user's own that is no file, or not his to read, is none either: that
/// is a word, and no reason to fail; the machine's may forbid something.
fn read(places: &Places, path: &Path) -> Result<Option<String>> {
    let context = "reading the configuration of registries";
    let text = match own_file::read(path) {
        Err(_) if places.is_users(path) => None,
        read => read.context(context)?,
    };
    text.map(|text| {
        String::from_utf8(text).with_context(|| format!("{context}: `{}`", path.display()))
    })
    .transpose()
}

/// Reads the text of a TOML file; an error names the line.
fn toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = 1 + before.unwrap_or_default().matches('\n').count();
        anyhow::anyhow!("{} line {line}: {}", path.display(), error.message())
    })
}

#[cfg(test)]
mod tests;
