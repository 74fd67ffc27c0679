//! What goes wrong with a registry, told apart as far as it lets us know.

use crate::human;
use reqwest::Response;
use serde::Deserialize;
use std::error::Error as _;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::iter;
use std::time::Duration;
use thiserror::Error;

/// Error bodies are read up to this many bytes; envelopes are far smaller.
const MAX_ERROR_BODY: usize = 64 << 10;

/// Longest text of a server that is repeated to the user, in characters.
const MAX_DETAIL: usize = 300;

/// Why a registry did not give what it was asked for.
///
/// No variant carries a secret, user information or a query string, and texts of servers
/// have their control characters escaped.
#[derive(Debug, Error)]
pub(crate) enum RegistryError {
    #[error("{what} not found in `{registry}`{detail}")]
    NotFound {
        what: String,
        registry: String,
        detail: Detail,
    },
    /// Registries hide private repositories: this may be a name that does not exist.
    #[error(
        "pull access denied for `{name}`: {}; {identity}{detail}",
        hidden(identity, *granted)
    )]
    Denied {
        registry: String,
        name: String,
        identity: Identity,
        /// Whether our token says that we may; `None` if it does not say.
        granted: Option<bool>,
        detail: Detail,
    },
    #[error("`{registry}` refuses the user name or password; {identity}")]
    WrongCredentials {
        registry: String,
        identity: Identity,
    },
    #[error("`{registry}` limits requests (toomanyrequests){detail}")]
    RateLimited {
        registry: String,
        detail: Detail,
        /// How long the server asks to wait.
        after: Option<Duration>,
    },
    /// The first connection failed: a retry would most likely meet the same.
    #[error("cannot reach `{host}`: {cause}")]
    Unreachable { host: String, cause: String },
    #[error(
        "`{host}` gave an http answer to an https request; plain http is used for loopback addresses and insecure registries only"
    )]
    SpeaksHttp { host: String },
    #[error("the certificate of `{host}` is not trusted: {cause}")]
    Untrusted { host: String, cause: String },
    /// A connection broke, or nothing came for too long, after the registry had answered before.
    #[error("the connection to `{host}` broke: {cause}")]
    Interrupted { host: String, cause: String },
    /// It had answered before, and nobody listens there any more.
    #[error("`{host}` went away: connection refused")]
    Gone { host: String },
    /// The registry redirected to a URL that is no longer good: it signs a new one when it is asked again.
    #[error("`{host}`, where `{registry}` redirects to, answered HTTP {status}")]
    Expired {
        host: String,
        registry: String,
        status: u16,
    },
    #[error("`{host}` answered HTTP {status}{detail}")]
    Status {
        host: String,
        status: u16,
        detail: Detail,
        /// How long the server asks to wait.
        after: Option<Duration>,
    },
    /// The answer breaks the protocol or a limit, or credentials could not be read.
    #[error(transparent)]
    Invalid(#[from] anyhow::Error),
}

fn hidden(identity: &Identity, granted: Option<bool>) -> &'static str {
    match (identity, granted) {
        (Identity::Anonymous, _) => "there is no such repository, or it is private",
        (Identity::User { .. }, Some(false)) => {
            "this user may not read it: the token service grants nothing there"
        }
        (Identity::User { .. }, _) => "there is no such repository, or this user may not read it",
    }
}

impl RegistryError {
    /// Tells whether the same request may well succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Interrupted { .. }
            | Self::Gone { .. }
            | Self::Expired { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Tells whether there was no answer, or no end of it.
    pub(crate) fn is_of_transport(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::SpeaksHttp { .. }
                | Self::Untrusted { .. }
                | Self::Interrupted { .. }
        )
    }

    /// Returns how long the server asked to wait before the next request.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { after, .. } | Self::Status { after, .. } => *after,
            _ => None,
        }
    }

    /// Returns what a failure of the HTTP client means. `registry` is the host that was asked,
    /// and `answered` tells whether it ever answered before.
    pub(crate) fn of_transport(error: &reqwest::Error, registry: &str, answered: bool) -> Self {
        let host = error.url().map_or_else(|| registry.to_owned(), host);
        let cause = cause(error);
        if error.is_redirect() {
            return Self::Invalid(anyhow::anyhow!("`{host}` redirects {cause}"));
        }
        if error.is_connect() && cause.contains(NOT_TLS) {
            return Self::SpeaksHttp { host };
        }
        if error.is_connect() && cause.contains("invalid peer certificate") {
            return Self::Untrusted { host, cause };
        }
        // TLS 1.3 refuses a client after the handshake: it is no failure to connect, and lasts.
        if cause.contains(REFUSED) && !answered {
            return Self::Unreachable { host, cause };
        }
        if error.is_connect() && !answered {
            return Self::Unreachable { host, cause };
        }
        if has_cause(error, &[ErrorKind::ConnectionRefused]) {
            return Self::Gone { host };
        }
        Self::Interrupted { host, cause }
    }
}

