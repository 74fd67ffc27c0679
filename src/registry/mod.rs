//! Registries: the distribution protocol over HTTP; the only place that speaks it.

mod access;
mod authorization;
mod blob;
mod challenge;
mod credentials;
mod endpoint;
mod error;
mod manifest;
mod retry;
#[cfg(test)]
pub(crate) mod testing;
mod token;
mod transport;

pub(crate) use access::Access;
pub(crate) use blob::{Blob, Piece};
pub(crate) use error::RegistryError;
pub(crate) use manifest::{Descriptor, Image, Manifest};

use crate::digest::{Digest, Hasher};
use crate::reference::Reference;
use anyhow::{anyhow, bail, ensure};
use endpoint::Endpoint;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};
use retry::Patience;
use std::ops::Range;
use std::time::Duration;
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

    /// Returns the image that this document is, got for the entry `entry` of an index.
    pub(crate) fn image(&self, entry: &Descriptor) -> anyhow::Result<&Image> {
        let Manifest::Image(image) = &self.manifest else {
            bail!("the index has an index inside, which is not followed");
        };
        let (size, expected) = (self.bytes.len(), entry.size);
        ensure!(
            size as u64 == expected,
            "the manifest has {size} bytes, the index says {expected}"
        );
        Ok(image)
    }
}

/// What happens on the way that the user should know while it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Nothing moves for so long; then the request is repeated.
    Waiting { why: String, wait: Duration },
}

/// A client for one repository.
pub(crate) struct Client<'e> {
    endpoint: Endpoint,
    /// The path below `/v2/`.
    repository: String,
    notify: &'e dyn Fn(Notice),
}

impl<'e> Client<'e> {
    /// Returns a client for the repository of `reference`. Nothing is asked yet.
    pub(crate) fn new(
        reference: &Reference,
        access: &Access,
        notify: &'e dyn Fn(Notice),
    ) -> anyhow::Result<Self> {
        Ok(Self {
            endpoint: Endpoint::new(reference, access)?,
            repository: reference.repository().to_owned(),
            notify,
        })
    }

    /// Asks what `reference` names now. `None` if the registry does not tell; what it tells is a hint.
    pub(crate) async fn head(
        &self,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        let (headers, _) = self
            .fetch(&self.manifest_request(Method::HEAD, reference), reference)
            .await?;
        let digest = headers.get("docker-content-digest");
        Ok(digest.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// Gets the manifest or index that `reference` names. If it has a digest, the bytes are right.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<Document, RegistryError> {
        let request = self.manifest_request(Method::GET, reference);
        let (headers, bytes) = self.fetch(&request, reference).await?;
        let content_type = headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Ok(Document::read(
            bytes,
            content_type.unwrap_or_default(),
            reference,
        )?)
    }

    /// Gets a config, verified.
    pub(crate) async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size > MAX_CONFIG {
            return Err(
                anyhow!("the config has {} bytes, more than 8 MiB", descriptor.size).into(),
            );
        }
        let mut blob = self.blob(&descriptor.digest, descriptor.size, 0..descriptor.size);
        let mut bytes = Vec::new();
        while let Some(piece) = blob.next().await? {
            match piece {
                Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
                Piece::Retrying { why, wait } => (self.notify)(Notice::Waiting { why, wait }),
            }
        }
        verified(&bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// Returns a part of the blob of this digest and size; its first piece asks for it. A descriptor's `urls`
    /// are never followed (CVE-2020-15157).
    pub(crate) fn blob(&self, digest: &Digest, size: u64, part: Range<u64>) -> Blob<'_> {
        Blob::new(self, digest.clone(), size, part)
    }

    /// Sends a request once; see [`Endpoint::send`].
    async fn send(
        &self,
        request: &Request,
        what: impl Fn() -> String,
    ) -> Result<Response, RegistryError> {
        self.endpoint.send(request, what).await
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

    /// Sends a request for a manifest until there is an answer, or no hope for one.
    async fn fetch(
        &self,
        request: &Request,
        reference: &Reference,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let mut patience = Patience::of_question();
        loop {
            let error = match self.fetch_once(request, reference).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let why = error.to_string();
            let wait = patience.wait(&error).ok_or(error)?;
            (self.notify)(Notice::Waiting { why, wait });
            tokio::time::sleep(wait).await;
        }
    }

    async fn fetch_once(
        &self,
        request: &Request,
        reference: &Reference,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let what = || format!("manifest for `{}`", reference.familiar());
        let mut response = self.send(request, what).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| self.endpoint.transport.failure(&error))?
        {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_MANIFEST {
                return Err(anyhow!(
                    "the manifest of `{}` has more than 4 MiB",
                    reference.familiar()
                )
                .into());
            }
        }
        Ok((response.headers().clone(), bytes))
    }
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
