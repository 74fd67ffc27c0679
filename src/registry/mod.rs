//! Registries: the distribution protocol over HTTP; the only place that speaks it.

mod access;
mod authorization;
mod blob;
mod challenge;
mod credentials;
mod endpoint;
mod error;
mod limit;
mod log_in;
mod manifest;
mod notice;
mod own_file;
mod proxy;
mod retry;
mod routes;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod token;
mod transport;

pub(crate) use access::Access;
pub(crate) use blob::{Blob, Piece};
pub(crate) use credentials::{Given, Keeper, Keyring, Secret};
pub(crate) use error::{Identity, RegistryError};
pub(crate) use log_in::{registry_of, verify};
pub(crate) use manifest::{Descriptor, Index, Manifest, is_foreign};
pub(crate) use notice::Notice;
pub(crate) use routes::{Flags, Insecure, Mirror};

use crate::digest::{Digest, Hasher};
use crate::reference::Reference;
use anyhow::{anyhow, ensure};
use endpoint::Endpoint;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response, Url};
use retry::Patience;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use transport::Request;

/// Largest manifest or index, in bytes (distribution-spec, "Pushing Manifests", asks registries for no more).
const MAX_MANIFEST: usize = 4 << 20;

/// Largest config, in bytes; real ones are a few kilobytes.
const MAX_CONFIG: u64 = 8 << 20;

/// A registry's answer for a name: a manifest or an index, its bytes as served.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    /// Computed from the bytes.
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
}

impl Document {
    /// Reads the manifest or index `bytes` of a reference: those of a registry or a copy of them.
    /// If the reference has a digest, it must be theirs.
    pub(crate) fn read(
        bytes: Vec<u8>,
        content_type: &str,
        reference: &Reference,
    ) -> anyhow::Result<Self> {
        let digest = match reference.digest() {
            Some(expected) => verified(&bytes, expected)?,
            None => Digest::of(&bytes),
        };
        let manifest = Manifest::parse(&bytes, content_type, &reference.familiar())?;
        Ok(Self {
            bytes,
            digest,
            manifest,
        })
    }

    /// Refuses a document of another size than its `entry` in an index says.
    pub(crate) fn check_size(&self, entry: &Descriptor) -> anyhow::Result<()> {
        let (size, expected) = (self.bytes.len(), entry.size);
        ensure!(
            size as u64 == expected,
            "the manifest has {size} bytes, the index says {expected}"
        );
        Ok(())
    }
}

/// A whole answer that is no blob.
struct Answer {
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Which of a client's hosts gave an answer.
#[derive(Clone, Copy)]
struct ServedBy(usize);

/// A client for one repository.
pub(crate) struct Client<'e> {
    /// The mirrors in order, and last the registry itself.
    endpoints: Vec<Endpoint>,
    /// The mirrors of which was told that they failed.
    told: RefCell<BTreeSet<String>>,
    /// The path below `/v2/`.
    repository: String,
    notify: &'e dyn Fn(Notice),
    /// That few requests are left is told once.
    near_limit: AtomicBool,
}

impl<'e> Client<'e> {
    /// Returns a client for the repository of `reference`. Nothing is asked yet.
    pub(crate) fn new(
        reference: &Reference,
        access: &Access,
        notify: &'e dyn Fn(Notice),
    ) -> anyhow::Result<Self> {
        let routes = access.routes.to(reference)?.into_iter();
        let endpoints: anyhow::Result<_> = routes
            .map(|route| Endpoint::new(route, reference, access))
            .collect();
        Ok(Self {
            endpoints: endpoints?,
            told: RefCell::default(),
            repository: reference.repository().to_owned(),
            notify,
            near_limit: AtomicBool::new(false),
        })
    }

    /// Returns the registry, as the user knows it.
    fn registry(&self) -> &str {
        self.endpoints.last().map_or("", |origin| &origin.registry)
    }

    /// Asks what `reference` names now. `None` if the registry does not tell; what it tells is a hint.
    pub(crate) async fn head(
        &self,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        let request = self.manifest_request(Method::HEAD, reference);
        let answer = self.fetch(&request, &what(reference)).await?;
        let digest = answer.headers.get("docker-content-digest");
        Ok(digest.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// Gets the manifest or index that `reference` names. If it has a digest, the bytes are right.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<Document, RegistryError> {
        let (bytes, content_type) = self.served(reference).await?;
        Ok(Document::read(bytes, &content_type, reference)?)
    }

    /// Gets what `reference` names, whatever it is, and its media type as served. If the reference has a digest,
    /// the bytes are right.
    pub(crate) async fn served(
        &self,
        reference: &Reference,
    ) -> Result<(Vec<u8>, String), RegistryError> {
        let request = self.manifest_request(Method::GET, reference);
        let mut answer = self.fetch(&request, &what(reference)).await?;
        if let Some(expected) = reference.digest()
            && verified(&answer.body, expected).is_err()
        {
            // A fault on the way may be gone, or a mirror at fault.
            self.distrust_mirrors();
            answer = self.fetch(&request, &what(reference)).await?;
            verified(&answer.body, expected)?;
        }
        let content_type = answer.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Ok((answer.body, content_type.unwrap_or_default().to_owned()))
    }

    /// Gets a config, verified.
    pub(crate) async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        if let Some(bytes) = descriptor.inline()? {
            return Ok(bytes);
        }
        if descriptor.size > MAX_CONFIG {
            return Err(
                anyhow!("the config has {} bytes, more than 8 MiB", descriptor.size).into(),
            );
        }
        let mut bytes = self.read(descriptor).await?;
        if verified(&bytes, &descriptor.digest).is_err() {
            // As for a manifest.
            self.distrust_mirrors();
            bytes = self.read(descriptor).await?;
        }
        verified(&bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// Gets all of a small blob.
    async fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let mut blob = self.blob(&descriptor.digest, descriptor.size, 0..descriptor.size);
        let mut bytes = Vec::new();
        while let Some(piece) = blob.next().await? {
            match piece {
                Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
                Piece::Retrying { why, wait } => (self.notify)(Notice::Waiting { why, wait }),
            }
        }
        Ok(bytes)
    }

    /// Returns a part of the blob of this digest and size; its first piece asks for it. A descriptor's `urls`
    /// are never followed (CVE-2020-15157).
    pub(crate) fn blob(&self, digest: &Digest, size: u64, part: Range<u64>) -> Blob<'_> {
        Blob::new(self, digest.clone(), size, part)
    }

