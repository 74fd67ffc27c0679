//! The keys that detach: the user's, else those of Docker's configuration, else Docker's.

use crate::cli::failure::Refusal;
use crate::cli::output;
use crate::monitor::DetachKeys;
use crate::sys::file;
use anyhow::Result;
use std::env;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Returns the keys for a terminal; `given` is `--detach-keys`.
pub(crate) fn choose(given: Option<&str>) -> Result<DetachKeys> {
    let text = match given {
        Some(text) => Some(text.to_owned()),
        None => configured(),
    };
    let Some(text) = text else {
        return Ok(DetachKeys::default());
    };
    DetachKeys::parse(&text).map_err(|error| {
        Refusal::new(format!("invalid detach keys ({text}) provided: {error:#}")).into()
    })
}

/// Returns `detachKeys` of Docker's `config.json`, if there is one.
fn configured() -> Option<String> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    let own = variable("DOCKER_CONFIG").map(PathBuf::from);
    let directory = own.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")))?;
    let path = directory.join("config.json");
    let text = match file::read(&path) {
        Err(error) => {
            // Somebody else's home, under sudo, has nothing to say, and none has neither.
            let is_missing = matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
            );
            if !is_missing {
                pass_over(&error);
            }
            return None;
        }
        Ok(text) => text,
    };
    let config: serde_json::Value = match serde_json::from_slice(&text) {
        Ok(config) => config,
        Err(error) => {
            pass_over(&format!("reading `{}`: {error}", path.display()));
            return None;
        }
    };
    let keys = config.get("detachKeys").and_then(|keys| keys.as_str());
    keys.filter(|keys| !keys.is_empty()).map(str::to_owned)
}

/// What is wrong with a file that others write keeps nobody from running anything, as with Docker.
fn pass_over(error: &dyn Display) {
    output::tell(&format!(
        "ddock: the keys that detach are Docker's usual ones: {error}\n"
    ));
}
