//! Transport: how requests reach a registry: TLS, time limits, redirects, http or https.

use crate::reference::{DOCKER_HUB, Reference};
use crate::registry::error::{RegistryError, speaks_no_tls};
use anyhow::{Context, Result, ensure};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RANGE,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Method, Response, Url};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zeroize::Zeroizing;

/// Docker Hub's name on the wire.
const HUB_HOST: &str = "registry-1.docker.io";

/// Longest time until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time without a byte, in an answer or before it. `error` names both limits in its texts.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Most redirects of one request, as Docker has it.
const MAX_REDIRECTS: usize = 10;

/// Where distributions keep the certificate authorities they trust, in one file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, older Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Red Hat
    "/etc/ssl/ca-bundle.pem",             // SUSE
    "/etc/ssl/cert.pem",                  // Alpine, OpenWrt
];

/// One request to a registry, repeatable.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The path below `/v2/`.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    /// The bytes that are wanted; all if none are named.
    pub(crate) part: Option<Range<u64>>,
}

/// The way to one registry.
pub(crate) struct Transport {
    http: reqwest::Client,
    host: String,
    loopback: bool,
    /// This registry speaks plain http: found out by the first request, on loopback only.
    plain: AtomicBool,
    answered: AtomicBool,
}

impl Transport {
    pub(crate) fn new(reference: &Reference) -> Result<Self> {
        let host = match reference.registry() {
            DOCKER_HUB => HUB_HOST,
            host => host,
        };
        let url = Url::parse(&format!("https://{host}/"))
            .with_context(|| format!("`{host}` is no host name"))?;
        let loopback = is_loopback(&url);
        let local = is_local(&url);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ddock/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(Policy::custom(move |attempt| follow(attempt, local)))
            .referer(false)
            .tls_certs_only(roots()?);
        if loopback {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build().context("setting up TLS")?,
            host: host.to_owned(),
            loopback,
            plain: AtomicBool::new(false),
            answered: AtomicBool::new(false),
        })
    }

    /// Sends `request` and returns the answer's head, whatever its status. A registry on loopback
    /// that speaks no TLS is asked again in plain http, and from then on.
    pub(crate) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let plain = self.plain.load(Ordering::Relaxed);
        let mut answer = self.attempt(request, authorization, plain).await;
        if let Err(error) = &answer
            && !plain
            && self.loopback
            && speaks_no_tls(error)
        {
            self.plain.store(true, Ordering::Relaxed);
            answer = self.attempt(request, authorization, true).await;
        }
        let answer = answer.map_err(|error| self.failure(&error))?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    async fn attempt(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
        plain: bool,
    ) -> reqwest::Result<Response> {
        let scheme = if plain { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}", self.host, request.path);
        let mut builder = self
            .http
            .request(request.method.clone(), url)
            // What is hashed must be what was stored: no proxy may compress on the way.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(accept) = request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(part) = &request.part {
            builder = builder.header(RANGE, format!("bytes={}-{}", part.start, part.end - 1));
        }
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        builder.send().await
    }

    /// Asks a token service at `url`, which `check_realm` allowed.
    pub(crate) async fn ask_realm(
        &self,
        url: Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut builder = self.http.get(url);
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        builder.send().await.map_err(|error| self.failure(&error))
    }

    /// Sends a form to a token service at `url`, which `check_realm` allowed. A redirect is not
    /// followed: the form has a secret that is for this service only.
    pub(crate) async fn post_to_realm(
        &self,
        url: Url,
        form: &Zeroizing<String>,
    ) -> Result<Response, RegistryError> {
        let length = form.len();
        // A body that can be sent once only: what cannot be sent again is not sent elsewhere.
        let bytes = bytes::Bytes::copy_from_slice(form.as_bytes());
        let once = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let builder = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(once));
        builder.send().await.map_err(|error| self.failure(&error))
    }

    /// Tells whether what is sent to this registry is safe from eavesdroppers, passwords too. Only
    /// the requests so far tell: before the first it says yes.
    pub(crate) fn keeps_secrets(&self) -> bool {
        !self.plain.load(Ordering::Relaxed) || self.loopback
    }

    /// Refuses a token service that a registry must not send us to: one in plain http, unless both
    /// are on loopback, and one on this machine or link, unless the registry is.
    pub(crate) fn check_realm(&self, realm: &str) -> Result<Url> {
        let url = Url::parse(realm).context("the realm is no URL")?;
        let host = crate::registry::error::host(&url);
        match url.scheme() {
            "https" => {}
            "http" => ensure!(
                self.plain.load(Ordering::Relaxed) && is_loopback(&url),
                "the token service `{host}` is asked for over plain http"
            ),
            _ => anyhow::bail!("the realm is no https URL"),
        }
        ensure!(
            self.loopback || !is_local(&url),
            "the token service `{host}` is an address of this machine or link"
        );
        Ok(url)
    }

    /// Tells whether `response` is the registry's own and not that of a host it redirected to.
    pub(crate) fn is_own(&self, response: &Response) -> bool {
        let own = Url::parse(&format!("{}://{}", response.url().scheme(), self.host));
        own.is_ok_and(|own| own.origin() == response.url().origin())
    }

    /// Returns what a failure of the HTTP client means.
    pub(crate) fn failure(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::of_transport(error, &self.host, self.answered.load(Ordering::Relaxed))
    }
}

