//! Logins: who we are for one registry, how we prove it, and where that is written.

use crate::registry::credentials::secret::Secret;
use crate::registry::error::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// The user name by which a helper says that its secret is an identity token
/// (Docker: `docker login`, "Credential helper protocol").
const TOKEN_USER: &str = "<token>";

/// Who the user is for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// May be empty with tokens.
    pub(crate) user: String,
    pub(crate) proof: Proof,
    /// The file or variable and the key in it, for errors.
    pub(crate) origin: String,
}

/// A user name and a secret, as a helper gives them or the command line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) user: String,
    pub(crate) secret: Secret,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    Password(Secret),
    /// What a token service gives tokens for, instead of a password (OAuth 2's refresh token).
    IdentityToken(Secret),
    /// What the registry itself takes.
    RegistryToken(Secret),
}

impl Login {
    /// Returns the login that a pair means.
    pub(crate) fn of_pair(pair: Pair, origin: String) -> Self {
        let (user, proof) = if pair.user == TOKEN_USER {
            (String::new(), Proof::IdentityToken(pair.secret))
        } else {
            (pair.user, Proof::Password(pair.secret))
        };
        Self {
            user,
            proof,
            origin,
        }
    }

    /// Returns whom this makes us.
    pub(crate) fn identity(&self) -> Identity {
        Identity::User {
            name: self.user.clone(),
            origin: self.origin.clone(),
        }
    }

    /// Returns the `Authorization` header of RFC 7617. `None`: there is no password.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        match &self.proof {
            Proof::Password(password) => Some(basic(&self.user, password)),
            Proof::IdentityToken(_) | Proof::RegistryToken(_) => None,
        }
    }
}

/// Returns the `Authorization` header of RFC 7617.
pub(crate) fn basic(user: &str, secret: &Secret) -> HeaderValue {
    let pair = Zeroizing::new(format!("{user}:{}", secret.expose()));
    let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let text = Zeroizing::new(format!("Basic {}", *pair));
    let mut value = HeaderValue::try_from(text.as_str()).expect("base64 is a header value");
    value.set_sensitive(true);
    value
}

/// Returns the `Authorization` header of RFC 6750. `None`: the token does not fit into a header.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::try_from(text.as_str()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