    /// Leaves the mirrors alone from now on: one of them served other bytes than it was asked for.
    pub(crate) fn distrust_mirrors(&self) {
        self.endpoints.iter().for_each(Endpoint::give_up);
    }

    /// Sends a request once to each host in turn, until one gives what is asked for; see [`Endpoint::send`].
    /// The error is the registry's own: what mirrors lack is only a notice.
    async fn send(
        &self,
        request: &Request,
        what: impl Fn() -> String,
    ) -> Result<Response, RegistryError> {
        let asked = self.endpoints.iter().enumerate();
        for (at, endpoint) in asked.filter(|(_, endpoint)| endpoint.is_asked(request)) {
            match endpoint.send(request, &what).await {
                Ok(mut response) => {
                    response.extensions_mut().insert(ServedBy(at));
                    return Ok(response);
                }
                Err(error) if endpoint.has_stand_in(&error) => self.tell_failure(endpoint, &error),
                Err(error) => return Err(error),
            }
        }
        unreachable!("the registry itself is always asked, and its error is final")
    }

    /// Returns what it means that the body of `response` broke so. A mirror that breaks off is not
    /// asked again: what is missing comes from the next host.
    fn broke(&self, response: &Response, error: &reqwest::Error) -> RegistryError {
        let endpoint = self.server(response);
        let error = endpoint.transport.failure(error);
        if endpoint.has_stand_in(&error) {
            self.tell_failure(endpoint, &error);
        }
        error
    }

    /// Returns the host that gave `response`, one of this client's.
    fn server(&self, response: &Response) -> &Endpoint {
        let at = response.extensions().get::<ServedBy>();
        let at = at.map_or(self.endpoints.len() - 1, |ServedBy(at)| *at);
        &self.endpoints[at]
    }

    fn tell_failure(&self, mirror: &Endpoint, error: &RegistryError) {
        let name = mirror.registry.clone();
        if self.told.borrow_mut().insert(name.clone()) {
            let why = error.to_string();
            (self.notify)(Notice::MirrorFailed { mirror: name, why });
        }
    }

    fn manifest_request(&self, method: Method, reference: &Reference) -> Request {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.expect("a reference has a tag or a digest").to_owned(),
        };
        Request {
            method,
            path: format!("{}/manifests/{name}", self.repository),
            accept: Some(manifest::ACCEPT),
            part: None,
        }
    }

    /// Sends a request until there is an answer, or no hope for one. `what` names for errors what is asked for.
    async fn fetch(&self, request: &Request, what: &str) -> Result<Answer, RegistryError> {
        let mut patience = Patience::of_question();
        loop {
            let error = match self.fetch_once(request, what).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let why = error.to_string();
            let wait = patience.wait(&error, false).ok_or(error)?;
            (self.notify)(Notice::Waiting { why, wait });
            tokio::time::sleep(wait).await;
        }
    }

    async fn fetch_once(&self, request: &Request, what: &str) -> Result<Answer, RegistryError> {
        let mut response = self.send(request, || what.to_owned()).await?;
        let server = self.server(&response);
        if let Some(notice) = limit::near(response.headers(), &server.registry)
            && !self.near_limit.swap(true, Ordering::Relaxed)
        {
            (self.notify)(notice);
        }
        if server.is_mirror() && !request.is_by_digest() {
            let mirror = server.registry.clone();
            (self.notify)(Notice::ResolvedByMirror { mirror });
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| self.broke(&response, &error))?
        {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_MANIFEST {
                return Err(anyhow!("the {what} has more than 4 MiB").into());
            }
        }
        Ok(Answer {
            url: response.url().clone(),
            headers: response.headers().clone(),
            body: bytes,
        })
    }
}

fn what(reference: &Reference) -> String {
    format!("manifest for `{}`", reference.familiar())
}

/// Returns the digest of `bytes` if it is `expected`.
fn verified(bytes: &[u8], expected: &Digest) -> anyhow::Result<Digest> {
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    ensure!(
        found == *expected,
        "the registry sent {found} where {expected} was asked for"
    );
    Ok(found)
}

#[cfg(test)]
mod tests;
