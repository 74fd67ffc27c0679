//! Logging in: whether a registry takes a user's name and password.

use crate::reference::Reference;
use crate::registry::access::Access;
use crate::registry::credentials::{Credentials, Login, Proof, Secret, registry_of_key};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::RegistryError;
use crate::registry::routes::Flags;
use crate::registry::transport::Request;
use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;

/// Returns the registry that `server` names as users write it: `host[:port]`, or a URL of it.
pub(crate) fn registry_of(server: &str) -> Result<String> {
    let host = registry_of_key(server);
    let reference = any_repository(host)?;
    Ok(reference.registry().to_owned())
}

/// Returns a reference to something in `registry`: its own rules say what a registry's name is.
fn any_repository(registry: &str) -> Result<Reference> {
    let reference: Option<Reference> = format!("{registry}/any").parse().ok();
    let reference = reference.filter(|reference| reference.registry() == registry);
    reference.with_context(|| {
        format!("`{registry}` is no name of a registry: a host with a dot, a port or both is")
    })
}

/// Fails unless `registry` takes this user name and password.
///
/// From here on the process may have several threads.
pub(crate) fn verify(registry: &str, user: &str, password: &Secret) -> Result<()> {
    ensure!(!user.contains(':'), "a user name has no colon");
    let login = Login {
        user: user.to_owned(),
        proof: Proof::Password(password.clone()),
        origin: "as given".to_owned(),
    };
    let access = Access {
        credentials: Credentials::only(registry, login),
        ..Access::anonymous(Flags::default())
    };
    let endpoint = Endpoint::to_log_in(&any_repository(registry)?, &access)?;
    // The base of the protocol (distribution-spec, "Determining Support"): who may use it at all?
    let request = Request {
        method: Method::GET,
        path: String::new(),
        accept: None,
        part: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let answer = runtime.block_on(endpoint.send(&request, || "the registry protocol".to_owned()));
    // A look-up of a name cannot be stopped, and need not be waited for.
    runtime.shutdown_background();
    match answer {
        Ok(_) => Ok(()),
        Err(RegistryError::WrongCredentials { .. }) => {
            bail!("`{registry}` refuses the user name or password")
        }
        Err(RegistryError::Denied { detail, .. }) => {
            bail!("`{registry}` refuses the user name or password{detail}")
        }
        Err(error) => Err(error.into()),
    }
}
