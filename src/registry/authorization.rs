//! Authorization: how one registry's challenges are answered, and what its refusals mean.

use crate::registry::challenge::{self, Challenge};
use crate::registry::credentials::{Credentials, Login};
use crate::registry::error::{Detail, Identity, RegistryError};
use crate::registry::token;
use crate::registry::transport::Transport;
use anyhow::anyhow;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::Mutex;

/// What a registry takes from us for one repository.
pub(crate) struct Authorization {
    /// As the user knows it: `docker.io`.
    registry: String,
    /// The path below `/v2/`.
    repository: String,
    /// As the user knows it: `ubuntu`.
    name: String,
    credentials: Credentials,
    /// The header that the registry took last; one task renews it while the others wait.
    header: Mutex<Option<HeaderValue>>,
}

impl Authorization {
    pub(crate) fn new(
        registry: &str,
        repository: &str,
        name: String,
        credentials: Credentials,
    ) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            name,
            credentials,
            header: Mutex::new(None),
        }
    }

    /// Returns the `Authorization` header that the registry took last.
    pub(crate) async fn header(&self) -> Option<HeaderValue> {
        self.header.lock().await.clone()
    }

    /// Returns the header that answers the challenge in `headers`, given to a request that carried `used`.
    pub(crate) async fn renew(
        &self,
        transport: &Transport,
        used: Option<HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<HeaderValue, RegistryError> {
        let mut header = self.header.lock().await;
        if let Some(current) = &*header
            && Some(current) != used.as_ref()
        {
            // Another task was faster.
            return Ok(current.clone());
        }
        let login = self.login()?;
        let challenges = challenge::parse(headers);
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let renewed = if let Some((realm, service, scope)) = bearer {
            let default = format!("repository:{}:pull", self.repository);
            let wanted = token::Wanted {
                realm,
                service: service.as_deref(),
                scope: scope.as_deref().unwrap_or(&default),
                name: &self.name,
                registry: &self.registry,
            };
            token::fetch(transport, &wanted, login.as_ref()).await?
        } else if challenges.contains(&Challenge::Basic) {
            let login = login.ok_or_else(|| self.denied(None, Detail::default()))?;
            let basic = login.basic();
            if used.as_ref() == Some(&basic) {
                return Err(self.refused(&login));
            }
            basic
        } else {
            let registry = &self.registry;
            return Err(anyhow!("`{registry}` asks to log in in a way that we do not know").into());
        };
        *header = Some(renewed.clone());
        Ok(renewed)
    }

    /// Returns what the answer `response`, a 401 or 403 of the registry's own, means.
    ///
    /// A Basic challenge after the answer to it means that name or password are wrong; anything
    /// else, that whoever we are may not read this.
    pub(crate) fn failure(&self, response: &Response, detail: Detail) -> RegistryError {
        let basic = challenge::parse(response.headers()).contains(&Challenge::Basic);
        match self.login() {
            Ok(Some(login)) if response.status() == 401 && basic => self.refused(&login),
            Ok(login) => self.denied(login.as_ref(), detail),
            Err(error) => error.into(),
        }
    }

    fn login(&self) -> anyhow::Result<Option<Login>> {
        self.credentials.find(&self.registry)
    }

    fn refused(&self, login: &Login) -> RegistryError {
        RegistryError::WrongCredentials {
            registry: self.registry.clone(),
            identity: login.identity(),
        }
    }

    fn denied(&self, login: Option<&Login>, detail: Detail) -> RegistryError {
        RegistryError::Denied {
            name: self.name.clone(),
            identity: login.map_or(Identity::Anonymous, Login::identity),
            detail,
        }
    }
}
