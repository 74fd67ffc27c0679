//! Docker's `daemon.json`: mirrors of Docker Hub, and registries that need not prove who they are.

use crate::registry::routes::{Base, Insecure, Places};
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::path::Path;
use std::str::FromStr;

/// What of it is about registries.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    pub(super) registry_mirrors: Vec<Base>,
    pub(super) insecure_registries: Vec<Insecure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry_mirrors: Vec<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
}

/// Reads the user's file (a rootless daemon's) and the machine's.
pub(super) fn read(places: &Places) -> Result<Daemon> {
    let mut daemon = Daemon::default();
    for path in places.all("docker/daemon.json").iter().rev() {
        let Some(text) = super::read(places, path)? else {
            continue;
        };
        let file: File =
            serde_json::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        daemon
            .registry_mirrors
            .extend(parsed(&file.registry_mirrors, path)?);
        daemon
            .insecure_registries
            .extend(parsed(&file.insecure_registries, path)?);
    }
    Ok(daemon)
}

fn parsed<T: FromStr<Err = anyhow::Error>>(texts: &[String], path: &Path) -> Result<Vec<T>> {
    let parse = |text: &String| text.parse().with_context(|| path.display().to_string());
    texts.iter().map(parse).collect()
}
