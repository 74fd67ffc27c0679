//! Endpoints: a host that serves a repository, and what it takes to be answered by it.

use crate::reference::Reference;
use crate::registry::access::Access;
use crate::registry::authorization::Authorization;
use crate::registry::error::{self, Detail, RegistryError};
use crate::registry::retry;
use crate::registry::routes::Route;
use crate::registry::transport::{Request, Transport};
use reqwest::{Response, StatusCode};
use std::sync::atomic::{AtomicBool, Ordering};

/// One host that serves a repository: the registry that its name says, or a mirror of it.
pub(crate) struct Endpoint {
    pub(crate) transport: Transport,
    authorization: Authorization,
    /// As the user knows it: `docker.io`.
    pub(crate) registry: String,
    /// The repository's name in references, and its name here.
    names: (String, String),
    is_mirror: bool,
    digests_only: bool,
    /// A mirror that failed: it is left alone from then on.
    is_given_up: AtomicBool,
}

impl Endpoint {
    /// Returns the host that `route` leads to. Nothing is asked yet.
    ///
    /// It is authenticated to as who we are there: a mirror is not told who we are at the registry.
    pub(crate) fn new(
        route: Route,
        reference: &Reference,
        access: &Access,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            authorization: Authorization::new(
                &route.registry,
                &route.repository,
                reference.familiar_name(),
                access.credentials.clone(),
            ),
            registry: route.registry.clone(),
            names: (reference.repository().to_owned(), route.repository.clone()),
            is_mirror: route.is_mirror,
            digests_only: route.digests_only,
            is_given_up: AtomicBool::new(false),
            transport: Transport::new(route, access)?,
        })
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.is_mirror
    }

    /// Tells whether a mirror is to be asked; the registry itself always is.
    pub(crate) fn is_asked(&self, request: &Request) -> bool {
        !self.is_mirror
            || (!self.is_given_up.load(Ordering::Relaxed)
                && (request.is_by_digest() || !self.digests_only))
    }

    /// Leaves a mirror alone from now on; the registry itself is asked all the same.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// Tells whether another host may know better than this one, which failed with `error`.
    pub(crate) fn has_stand_in(&self, error: &RegistryError) -> bool {
        if !self.is_mirror {
            return false;
        }
        if error.is_of_transport() {
            self.give_up();
        }
        true
    }

    /// Returns `request` as it is put here, where the repository may have another name.
    fn translated(&self, request: &Request) -> Option<Request> {
        let (name, own) = &self.names;
        if name == own {
            return None;
        }
        let rest = request.path.strip_prefix(name.as_str())?;
        Some(Request {
            path: format!("{own}{rest}"),
            ..request.clone()
        })
    }

    /// Returns the registry of `reference`, to be asked about no repository.
    pub(crate) fn to_log_in(reference: &Reference, access: &Access) -> anyhow::Result<Self> {
        let registry = reference.registry();
        let credentials = access.credentials.clone();
        let mut routes = access.routes.to(reference)?;
        let route = routes.pop().expect("the registry itself comes last");
        Ok(Self {
            authorization: Authorization::new(registry, "", registry.to_owned(), credentials),
            ..Self::new(route, reference, access)?
        })
    }

    /// Sends a request, answers a challenge once, and returns the answer if it is a success.
    /// `what` names for errors what is asked for.
    pub(crate) async fn send(
        &self,
        request: &Request,
        what: impl Fn() -> String,
    ) -> Result<Response, RegistryError> {
        let translated = self.translated(request);
        let request = translated.as_ref().unwrap_or(request);
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
            400 | 401 | 403 | 404 | 410 if !own => RegistryError::Expired {
                host: error::host(response.url()),
                registry: self.registry.clone(),
                status,
            },
            401 | 403 => self.authorization.failure(&response, detail).await,
            404 => RegistryError::NotFound {
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