/// What rustls says of an answer that is no TLS record.
const NOT_TLS: &str = "received corrupt message";

/// What rustls says when the other side refuses us.
const REFUSED: &str = "received fatal alert";

/// What it says when our certificate is missing or unknown there; Go's older servers say the second for both.
const WANTS_CERTIFICATE: [&str; 2] = [
    "received fatal alert: CertificateRequired",
    "received fatal alert: BadCertificate",
];

/// Tells whether the other side of a failed https connection may speak no TLS: it answered something else, hung up, or said
/// nothing. Nobody there is no such side, and who shows a certificate speaks TLS.
pub(crate) fn speaks_no_tls(error: &reqwest::Error) -> bool {
    error.is_connect()
        && !has_cause(error, &[ErrorKind::ConnectionRefused])
        && !cause(error).contains("certificate")
}

/// Tells whether one of these is among the causes of `error`.
fn has_cause(error: &reqwest::Error, kinds: &[ErrorKind]) -> bool {
    let causes = iter::successors(error.source(), |cause| (*cause).source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| kinds.contains(&cause.kind()))
}

/// Returns the innermost cause: the outer ones repeat the URL, and with it signatures in its query.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() {
            "no connection within 10 s"
        } else {
            "nothing came for 30 s"
        };
        return limit.to_owned();
    }
    let mut innermost = error.source();
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    match innermost {
        Some(cause) if WANTS_CERTIFICATE.contains(&cause.to_string().as_str()) => {
            format!("{cause} (it wants X.cert with X.key from a `certs.d` directory)")
        }
        Some(cause) => Detail::text(&cause.to_string()),
        None => "the answer is no HTTP".to_owned(),
    }
}

/// Returns the host and port of a URL, and nothing else of it.
pub(crate) fn host(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Who the registry took us for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    Anonymous,
    /// `origin` names the file and the key in it. A token may tell no name.
    User {
        name: String,
        origin: String,
    },
}

impl Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("you are not logged in"),
            Self::User { name, origin } if name.is_empty() => {
                write!(
                    f,
                    "you are logged in by a token ({})",
                    human::printable(origin)
                )
            }
            Self::User { name, origin } => {
                write!(
                    f,
                    "you are logged in as `{}` ({})",
                    human::printable(name),
                    human::printable(origin)
                )
            }
        }
    }
}

/// What a server said of its error, made fit to be shown; empty if it said nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Detail(String);

/// What registries answer instead of what they were asked for; codes are theirs to invent.
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    message: String,
}

impl Detail {
    /// Returns the messages of the registry's error envelope, if `body` is one (distribution-spec, "Error Codes").
    pub(crate) fn of_body(body: &[u8]) -> Self {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
            return Self::default();
        };
        let messages: Vec<_> = envelope
            .errors
            .iter()
            .map(|error| error.message.as_str())
            .collect();
        Self(Self::text(&messages.join("; ")))
    }

    /// Returns what the error answer `response` says, and consumes it. Reading stops quietly at
    /// any trouble: the status, known already, is what counts.
    pub(crate) async fn of_response(response: &mut Response) -> Self {
        let mut body = Vec::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_ERROR_BODY {
                return Self::default();
            }
        }
        Self::of_body(&body)
    }

    fn text(text: &str) -> String {
        human::printable(&text.chars().take(MAX_DETAIL).collect::<String>())
    }
}

impl Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_is_shown_without_control_characters() {
        let body = br#"{"errors":[{"code":"DENIED","message":"go \u001b[31maway"},{"code":"X","message":"now"}]}"#;
        assert_eq!(
            Detail::of_body(body).to_string(),
            ": go \\u{1b}[31maway; now"
        );
        assert_eq!(Detail::of_body(b"<html>").to_string(), "");
    }

    #[test]
    fn denied_says_who_we_are() {
        let denied = |identity, granted| RegistryError::Denied {
            registry: "r.example".to_owned(),
            granted,
            name: "a/b".to_owned(),
            identity,
            detail: Detail::default(),
        };
        assert_eq!(
            denied(Identity::Anonymous, Some(false)).to_string(),
            "pull access denied for `a/b`: there is no such repository, or it is private; you are not logged in"
        );
        let user = Identity::User {
            name: "alice".to_owned(),
            origin: "key `r.example` in /c.json".to_owned(),
        };
        assert_eq!(
            denied(user.clone(), Some(false)).to_string(),
            "pull access denied for `a/b`: this user may not read it: the token service grants nothing there; \
             you are logged in as `alice` (key `r.example` in /c.json)"
        );
        assert_eq!(
            denied(user, None).to_string(),
            "pull access denied for `a/b`: there is no such repository, or this user may not read it; \
             you are logged in as `alice` (key `r.example` in /c.json)"
        );
    }
}
