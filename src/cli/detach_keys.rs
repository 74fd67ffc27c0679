//! The keys that detach: the user's, else those of Docker's configuration, else Docker's.

use crate::cli::failure::Refusal;
use crate::monitor::DetachKeys;
use anyhow::{Context, Result};
use std::env;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Returns the keys for a terminal; `given` is `--detach-keys`.
pub(crate) fn choose(given: Option<&str>) -> Result<DetachKeys> {
    let text = match given {
        Some(text) => Some(text.to_owned()),
        None => configured()?,
    };
    let Some(text) = text else {
        return Ok(DetachKeys::default());
    };
    DetachKeys::parse(&text).map_err(|error| {
        Refusal::new(format!("invalid detach keys ({text}) provided: {error:#}")).into()
    })
}

/// Returns `detachKeys` of Docker's `config.json`, if there is one.
fn configured() -> Result<Option<String>> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    let own = variable("DOCKER_CONFIG").map(PathBuf::from);
    let directory = own.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")));
    let Some(directory) = directory else {
        return Ok(None);
    };
    let path = directory.join("config.json");
    let text = match fs_err::read(&path) {
        // Somebody else's home, under sudo, has nothing to say.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None);
        }
        text => text?,
    };
    let config: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("reading `{}`", path.display()))?;
    let keys = config.get("detachKeys").and_then(|keys| keys.as_str());
    Ok(keys.filter(|keys| !keys.is_empty()).map(str::to_owned))
}
