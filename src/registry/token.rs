//! Tokens: what a token service gives for a Bearer challenge.

use crate::registry::credentials::{Login, Proof, Secret, basic, bearer};
use crate::registry::error::{Detail, Identity, RegistryError, host};
use crate::registry::retry;
use crate::registry::transport::Transport;
use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, FixedOffset};
use reqwest::header::{DATE, HeaderMap, HeaderValue};
use reqwest::{Response, Url};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longest answer of a token service, in bytes (containers/image has the same).
const MAX_TOKEN: usize = 1 << 20;

/// How long a token lives if its service does not say (distribution, "Token Authentication Specification").
const DEFAULT_LIFE: Duration = Duration::from_mins(1);

/// Longest life that is believed; longer pulls ask again.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// Who we say that we are where a service asks for the program's name (OAuth 2, "Client Identifier").
const CLIENT: &str = "ddock";

/// A token service, and what is wanted of it.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    /// One or more, separated by spaces; empty to log in only.
    pub(crate) scope: String,
}

/// For whom a token is asked, for errors.
pub(crate) struct Subject<'a> {
    pub(crate) registry: &'a str,
    /// The path below `/v2/`.
    pub(crate) repository: &'a str,
    /// The repository as the user knows it.
    pub(crate) name: &'a str,
}

/// A token as it came.
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    /// From then on, when 80 % of its life are over, a new one is asked for. By the monotonic clock:
    /// a wrong wall clock does no harm.
    pub(crate) renew_at: Instant,
    /// Whether it says that the repository may be pulled; `None` if it does not say.
    pub(crate) grants: Option<bool>,
}

/// The answer of a token service.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Answer {
    token: Secret,
    access_token: Secret,
    /// Seconds.
    expires_in: Value,
    issued_at: Value,
}

/// Gets a token.
pub(crate) async fn fetch(
    transport: &Transport,
    wanted: &Wanted,
    subject: &Subject<'_>,
    login: Option<&Login>,
) -> Result<Token, RegistryError> {
    let realm = transport.check_realm(&wanted.realm)?;
    let host = host(&realm);
    let mut response = ask(transport, &realm, wanted, login).await?;
    if !response.status().is_success() {
        return Err(failure(response, host, subject, login).await);
    }
    let mut body = Zeroizing::new(Vec::new());
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| transport.failure(&error))?
    {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_TOKEN {
            return Err(anyhow!("the token service `{host}` sent more than 1 MiB").into());
        }
    }
    let token = read(&body, response.headers(), subject.repository);
    Ok(token.with_context(|| format!("the token service `{host}`"))?)
}

async fn ask(
    transport: &Transport,
    realm: &Url,
    wanted: &Wanted,
    login: Option<&Login>,
) -> Result<Response, RegistryError> {
    let url = url(realm, wanted, login);
    let Some(login) = login else {
        return transport.ask_realm(url, None).await;
    };
    let authorization = match &login.proof {
        Proof::Password(password) => basic(&login.user, password),
        Proof::IdentityToken(token) => {
            let form = form(wanted, token);
            let response = transport.post_to_realm(realm.clone(), &form).await?;
            // Services that do not know this question: they take the token for a password.
            if !matches!(response.status().as_u16(), 401 | 404 | 405) {
                return Ok(response);
            }
            basic(&login.user, token)
        }
        // It is for the registry, not for its service.
        Proof::RegistryToken(_) => return transport.ask_realm(url, None).await,
    };
    transport.ask_realm(url, Some(authorization)).await
}

fn url(realm: &Url, wanted: &Wanted, login: Option<&Login>) -> Url {
    let mut url = realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = &wanted.service {
        query.append_pair("service", service);
    }
    for scope in wanted.scope.split_ascii_whitespace() {
        query.append_pair("scope", scope);
    }
    let user = login.map(|login| login.user.as_str());
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        query.append_pair("account", user);
    }
    drop(query);
    url
}

/// Returns the question for a token in exchange for an identity token (RFC 6749, 6).
fn form(wanted: &Wanted, token: &Secret) -> Zeroizing<String> {
    let mut form = Url::parse("form:/").expect("it is a URL");
    let mut query = form.query_pairs_mut();
    query.append_pair("grant_type", "refresh_token");
    query.append_pair("service", wanted.service.as_deref().unwrap_or_default());
    query.append_pair("client_id", CLIENT);
    if !wanted.scope.is_empty() {
        query.append_pair("scope", &wanted.scope);
    }
    query.append_pair("refresh_token", token.expose());
    drop(query);
    Zeroizing::new(form.query().unwrap_or_default().to_owned())
}

/// Returns what the answer `response`, which is no success, means.
async fn failure(
    mut response: Response,
    host: String,
    subject: &Subject<'_>,
    login: Option<&Login>,
) -> RegistryError {
    let status = response.status().as_u16();
    let after = retry::after(response.headers());
    let detail = Detail::of_response(&mut response).await;
    match (status, login) {
        (401, Some(login)) => RegistryError::WrongCredentials {
            registry: subject.registry.to_owned(),
            identity: login.identity(),
        },
        (401 | 403, login) => RegistryError::Denied {
            registry: subject.registry.to_owned(),
            name: subject.name.to_owned(),
            identity: login.map_or(Identity::Anonymous, Login::identity),
            granted: None,
            detail,
        },
        (429, _) => RegistryError::RateLimited {
            registry: host,
            detail,
            after,
        },
        _ => RegistryError::Status {
            host,
            status,
            detail,
            after,
        },
    }
}

