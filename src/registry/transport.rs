//! Transport: how requests reach a registry: TLS, time limits, redirects, http or https.

use crate::registry::access::Access;
use crate::registry::error::{RegistryError, speaks_no_tls};
use crate::registry::routes::{Route, Security};
use crate::registry::tls;
use anyhow::{Context, Result, ensure};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RANGE,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, Response, Url};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest time until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time without a byte, in an answer or before it. `error` names both limits in its texts.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes a server may send ahead over HTTP/2, in one answer and in all answers of a
/// connection: enough for 40 MB/s at 50 ms each, and little beside the memory that a pull may take.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Most redirects of one request, as Docker has it.
const MAX_REDIRECTS: usize = 10;

/// One request to a registry, repeatable.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The path below `/v2/`.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    /// The bytes that are wanted; all if none are named.
    pub(crate) part: Option<Range<u64>>,
}

impl Request {
    /// Tells whether the answer can be checked against the request, whoever gives it.
    pub(crate) fn is_by_digest(&self) -> bool {
        self.path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.contains(':'))
    }
}

/// The way to one host.
pub(crate) struct Transport {
    route: Route,
    access: Access,
    /// Built by the first request: most mirrors are never asked.
    http: OnceLock<reqwest::Client>,
    loopback: bool,
    /// This host speaks plain http: configured, or found out by the first request.
    plain: AtomicBool,
    answered: AtomicBool,
}

impl Transport {
    pub(crate) fn new(route: Route, access: &Access) -> Result<Self> {
        let url = format!("https://{}/", route.host);
        let url = Url::parse(&url).with_context(|| format!("`{}` is no host name", route.host))?;
        Ok(Self {
            http: OnceLock::new(),
            loopback: is_loopback(&url),
            plain: AtomicBool::new(route.security == Security::Plain),
            answered: AtomicBool::new(false),
            access: access.clone(),
            route,
        })
    }

    fn http(&self) -> Result<&reqwest::Client> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let local = self.loopback || self.is_local();
        tls::provide();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("ddock/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .redirect(Policy::custom(move |attempt| follow(attempt, local)))
            .referer(false)
            .proxy(self.access.proxies.rule()?)
            .tls_danger_accept_invalid_certs(self.route.security == Security::Insecure);
        let builder = tls::configure(builder, &self.route, &self.access.routes.places)?;
        let http = builder.build().context("setting up TLS")?;
        Ok(self.http.get_or_init(|| http))
    }

    /// Sends `request` and returns the answer's head, whatever its status. A host that may be
    /// spoken to in plain http and speaks no TLS is asked again in plain http, and from then on.
    pub(crate) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let http = self.http()?;
        let plain = self.plain.load(Ordering::Relaxed);
        let mut answer = self.attempt(http, request, authorization, plain).await;
        if let Err(error) = &answer
            && !plain
            && self.may_be_plain(error)
        {
            match self.attempt(http, request, authorization, true).await {
                // There is nobody on that port either: the first error says more.
                Err(error) if error.is_connect() => {}
                other => {
                    self.plain.store(true, Ordering::Relaxed);
                    answer = other;
                }
            }
        }
        let answer = answer.map_err(|error| self.failure(&error))?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    /// Tells whether plain http is worth a try after https failed so.
    fn may_be_plain(&self, error: &reqwest::Error) -> bool {
        match self.route.security {
            Security::Verified => self.loopback && speaks_no_tls(error),
            Security::Insecure => error.is_connect(),
            Security::Plain => false,
        }
    }

    async fn attempt(
        &self,
        http: &reqwest::Client,
        request: &Request,
        authorization: Option<&HeaderValue>,
        plain: bool,
    ) -> reqwest::Result<Response> {
        let mut builder = http
            .request(request.method.clone(), self.url(&request.path, plain))
            .headers(self.route.headers.clone())
            // What is hashed must be what was stored: no proxy may compress on the way.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(accept) = request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(part) = &request.part {
            builder = builder.header(RANGE, format!("bytes={}-{}", part.start, part.end - 1));
        }
        // A configured header is meant instead of what the host asks for.
        let authorization =
            authorization.filter(|_| !self.route.headers.contains_key(AUTHORIZATION));
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        builder.send().await
    }

    /// Returns the URL of `path`, which is one below `/v2/` at the registry of the reference.
    fn url(&self, path: &str, plain: bool) -> String {
        let route = &self.route;
        let scheme = if plain { "http" } else { "https" };
        let mut url = format!("{scheme}://{}{}/{path}", route.host, route.path);
        if let Some(namespace) = &route.namespace {
            url.push(if path.contains('?') { '&' } else { '?' });
            url.push_str("ns=");
            url.push_str(namespace);
        }
        url
    }

    /// Tells whether this host is on this machine or link.
    fn is_local(&self) -> bool {
        Url::parse(&self.url("", false)).is_ok_and(|url| is_local(&url))
    }

    /// Asks a token service at `url`, which `check_realm` allowed.
    pub(crate) async fn ask_realm(
        &self,
        url: Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut builder = self.http()?.get(url);
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
            .http()?
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(once));
        builder.send().await.map_err(|error| self.failure(&error))
    }

    /// Tells whether what is sent to this registry is safe from eavesdroppers, passwords too. Only
    /// the requests so far tell: before the first it says yes.
    pub(crate) fn keeps_secrets(&self) -> bool {
        !self.plain.load(Ordering::Relaxed)
            || self.loopback
            || self.route.security != Security::Verified
    }

    /// Refuses a token service that a registry must not send us to: one in plain http, unless both
    /// are on loopback, and one on this machine or link, unless the registry is.
    pub(crate) fn check_realm(&self, realm: &str) -> Result<Url> {
        let url = Url::parse(realm).context("the realm is no URL")?;
        let host = crate::registry::error::host(&url);
        match url.scheme() {
            "https" => {}
            "http" => ensure!(
                self.plain.load(Ordering::Relaxed)
                    && (is_loopback(&url) || self.is_same_insecure_host(&url)),
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

    /// Tells whether `url` is at this host, and the user said that it is insecure.
    fn is_same_insecure_host(&self, url: &Url) -> bool {
        let own = Url::parse(&self.url("", true));
        self.route.security != Security::Verified
            && own.is_ok_and(|own| own.host_str() == url.host_str())
    }

    /// Tells whether `response` is the registry's own and not that of a host it redirected to.
    pub(crate) fn is_own(&self, response: &Response) -> bool {
        let own = Url::parse(&self.url("", response.url().scheme() == "http"));
        own.is_ok_and(|own| own.origin() == response.url().origin())
    }

    /// Returns what a failure of the HTTP client means.
    pub(crate) fn failure(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::of_transport(
            error,
            &self.route.host,
            self.answered.load(Ordering::Relaxed),
        )
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

fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    Some(host.parse::<IpAddr>().ok()?.to_canonical())
}

fn is_localhost(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default().trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Tells whether `url` names this machine: there plain http is as good as https.
pub(crate) fn is_loopback(url: &Url) -> bool {
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
        let to = |name: &str| {
            let route = Route::origin(&name.parse().unwrap()).unwrap();
            Transport::new(route, &Access::default()).unwrap()
        };
        let (remote, local) = (to("r.example/x"), to("localhost:5000/x"));
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
