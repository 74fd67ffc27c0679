//! Whose fault an error of an operation is, and what to do about it: the one place that knows all kinds of them.

use crate::engine::cure::Unavailable;
use crate::fault::{Fault, Kind, find};
use crate::reference::{DOCKER_HUB, ParseError};
use crate::registry::{Identity, RegistryError};
use crate::runtime::StartError;
use crate::spec::Unmapped;
use crate::store::{ActiveEndpoints, Damaged, InUse, NameInUse, NotFound, Unreadable};
use crate::sys::lock::Held;
use anyhow::Error;
use std::io::{self, ErrorKind};

/// Returns whose fault `error` is.
pub(crate) fn blame(error: &Error) -> Kind {
    if let Some(fault) = find::<Fault>(error) {
        return fault.kind;
    }
    if find::<NotFound>(error).is_some() {
        return Kind::NotFound;
    }
    let is_taken = find::<NameInUse>(error).is_some() || find::<InUse>(error).is_some();
    if is_taken || find::<ActiveEndpoints>(error).is_some() {
        return Kind::Conflict;
    }
    if find::<ParseError>(error).is_some() || find::<Unmapped>(error).is_some() {
        return Kind::Invalid;
    }
    if let Some(error) = find::<RegistryError>(error) {
        return match error {
            RegistryError::NotFound { .. } => Kind::NotFound,
            RegistryError::Denied { .. } | RegistryError::WrongCredentials { .. } => {
                Kind::Forbidden
            }
            _ => Kind::Unavailable,
        };
    }
    let is_lacking = find::<Unavailable>(error).is_some() || find::<Held>(error).is_some();
    match find(error) {
        Some(StartError::Unenforceable { .. }) => Kind::Unavailable,
        Some(StartError::CommandNotFound(_) | StartError::CommandNotExecutable(_)) => Kind::Invalid,
        Some(StartError::Setup(_)) | None if is_lacking => Kind::Unavailable,
        Some(StartError::Setup(_)) | None => Kind::Internal,
    }
}

/// Returns what to do about `error`, if we know the cure.
pub(crate) fn hint(error: &Error) -> Option<String> {
    if let Some(fault) = find::<Fault>(error) {
        return fault.hint.clone();
    }
    if let Some(Unavailable { cure, .. }) = find(error) {
        return Some(cure.clone());
    }
    if let Some(StartError::Unenforceable { cure, .. }) = find(error) {
        return cure.clone();
    }
    if let Some(error) = find::<RegistryError>(error) {
        return registry_hint(error);
    }
    if let Some(held) = find::<Held>(error) {
        return Some(held.hint());
    }
    if let Some(Unreadable { cure, .. }) = find(error) {
        return Some(cure.clone());
    }
    let hint = if find::<Damaged>(error).is_some() {
        "`ddock pull` it again to repair it"
    } else if let Some(missing) = find::<NotFound>(error) {
        missing.hint()
    } else {
        match find::<io::Error>(error)?.kind() {
            ErrorKind::StorageFull => {
                "make room: `ddock rmi` removes images, `ddock rm` stopped containers"
            }
            _ => return None,
        }
    };
    Some(hint.to_owned())
}

fn registry_hint(error: &RegistryError) -> Option<String> {
    let hint = match error {
        RegistryError::Denied {
            registry, identity, ..
        } => {
            let login = login(registry);
            return Some(match identity {
                Identity::Anonymous => {
                    format!("check the name; if the repository is private, `{login}` first")
                }
                Identity::User { .. } => {
                    format!("check the name, or `{login}` as a user who may read it")
                }
            });
        }
        RegistryError::WrongCredentials { registry, .. } => {
            return Some(format!("`{}` again", login(registry)));
        }
        RegistryError::RateLimited { .. } => {
            "wait and pull again, or log in: registries give known users more"
        }
        RegistryError::Untrusted { .. } => {
            "if its authority is your own, name its PEM file in SSL_CERT_FILE"
        }
        RegistryError::Unreachable { .. } => {
            "check the registry's name and the network; a proxy is taken from HTTPS_PROXY"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Returns the command that logs in to `registry`.
fn login(registry: &str) -> String {
    if registry == DOCKER_HUB {
        "ddock login".to_owned()
    } else {
        format!("ddock login {registry}")
    }
}