fn read(body: &[u8], headers: &HeaderMap, repository: &str) -> anyhow::Result<Token> {
    // serde's own error would quote the text, and with it the token.
    let answer: Answer = serde_json::from_slice(body)
        .ok()
        .context("its answer has no token")?;
    let tokens = [&answer.token, &answer.access_token];
    let token = tokens.into_iter().find(|token| !token.is_empty());
    let token = token.context("its answer has no token")?.expose();
    let header = bearer(token).context("its token does not fit into a header")?;
    Ok(Token {
        header,
        renew_at: Instant::now() + life(&answer, headers) * 4 / 5,
        grants: grants(token, repository),
    })
}

/// Returns how much longer the token lives. Its age is told by the service's own clock.
fn life(answer: &Answer, headers: &HeaderMap) -> Duration {
    let told = answer.expires_in.as_u64().filter(|seconds| *seconds > 0);
    let life = told.map_or(DEFAULT_LIFE, Duration::from_secs).min(MAX_LIFE);
    let now = headers.get(DATE).and_then(|date| date.to_str().ok());
    let now = now.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let issued = answer.issued_at.as_str();
    let issued = issued.and_then(|date| DateTime::<FixedOffset>::parse_from_rfc3339(date).ok());
    let age = now.zip(issued).map(|(now, issued)| now - issued);
    let age = age.and_then(|age| age.to_std().ok()).unwrap_or_default();
    life.saturating_sub(age)
}

/// Returns whether `token` says that it is good for pulling from `repository`, `None` if it says
/// nothing that we can read. Only a hint for an error: its signature is the registry's business.
fn grants(token: &str, repository: &str) -> Option<bool> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let access = match payload.get("access")? {
        Value::Array(access) => access.as_slice(),
        Value::Null => &[],
        _ => return None,
    };
    let is_ours = |grant: &&Value| grant["type"] == "repository" && grant["name"] == repository;
    let mut ours = access.iter().filter(is_ours);
    Some(ours.any(|grant| {
        let mut actions = grant["actions"].as_array().into_iter().flatten();
        actions.any(|action| action == "pull" || action == "*")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answered(body: &str) -> anyhow::Result<Token> {
        read(body.as_bytes(), &HeaderMap::new(), "lib/x")
    }

    #[test]
    fn both_names_of_the_token_are_taken_and_broken_ones_are_not() {
        for (body, token) in [
            (r#"{"token":"abc","expires_in":300}"#, Some("Bearer abc")),
            (r#"{"access_token":"abc"}"#, Some("Bearer abc")),
            (r#"{"token":"","access_token":"abc"}"#, Some("Bearer abc")),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"token":7}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            let header = answered(body).ok().map(|token| token.header);
            assert_eq!(
                header.as_ref().map(|value| value.to_str().unwrap()),
                token,
                "{body}"
            );
        }
    }

    #[test]
    fn the_life_is_what_the_service_says_less_the_tokens_age_by_its_own_clock() {
        for (answer, date, seconds) in [
            (json!({}), None, 60),
            (json!({"expires_in": 0}), None, 60),
            (json!({"expires_in": "300"}), None, 60),
            (json!({"expires_in": 300}), None, 300),
            (json!({"expires_in": u64::MAX}), None, 24 * 3600),
            (
                json!({"expires_in": 300, "issued_at": "2015-10-21T07:27:00Z"}),
                Some("Wed, 21 Oct 2015 07:28:00 GMT"),
                240,
            ),
            (
                json!({"expires_in": 300, "issued_at": "2015-10-21T07:27:00Z"}),
                None,
                300,
            ),
            (
                json!({"expires_in": 30, "issued_at": "2015-10-21T07:27:00Z"}),
                Some("Wed, 21 Oct 2015 07:28:00 GMT"),
                0,
            ),
            (
                json!({"expires_in": 300, "issued_at": "2015-10-21T07:29:00Z"}),
                Some("Wed, 21 Oct 2015 07:28:00 GMT"),
                300,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            let read: Answer = serde_json::from_value(answer.clone()).unwrap();
            assert_eq!(
                life(&read, &headers),
                Duration::from_secs(seconds),
                "{answer} {date:?}"
            );
        }
    }

    #[test]
    fn a_tokens_grants_are_read_if_it_is_one_of_ours_to_read() {
        let token = |payload: Value| format!("h.{}.s", URL_SAFE_NO_PAD.encode(payload.to_string()));
        let grant = |name: &str, action: &str| json!({"access": [{"type": "repository", "name": name, "actions": [action]}]});
        for (token, expected) in [
            (token(grant("lib/x", "pull")), Some(true)),
            (token(grant("lib/x", "*")), Some(true)),
            (token(grant("lib/x", "push")), Some(false)),
            (token(grant("lib/y", "pull")), Some(false)),
            (token(json!({"access": []})), Some(false)),
            (token(json!({"access": null})), Some(false)),
            (token(json!({"sub": "x"})), None),
            ("opaque".to_owned(), None),
            ("a.b.c".to_owned(), None),
        ] {
            assert_eq!(grants(&token, "lib/x"), expected, "{token}");
        }
    }

    #[test]
    fn an_identity_token_is_exchanged_by_a_form() {
        let wanted = Wanted {
            realm: String::new(),
            service: Some("a b".to_owned()),
            scope: "repository:x:pull".to_owned(),
        };
        let form = form(&wanted, &"t&t".to_owned().into());
        assert_eq!(
            form.as_str(),
            "grant_type=refresh_token&service=a+b&client_id=ddock&scope=repository%3Ax%3Apull&refresh_token=t%26t"
        );
    }
}