/// Decides on a redirect. The client itself drops `Authorization` when host, port or scheme change.
fn follow(attempt: Attempt<'_>, registry_is_local: bool) -> reqwest::redirect::Action {
    let refusal = {
        let (from, to) = (attempt.previous().last(), attempt.url());
        if attempt.previous().len() > MAX_REDIRECTS {
            Some("more than 10 times")
        } else if to.scheme() != "https" && from.is_some_and(|from| from.scheme() == "https") {
            Some("from https to plain http")
        } else if !registry_is_local && is_local(to) {
            Some("to an address of this machine or link")
        } else {
            None
        }
    };
    match refusal {
        Some(refusal) => attempt.error(refusal),
        None => attempt.follow(),
    }
}

/// Returns the certificate authorities to trust: the user's, the system's, or Mozilla's as built in.
fn roots() -> Result<Vec<Certificate>> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        let pem = fs_err::read(path).context("SSL_CERT_FILE")?;
        return Certificate::from_pem_bundle(&pem).context("SSL_CERT_FILE is no PEM file");
    }
    for path in BUNDLES {
        // A bundle that is missing or broken leaves the next one, and those built in.
        let certificates = fs_err::read(path).ok();
        let certificates = certificates.and_then(|pem| Certificate::from_pem_bundle(&pem).ok());
        if let Some(certificates) = certificates.filter(|list| !list.is_empty()) {
            return Ok(certificates);
        }
    }
    let built_in = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    built_in
        .map(|der| Certificate::from_der(der).context("reading the built-in certificates"))
        .collect()
}

fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    Some(host.parse::<IpAddr>().ok()?.to_canonical())
}

fn is_localhost(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default().trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Tells whether `url` names this machine: there plain http is as good as https.
fn is_loopback(url: &Url) -> bool {
    is_localhost(url) || address(url).is_some_and(|address| address.is_loopback())
}

/// Tells whether `url` names this machine or its link, where a remote registry has no business
/// (cloud metadata services live at a link-local address).
fn is_local(url: &Url) -> bool {
    is_localhost(url)
        || address(url).is_some_and(|address| {
            address.is_loopback()
                || address.is_unspecified()
                || match address {
                    IpAddr::V4(address) => address.is_link_local(),
                    IpAddr::V6(address) => address.is_unicast_link_local(),
                }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known_in_every_spelling() {
        for (host, loopback, local) in [
            ("localhost:5000", true, true),
            ("x.localhost", true, true),
            ("127.0.0.1:80", true, true),
            ("127.1", true, true),
            ("0x7f000001", true, true),
            ("[::1]:5000", true, true),
            ("[::ffff:127.0.0.1]", true, true),
            ("0.0.0.0", false, true),
            ("169.254.169.254", false, true),
            ("[fe80::1]", false, true),
            ("10.0.0.1", false, false),
            ("localhost.example", false, false),
            ("docker.io", false, false),
        ] {
            let url = Url::parse(&format!("https://{host}/")).unwrap();
            assert_eq!(
                (is_loopback(&url), is_local(&url)),
                (loopback, local),
                "{host}"
            );
        }
    }

    #[test]
    fn token_services_are_asked_over_https_and_not_on_this_machine() {
        let remote = Transport::new(&"r.example/x".parse().unwrap()).unwrap();
        let local = Transport::new(&"localhost:5000/x".parse().unwrap()).unwrap();
        local.plain.store(true, Ordering::Relaxed);
        for (realm, from_remote, from_local) in [
            ("https://auth.example/token", true, true),
            ("http://auth.example/token", false, false),
            ("http://127.0.0.1:5001/token", false, true),
            ("https://127.0.0.1:5001/token", false, true),
            ("https://169.254.169.254/", false, true),
            ("file:///etc/passwd", false, false),
            ("nonsense", false, false),
        ] {
            assert_eq!(remote.check_realm(realm).is_ok(), from_remote, "{realm}");
            assert_eq!(local.check_realm(realm).is_ok(), from_local, "{realm}");
        }
    }
}
