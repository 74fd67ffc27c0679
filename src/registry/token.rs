//! Tokens: what a token service gives for a Bearer challenge.

use crate::registry::credentials::Login;
use crate::registry::error::{Detail, Identity, RegistryError, host};
use crate::registry::transport::Transport;
use anyhow::Context;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

/// Longest answer of a token service, in bytes (containers/image has the same).
const MAX_TOKEN: usize = 1 << 20;

/// What a Bearer challenge asks for.
pub(crate) struct Wanted<'a> {
    pub(crate) realm: &'a str,
    pub(crate) service: Option<&'a str>,
    pub(crate) scope: &'a str,
    /// The repository as the user knows it, and the registry.
    pub(crate) name: &'a str,
    pub(crate) registry: &'a str,
}

/// The answer of a token service. Its life time is not looked at: a registry that no longer takes a token
/// says so with a 401, whatever our clock thinks, and one more question gets the next.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Gets a token and returns the `Authorization` header made of it.
pub(crate) async fn fetch(
    transport: &Transport,
    wanted: &Wanted<'_>,
    login: Option<&Login>,
) -> Result<HeaderValue, RegistryError> {
    let url = url(transport, wanted)?;
    let host = host(&url);
    let mut response = transport.ask_realm(url, login.map(Login::basic)).await?;
    let status = response.status().as_u16();
    if !response.status().is_success() {
        let after = crate::registry::retry::after(response.headers());
        let detail = Detail::of_response(&mut response).await;
        let registry = wanted.registry.to_owned();
        return Err(match (status, login) {
            (401, Some(login)) => RegistryError::WrongCredentials {
                registry,
                identity: login.identity(),
            },
            (401 | 403, login) => RegistryError::Denied {
                name: wanted.name.to_owned(),
                identity: login.map_or(Identity::Anonymous, Login::identity),
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
        });
    }
    let mut body = Vec::new();
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| transport.failure(&error))?
    {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_TOKEN {
            return Err(anyhow::anyhow!("the token service `{host}` sent more than 1 MiB").into());
        }
    }
    Ok(header(&body).with_context(|| format!("the token service `{host}`"))?)
}

fn url(transport: &Transport, wanted: &Wanted<'_>) -> anyhow::Result<Url> {
    let mut url = transport.check_realm(wanted.realm)?;
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = wanted.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", wanted.scope);
    }
    Ok(url)
}

fn header(body: &[u8]) -> anyhow::Result<HeaderValue> {
    // serde's own error would quote the text, and with it the token.
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let token = answer.and_then(|answer| {
        answer
            .token
            .filter(|token| !token.is_empty())
            .or(answer.access_token)
    });
    let token = token.context("its answer has no token")?;
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.ok().context("its token does not fit into a header")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let header = header(body.as_bytes()).ok();
            assert_eq!(
                header.as_ref().map(|value| value.to_str().unwrap()),
                token,
                "{body}"
            );
        }
    }
}
