//! Registries: the distribution protocol over HTTP; the only place that speaks it.

mod blob;
mod challenge;
mod credentials;
mod error;
mod manifest;
mod retry;
#[cfg(test)]
pub(crate) mod testing;
mod token;
mod transport;

pub(crate) use blob::{Blob, Piece};
pub(crate) use error::RegistryError;
pub(crate) use manifest::{Descriptor, Image, Manifest};

use crate::digest::{Digest, Hasher};
use crate::reference::Reference;
use anyhow::{anyhow, bail, ensure};
use challenge::Challenge;
use credentials::Login;
use error::{Detail, Identity};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use retry::Patience;
use std::path::PathBuf;
use tokio::sync::Mutex;
use transport::{Request, Transport};

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

/// A client for one repository of one registry.
pub(crate) struct Client {
    transport: Transport,
    /// As the user knows it: `docker.io`.
    registry: String,
    /// The path below `/v2/`.
    repository: String,
    /// As the user knows it: `ubuntu`.
    name: String,
    /// The file with the user's credentials.
    credentials: Option<PathBuf>,
    /// The `Authorization` header that the registry took last; one task renews it while the others wait.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Client {
    /// Returns a client for the repository of `reference`. Nothing is asked yet.
    pub(crate) fn new(reference: &Reference) -> anyhow::Result<Self> {
        Ok(Self {
            transport: Transport::new(reference)?,
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            name: reference.familiar_name(),
            credentials: credentials::path(),
            authorization: Mutex::new(None),
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
        let mut blob = self.blob(&descriptor.digest, descriptor.size);
        let mut bytes = Vec::new();
        while let Some(piece) = blob.next().await? {
            if let Piece::Bytes(piece) = piece {
                bytes.extend_from_slice(&piece);
            }
        }
        verified(&bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// Returns the blob of this digest and size; its first piece asks for it. A descriptor's `urls`
    /// are never followed (CVE-2020-15157).
    pub(crate) fn blob(&self, digest: &Digest, size: u64) -> Blob<'_> {
        Blob::new(self, digest.clone(), size)
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
            offset: 0,
        }
    }

    /// Sends a request for a manifest until there is an answer, or no hope for one.
    async fn fetch(
        &self,
        request: &Request,
        reference: &Reference,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let mut patience = Patience::default();
        loop {
            let error = match self.fetch_once(request, reference).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = patience.wait(&error).ok_or(error)?;
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
            .map_err(|error| self.transport.failure(&error))?
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

    /// Sends a request, answers a challenge once, and returns the answer if it is a success.
    /// `what` names for errors what is asked for.
    async fn send(
        &self,
        request: &Request,
        what: impl Fn() -> String,
    ) -> Result<Response, RegistryError> {
        let used = self.authorization.lock().await.clone();
        let mut response = self.transport.send(request, used.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.transport.is_own(&response) {
            let renewed = self.authorize(used, response.headers()).await?;
            response = self.transport.send(request, Some(&renewed)).await?;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.failure(response, what()).await)
    }

    /// Returns the header that answers the challenge in `headers`, given to a request that carried `used`.
    async fn authorize(
        &self,
        used: Option<HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<HeaderValue, RegistryError> {
        let mut authorization = self.authorization.lock().await;
        if let Some(current) = &*authorization
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
            token::fetch(&self.transport, &wanted, login.as_ref()).await?
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
        *authorization = Some(renewed.clone());
        Ok(renewed)
    }

    /// Returns what the answer `response`, which is no success, means.
    async fn failure(&self, mut response: Response, what: String) -> RegistryError {
        let status = response.status().as_u16();
        let after = retry::after(response.headers());
        let own = self.transport.is_own(&response);
        let detail = Detail::of_response(&mut response).await;
        match status {
            401 | 403 if own => match self.login() {
                Ok(login) => self.unauthorized(&response, status, login.as_ref(), detail),
                Err(error) => error.into(),
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

    /// A Basic challenge after the answer to it means that name or password are wrong; anything
    /// else, that whoever we are may not read this.
    fn unauthorized(
        &self,
        response: &Response,
        status: u16,
        login: Option<&Login>,
        detail: Detail,
    ) -> RegistryError {
        let basic = challenge::parse(response.headers()).contains(&Challenge::Basic);
        match login {
            Some(login) if status == 401 && basic => self.refused(login),
            login => self.denied(login, detail),
        }
    }

    fn login(&self) -> anyhow::Result<Option<Login>> {
        credentials::find(self.credentials.as_deref(), &self.registry)
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
mod tests {
    use super::*;
    use crate::registry::testing::{Answer, Asked, Server, descriptor, image, index, wait};

    fn reference(server: &Server, tag: &str) -> Reference {
        format!("{}/lib/x:{tag}", server.address()).parse().unwrap()
    }

    fn get(server: &Server) -> Result<Document, RegistryError> {
        let reference = reference(server, "1");
        wait(Client::new(&reference).unwrap().manifest(&reference))
    }

    fn text(error: &RegistryError) -> String {
        format!("{error:#}")
    }

    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

    #[test]
    fn a_manifest_is_read_over_plain_http_from_loopback() {
        let server = Server::start(|_, _| {
            Answer::json(&image(b"config", &[b"layer"])).header("Content-Type", DOCKER)
        });
        let document = get(&server).unwrap();
        assert_eq!(document.digest, Digest::of(&document.bytes));
        assert!(matches!(document.manifest, Manifest::Image(image) if image.layers.len() == 1));
        let asked = server.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].path, "/v2/lib/x/manifests/1");
        assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
        assert_eq!(
            asked[0].header("user-agent"),
            Some(concat!("ddock/", env!("CARGO_PKG_VERSION")))
        );
        assert!(
            asked[0]
                .header("accept")
                .unwrap()
                .starts_with("application/vnd.oci.image.index.v1+json, ")
        );
    }

    #[test]
    fn head_returns_the_hint_and_none_without_one() {
        let hinted = Server::start(|_, _| {
            Answer::ok(b"").header("Docker-Content-Digest", &Digest::of(b"x").to_string())
        });
        let plain =
            Server::start(|_, _| Answer::ok(b"").header("Docker-Content-Digest", "sha256:../x"));
        let head = |server: &Server| {
            let reference = reference(server, "1");
            wait(Client::new(&reference).unwrap().head(&reference)).unwrap()
        };
        assert_eq!(head(&hinted), Some(Digest::of(b"x")));
        assert_eq!(head(&plain), None);
        assert_eq!(hinted.asked()[0].method, "HEAD");
    }

    #[test]
    fn manifests_with_another_digest_or_size_are_refused() {
        let server = Server::start(|_, _| Answer::json(&image(b"config", &[])));
        let reference = reference(&server, "1");
        let client = Client::new(&reference).unwrap();
        let error =
            wait(client.manifest(&reference.with_digest(Digest::of(b"other")))).unwrap_err();
        assert!(text(&error).contains("was asked for"), "{error}");
        let bytes = image(b"config", &[]).to_string();
        let mut entry = descriptor(bytes.as_bytes(), "x");
        let document = wait(client.manifest(&reference.with_digest(entry.digest.clone()))).unwrap();
        assert!(document.image(&entry).is_ok());
        entry.size += 1;
        let error = document.image(&entry).unwrap_err();
        assert!(error.to_string().contains("the index says"), "{error}");
    }

    #[test]
    fn an_index_in_an_index_is_refused_even_behind_a_manifests_name() {
        let server = Server::start(|_, _| Answer::json(&index(&[])));
        let document = get(&server).unwrap();
        let entry = descriptor(
            &document.bytes,
            "application/vnd.oci.image.manifest.v1+json",
        );
        let error = document.image(&entry).unwrap_err();
        assert!(error.to_string().contains("an index inside"), "{error}");
    }

    #[test]
    fn a_manifest_over_4_mib_is_not_read_to_its_end() {
        let server = Server::start(|_, _| Answer::ok(&vec![b' '; 64 << 20]));
        let error = get(&server).unwrap_err();
        assert!(text(&error).contains("more than 4 MiB"), "{error}");
    }

    #[test]
    fn schema_1_and_charts_are_refused_from_the_wire() {
        let schema1 = Server::start(|_, _| {
            Answer::ok(br#"{"schemaVersion":1,"fsLayers":[]}"#).header(
                "Content-Type",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            )
        });
        assert!(text(&get(&schema1).unwrap_err()).contains("schema 1 support has been removed"));
        let chart = Server::start(|_, _| {
            let mut chart = image(b"config", &[]);
            chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
            Answer::json(&chart)
        });
        assert!(text(&get(&chart).unwrap_err()).contains("a Helm chart"));
    }

    #[test]
    fn what_does_not_exist_is_told_with_the_registrys_words() {
        let server = Server::start(|_, _| {
            Answer::status(404)
                .body(br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
        });
        let error = get(&server).unwrap_err();
        let address = server.address();
        assert_eq!(
            text(&error),
            format!("manifest for `{address}/lib/x:1` not found in `{address}`: manifest unknown")
        );
    }

    #[test]
    fn an_unreachable_registry_is_told_at_once() {
        let reference: Reference = "127.0.0.1:1/x".parse().unwrap();
        let error = wait(Client::new(&reference).unwrap().manifest(&reference)).unwrap_err();
        assert_eq!(
            text(&error),
            "cannot reach `127.0.0.1:1`: Connection refused (os error 111)"
        );
    }

    #[test]
    fn a_limit_on_requests_is_waited_out_as_asked() {
        let server = Server::start(|_, before| match before {
            0 => Answer::status(429).header("Retry-After", "1"),
            1 => Answer::status(503).header("Retry-After", "0"),
            _ => Answer::json(&image(b"config", &[])),
        });
        let start = std::time::Instant::now();
        get(&server).unwrap();
        assert!(start.elapsed().as_millis() >= 1000);
        assert_eq!(server.asked().len(), 3);
        let never = Server::start(|_, _| Answer::status(429).header("Retry-After", "3600"));
        assert!(matches!(
            get(&never).unwrap_err(),
            RegistryError::RateLimited { after: Some(_), .. }
        ));
        assert_eq!(never.asked().len(), 1);
    }

    /// Gives token `t<n>` for the n-th question and wants the newest.
    fn bearer(asked: &Asked, _: usize) -> Answer {
        if asked.path.starts_with("/token") {
            return Answer::ok(br#"{"token":"secret"}"#);
        }
        if asked.header("authorization") == Some("Bearer secret") {
            return Answer::json(&image(b"config", &[]));
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let challenge =
            format!(r#"Bearer realm="{realm}",service="a b",scope="repository:lib/x:pull""#);
        Answer::status(401).header("WWW-Authenticate", &challenge)
    }

    #[test]
    fn a_bearer_challenge_is_answered_once_and_the_token_kept() {
        let server = Server::start(bearer);
        let reference = reference(&server, "1");
        let client = Client::new(&reference).unwrap();
        wait(client.manifest(&reference)).unwrap();
        wait(client.manifest(&reference)).unwrap();
        let paths: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
        let manifest = "/v2/lib/x/manifests/1";
        let token = "/token?service=a+b&scope=repository%3Alib%2Fx%3Apull";
        assert_eq!(paths, [manifest, token, manifest, manifest]);
    }

    #[test]
    fn denied_and_wrong_credentials_are_told_apart() {
        let denied = Server::start(|asked, _| {
            if asked.path.starts_with("/token") {
                bearer(asked, 0)
            } else {
                bearer(&asked.without_authorization(), 0)
            }
        });
        let error = get(&denied).unwrap_err();
        assert!(
            matches!(
                &error,
                RegistryError::Denied {
                    identity: Identity::Anonymous,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(denied.asked().len(), 3);

        let basic = Server::start(|asked, _| match asked.header("authorization") {
            // alice:right
            Some("Basic YWxpY2U6cmlnaHQ=") => Answer::json(&image(b"config", &[])),
            _ => Answer::status(401).header("WWW-Authenticate", r#"Basic realm="x, y""#),
        });
        let error = get(&basic).unwrap_err();
        assert!(text(&error).ends_with("you are not logged in"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let with = |auth: &str| {
            let text = format!(
                r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
                basic.address()
            );
            fs_err::write(&path, text).unwrap();
            let reference = reference(&basic, "1");
            let mut client = Client::new(&reference).unwrap();
            client.credentials = Some(path.clone());
            wait(client.manifest(&reference))
        };
        assert!(with("YWxpY2U6cmlnaHQ=").is_ok());
        let error = text(&with("YWxpY2U6d3Jvbmc=").unwrap_err());
        assert!(
            error.contains("refuses the user name or password; you are logged in as `alice` (key"),
            "{error}"
        );
        assert!(
            !error.contains("wrong;") && !error.contains("YWxpY2U6"),
            "{error}"
        );
    }

    #[test]
    fn a_redirect_to_another_port_carries_no_authorization() {
        let storage = Server::start(|_, _| Answer::ok(b"layer"));
        let address = storage.address();
        let server = Server::start(move |asked, _| match asked.header("authorization") {
            Some(_) => Answer::status(307)
                .header("Location", &format!("http://{address}/blob?signature=s")),
            None => bearer(asked, 0),
        });
        let reference = reference(&server, "1");
        let client = Client::new(&reference).unwrap();
        let layer = descriptor(b"layer", "x");
        let first = wait(async { client.blob(&layer.digest, layer.size).next().await }).unwrap();
        assert_eq!(first, Some(Piece::Bytes("layer".into())));
        let asked = storage.asked();
        assert_eq!(asked[0].path, "/blob?signature=s");
        assert_eq!(asked[0].header("authorization"), None);
        assert_eq!(asked[0].header("referer"), None);
        assert_eq!(
            server.asked().last().unwrap().header("authorization"),
            Some("Bearer secret")
        );
    }

    #[test]
    fn a_redirect_loop_ends_and_no_query_is_shown() {
        let server = Server::start(|asked, _| {
            let host = asked.header("host").unwrap();
            Answer::status(307).header("Location", &format!("http://{host}/again?secret=s"))
        });
        let error = text(&get(&server).unwrap_err());
        assert!(error.contains("redirects more than 10 times"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(server.asked().len(), 11);
    }

    #[test]
    fn a_config_is_verified_and_limited() {
        let server = Server::start(|_, _| Answer::ok(b"config"));
        let reference = reference(&server, "1");
        let client = Client::new(&reference).unwrap();
        let config = descriptor(b"config", "x");
        assert_eq!(wait(client.config(&config)).unwrap(), b"config");
        let mut other = descriptor(b"cOnfig", "x");
        assert!(text(&wait(client.config(&other)).unwrap_err()).contains("was asked for"));
        other.size = MAX_CONFIG + 1;
        assert!(text(&wait(client.config(&other)).unwrap_err()).contains("more than 8 MiB"));
    }
}
