//! Endpoints: a host that serves a repository, and what it takes to be answered by it.

use crate::reference::Reference;
use crate::registry::access::Access;
use crate::registry::authorization::Authorization;
use crate::registry::error::{self, Detail, RegistryError};
use crate::registry::retry;
use crate::registry::transport::{Request, Transport};
use reqwest::{Response, StatusCode};

/// One host that serves a repository: the registry that its name says.
pub(crate) struct Endpoint {
    pub(crate) transport: Transport,
    authorization: Authorization,
    /// As the user knows it: `docker.io`.
    pub(crate) registry: String,
}

impl Endpoint {
    /// Returns the registry of `reference`. Nothing is asked yet.
    pub(crate) fn new(reference: &Reference, access: &Access) -> anyhow::Result<Self> {
        let registry = reference.registry();
        Ok(Self {
            transport: Transport::new(reference)?,
            authorization: Authorization::new(
                registry,
                reference.repository(),
                reference.familiar_name(),
                access.credentials.clone(),
            ),
            registry: registry.to_owned(),
        })
    }

    /// Returns the registry of `reference`, to be asked about no repository.
    pub(crate) fn to_log_in(reference: &Reference, access: &Access) -> anyhow::Result<Self> {
        let registry = reference.registry();
        let credentials = access.credentials.clone();
        Ok(Self {
            authorization: Authorization::new(registry, "", registry.to_owned(), credentials),
            ..Self::new(reference, access)?
        })
    }

    /// Sends a request, answers a challenge once, and returns the answer if it is a success.
    /// `what` names for errors what is asked for.
    pub(crate) async fn send(
        &self,
        request: &Request,
        what: impl Fn() -> String,
    ) -> Result<Response, RegistryError> {
        let used = self.authorization.header(&self.transport).await;
        let mut response = self.transport.send(request, used.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.transport.is_own(&response) {
            let authorization = &self.authorization;
            let renewed = authorization.renew(&self.transport, used, response.headers());
            response = self.transport.send(request, Some(&renewed.await?)).await?;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.failure(response, what()).await)
    }

    /// Returns what the answer `response`, which is no success, means.
    async fn failure(&self, mut response: Response, what: String) -> RegistryError {
        let status = response.status().as_u16();
        let after = retry::after(response.headers());
        let own = self.transport.is_own(&response);
        let detail = Detail::of_response(&mut response).await;
        match status {
            401 | 403 if own => self.authorization.failure(&response, detail).await,
            401 | 403 => RegistryError::LinkRefused {
                host: error::host(response.url()),
                status,
                detail,
            },
            404 if own => RegistryError::NotFound {
                what,
                registry: self.registry.clone(),
                detail,
            },
            429 => RegistryError::RateLimited {
                registry: self.registry.clone(),
                detail,
                after,
            },
            _ => RegistryError::Status {
                host: error::host(response.url()),
                status,
                detail,
                after,
            },
        }
    }
}
