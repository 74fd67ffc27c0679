//! Podman's `registries.conf`, version 2 (containers-registries.conf(5)).

use crate::reference::Reference;
use crate::registry::routes::{Base, Places, Route, Security};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
    /// Not in the file: its path.
    #[serde(skip)]
    file: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    pull: PullFromMirror,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

impl Registry {
    fn prefix(&self) -> &str {
        let prefix = if self.prefix.is_empty() {
            &self.location
        } else {
            &self.prefix
        };
        prefix.trim_end_matches('/')
    }

    /// Returns what of `name`, which is a reference in full, is left behind the part that the
    /// prefix stands for; `None` if it does not match.
    fn rest<'n>(&self, name: &'n str) -> Option<&'n str> {
        let prefix = self.prefix();
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = name.split('/').next()?;
            return host.strip_suffix(domain).map(|_| &name[host.len()..]);
        }
        let rest = name.strip_prefix(prefix)?;
        // `r.example/a` is no prefix of `r.example/ab`, nor `r.example` of `r.example:5000/a`.
        let ends = if prefix.contains('/') {
            rest.is_empty() || rest.starts_with(['/', ':', '@'])
        } else {
            rest.starts_with('/')
        };
        ends.then_some(rest)
    }
}

/// Returns the mirrors of `reference`, and the way to its registry if that is elsewhere than its
/// name says. `None` if no entry matches.
pub(super) fn find(
    places: &Places,
    reference: &Reference,
) -> Result<Option<(Vec<Route>, Option<Route>)>> {
    let registries = registries(places)?;
    let name = reference.to_string();
    let matching = registries.iter().filter(|it| it.rest(&name).is_some());
    // The longest prefix wins; of equals the last that was read.
    let Some(registry) = matching.max_by_key(|it| it.prefix().len()) else {
        return Ok(None);
    };
    let file = || registry.file.display().to_string();
    if registry.blocked {
        bail!("`{}` is blocked by {}", registry.prefix(), file());
    }
    let rest = registry.rest(&name).unwrap_or_default();
    let mut mirrors = Vec::new();
    for mirror in &registry.mirror {
        let by_digest = reference.digest().is_some();
        if by_digest && mirror.pull == PullFromMirror::TagOnly {
            continue;
        }
        let mut route = elsewhere(&mirror.location, rest, reference).with_context(file)?;
        route.digests_only =
            registry.mirror_by_digest_only || mirror.pull == PullFromMirror::DigestOnly;
        if mirror.insecure {
            route.security = Security::Insecure;
        }
        mirrors.push(route);
    }
    let mut origin = if registry.location.is_empty() {
        Route::origin(reference)?
    } else {
        elsewhere(&registry.location, rest, reference).with_context(file)?
    };
    if registry.insecure {
        origin.security = Security::Insecure;
    }
    Ok(Some((mirrors, Some(origin))))
}

/// Returns the way to `location` with `rest` behind it, in place of the reference's own name.
fn elsewhere(location: &str, rest: &str, reference: &Reference) -> Result<Route> {
    ensure!(!location.is_empty(), "a mirror has no `location`");
    ensure!(
        !location.contains("://"),
        "`location` is HOST[:PORT][/PATH], without a scheme"
    );
    let version = reference.to_string();
    let whole = format!("{}/{}", reference.registry(), reference.repository());
    let suffix = version.strip_prefix(&whole).unwrap_or_default();
    let name = rest.strip_suffix(suffix).unwrap_or_default();
    let base: Base = format!("{}{name}", location.trim_end_matches('/')).parse()?;
    let repository = base.path.trim_start_matches('/').to_owned();
    ensure!(
        !repository.is_empty(),
        "`{location}` leaves no repository to ask for"
    );
    let host = Base {
        path: String::new(),
        ..base
    };
    Ok(Route {
        repository,
        ..Route::mirror(&host, reference)
    })
}

/// Reads all entries there are, the least important ones first.
fn registries(places: &Places) -> Result<Vec<Registry>> {
    let mut registries: Vec<Registry> = Vec::new();
    for path in files(places)? {
        let Some(text) = super::read(places, &path)? else {
            ensure!(
                places.registries_conf.as_ref() != Some(&path),
                "{}, which CONTAINERS_REGISTRIES_CONF names, is not there",
                path.display()
            );
            continue;
        };
        let file: File = super::toml(&path, &text)?;
        for registry in file.registry {
            ensure!(
                !registry.prefix().is_empty(),
                "{}: a `[[registry]]` has neither `prefix` nor `location`",
                path.display()
            );
            ensure!(
                !registry.prefix.starts_with('*') || registry.prefix.starts_with("*."),
                "{}: the prefix `{}` is no `*.DOMAIN`",
                path.display(),
                registry.prefix
            );
            // A later file replaces what an earlier one says of the same prefix.
            registries.retain(|it| it.prefix() != registry.prefix() || it.file == path);
            registries.push(Registry {
                file: path.clone(),
                ..registry
            });
        }
    }
    Ok(registries)
}

/// Returns the paths of the files that count, in the order in which they do.
fn files(places: &Places) -> Result<Vec<PathBuf>> {
    let user = places.user.as_ref().map(|place| place.join("containers"));
    let system = places.system.as_ref().map(|place| place.join("containers"));
    let own = user
        .as_ref()
        .filter(|place| place.join("registries.conf").exists());
    let mut files = match &places.registries_conf {
        Some(named) => vec![named.clone()],
        None => own
            .or(system.as_ref())
            .map(|place| place.join("registries.conf"))
            .into_iter()
            .collect(),
    };
    // Who has a file of their own is not told by the machine's.
    let system = system.filter(|_| own.is_none());
    for place in system.iter().chain(&user) {
        files.extend(drop_ins(&place.join("registries.conf.d"))?);
    }
    Ok(files)
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs_err::read_dir(directory) else {
        // There is none, or it is not for us.
        return Ok(Vec::new());
    };
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "conf"));
    paths.sort();
    Ok(paths)
}
