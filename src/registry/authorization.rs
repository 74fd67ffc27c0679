//! Authorization: how one registry's challenges are answered, and what its refusals mean.

use crate::registry::challenge::{self, Challenge};
use crate::registry::credentials::{Credentials, Login, Proof, Secret, bearer};
use crate::registry::error::{Detail, Identity, RegistryError};
use crate::registry::token::{self, Subject, Token, Wanted};
use crate::registry::transport::Transport;
use anyhow::{Context, anyhow};
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderValue};
use std::time::Instant;
use tokio::sync::Mutex;

/// What a registry takes from us for one repository.
pub(crate) struct Authorization {
    /// As the user knows it: `docker.io`.
    registry: String,
    /// The path below `/v2/`; empty to log in only.
    repository: String,
    /// As the user knows it: `ubuntu`.
    name: String,
    credentials: Credentials,
    /// What the registry took last; one task renews it while the others wait.
    held: Mutex<Option<Held>>,
}

/// A header, and where it comes from.
struct Held {
    value: HeaderValue,
    /// Whether its token says that it is good for the repository; `None` if it does not say.
    grants: Option<bool>,
    /// When to ask which service for the next one, if it is a service's token.
    renewal: Option<(Instant, Wanted)>,
}

impl Held {
    /// A header that lasts.
    fn lasting(value: HeaderValue) -> Self {
        Self {
            value,
            grants: None,
            renewal: None,
        }
    }

    fn of_token(token: Token, wanted: Wanted) -> Self {
        Self {
            value: token.header,
            grants: token.grants,
            renewal: Some((token.renew_at, wanted)),
        }
    }
}

impl Authorization {
    pub(crate) fn new(
        registry: &str,
        repository: &str,
        name: String,
        credentials: Credentials,
    ) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            name,
            credentials,
            held: Mutex::new(None),
        }
    }

    /// Returns the `Authorization` header that the registry took last, renewed if its token is about to expire.
    pub(crate) async fn header(&self, transport: &Transport) -> Option<HeaderValue> {
        let mut held = self.held.lock().await;
        let current = held.as_mut()?;
        if let Some((_, wanted)) = current.renewal.take_if(|(at, _)| *at <= Instant::now()) {
            // If this fails, the old token is used on: the registry's 401 tells when it is no good
            // any more, and what goes wrong then is an error.
            if let Ok(renewed) = self.ask_service(transport, wanted).await {
                *current = renewed;
            }
        }
        Some(current.value.clone())
    }

    /// Returns the header that answers the challenge in `headers`, given to a request that carried `used`.
    pub(crate) async fn renew(
        &self,
        transport: &Transport,
        used: Option<HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<HeaderValue, RegistryError> {
        let mut held = self.held.lock().await;
        if let Some(current) = &*held
            && Some(&current.value) != used.as_ref()
        {
            // Another task was faster.
            return Ok(current.value.clone());
        }
        let renewed = self.answer(transport, used.as_ref(), headers).await?;
        Ok(held.insert(renewed).value.clone())
    }

    async fn answer(
        &self,
        transport: &Transport,
        used: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<Held, RegistryError> {
        let registry = &self.registry;
        let login = self.login()?;
        if login.is_some() && !transport.keeps_secrets() {
            return Err(anyhow!(
                "`{registry}` speaks plain http: no password or token is sent that way"
            )
            .into());
        }
        let challenges = challenge::parse(headers);
        let service = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some(self.wanted(realm, service.as_deref(), scope.as_deref())),
            Challenge::Basic => None,
        });
        let lasting = match (service, login) {
            (Some(wanted), login) => {
                let token = login.as_ref().and_then(registry_token);
                let Some(token) = token else {
                    return self.ask_service(transport, wanted).await;
                };
                let header = bearer(token.expose());
                let header = header.context("the registry token does not fit into a header")?;
                (header, login)
            }
            (None, _) if !challenges.contains(&Challenge::Basic) => {
                return Err(
                    anyhow!("`{registry}` asks to log in in a way that we do not know").into(),
                );
            }
            (None, None) => return Err(self.denied(None, None, Detail::default())),
            (None, Some(login)) => {
                let origin = &login.origin;
                let basic = login.basic().with_context(|| {
                    format!("`{registry}` wants a password, and there is only a token ({origin})")
                })?;
                (basic, Some(login))
            }
        };
        match lasting {
            (value, Some(login)) if used == Some(&value) => Err(self.refused(&login)),
            (value, _) => Ok(Held::lasting(value)),
        }
    }

    fn wanted(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Wanted {
        let default = || match self.repository.as_str() {
            "" => String::new(),
            repository => format!("repository:{repository}:pull"),
        };
        Wanted {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map_or_else(default, str::to_owned),
        }
    }

    async fn ask_service(
        &self,
        transport: &Transport,
        wanted: Wanted,
    ) -> Result<Held, RegistryError> {
        let login = self.login()?;
        let subject = Subject {
            registry: &self.registry,
            repository: &self.repository,
            name: &self.name,
        };
        let token = token::fetch(transport, &wanted, &subject, login.as_ref()).await?;
        Ok(Held::of_token(token, wanted))
    }

    /// Returns what the answer `response`, a 401 or 403 of the registry's own, means.
    ///
    /// A Basic challenge after the answer to it means that name or password are wrong; anything
    /// else, that whoever we are may not read this.
    pub(crate) async fn failure(&self, response: &Response, detail: Detail) -> RegistryError {
        let challenges = challenge::parse(response.headers());
        let is_basic = challenges.contains(&Challenge::Basic)
            && challenges.iter().all(|one| *one == Challenge::Basic);
        match self.login() {
            Ok(Some(login))
                if response.status() == 401 && (is_basic || registry_token(&login).is_some()) =>
            {
                self.refused(&login)
            }
            Ok(login) => {
                let held = self.held.lock().await;
                let grants = held.as_ref().and_then(|held| held.grants);
                self.denied(login.as_ref(), grants, detail)
            }
            Err(error) => error.into(),
        }
    }

    fn login(&self) -> anyhow::Result<Option<Login>> {
        self.credentials.find(&self.registry, &self.repository)
    }

    fn refused(&self, login: &Login) -> RegistryError {
        RegistryError::WrongCredentials {
            registry: self.registry.clone(),
            identity: login.identity(),
        }
    }

    fn denied(
        &self,
        login: Option<&Login>,
        granted: Option<bool>,
        detail: Detail,
    ) -> RegistryError {
        RegistryError::Denied {
            registry: self.registry.clone(),
            name: self.name.clone(),
            identity: login.map_or(Identity::Anonymous, Login::identity),
            granted,
            detail,
        }
    }
}

/// Returns the token that the registry takes as it is, if `login` has one.
fn registry_token(login: &Login) -> Option<Secret> {
    match &login.proof {
        Proof::RegistryToken(token) => Some(token.clone()),
        Proof::Password(_) | Proof::IdentityToken(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;
    use crate::registry::testing::{Answer, Asked, Server, image, wait};
    use crate::registry::{Access, Client};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    /// A client for `lib/x` at `server` whose file of credentials has `entry`.
    fn client(server: &Server, entry: &str) -> (Client<'static>, Reference) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let text = format!(r#"{{"auths":{{"{}":{entry}}}}}"#, server.address());
        fs_err::write(&path, text).unwrap();
        let reference = format!("{}/lib/x:1", server.address()).parse().unwrap();
        let access = Access {
            credentials: Credentials::in_file(&path),
            ..Access::default()
        };
        let client = Client::new(&reference, &access, &|_| {}).unwrap();
        (client, reference)
    }

    fn get(server: &Server, entry: &str) -> Result<(), RegistryError> {
        let (client, reference) = client(server, entry);
        wait(client.manifest(&reference)).map(|_| ())
    }

    /// Asks for a token of `/token`, and takes `token` only.
    fn registry(asked: &Asked, token: &str) -> Answer {
        if asked.header("authorization") == Some(&format!("Bearer {token}")) {
            return Answer::json(&image(b"config", &[]));
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let challenge = format!(
            r#"Bearer realm="{realm}",service="s",scope="repository:lib/x:pull repository:lib/y:pull""#
        );
        Answer::status(401).header("WWW-Authenticate", &challenge)
    }

    /// Answers `answer` as the token service, and takes `token` only as the registry.
    fn served(asked: &Asked, answer: Answer, token: &str) -> Answer {
        if is_token(asked) {
            answer
        } else {
            registry(asked, token)
        }
    }

    fn is_token(asked: &Asked) -> bool {
        asked.path.starts_with("/token")
    }

    /// The questions to the token service: method, path, authorization and body.
    fn questions(server: &Server) -> Vec<String> {
        let asked = server.asked().into_iter().filter(is_token);
        let shown = asked.map(|asked| {
            let authorization = asked.header("authorization").unwrap_or("-");
            let (method, path, body) = (&asked.method, &asked.path, &asked.body);
            format!("{method} {path} {authorization} {body}")
        });
        shown.map(|text| text.trim_end().to_owned()).collect()
    }

    const SCOPES: &str = "scope=repository%3Alib%2Fx%3Apull&scope=repository%3Alib%2Fy%3Apull";

    #[test]
    fn a_password_is_shown_to_the_token_service_only() {
        let server = Server::start(|asked, _| served(asked, Answer::ok(br#"{"token":"t"}"#), "t"));
        // me:pw
        get(&server, r#"{"auth":"bWU6cHc="}"#).unwrap();
        let question = format!("GET /token?service=s&{SCOPES}&account=me Basic bWU6cHc=");
        assert_eq!(questions(&server), [question]);
    }

    #[test]
    fn an_identity_token_is_exchanged_and_old_services_get_it_as_a_password() {
        let post = "POST /token - grant_type=refresh_token&service=s&client_id=ddock\
            &scope=repository%3Alib%2Fx%3Apull+repository%3Alib%2Fy%3Apull&refresh_token=i";
        let get_again = format!("GET /token?service=s&{SCOPES}&account=me Basic bWU6aQ==");
        for (refusal, expected) in [
            (200, vec![post.to_owned()]),
            (404, vec![post.to_owned(), get_again.clone()]),
            (405, vec![post.to_owned(), get_again.clone()]),
            (401, vec![post.to_owned(), get_again]),
        ] {
            let server = Server::start(move |asked, _| match asked.method.as_str() {
                "POST" if refusal != 200 => Answer::status(refusal),
                _ if is_token(asked) => Answer::ok(br#"{"access_token":"t"}"#),
                _ => registry(asked, "t"),
            });
            get(&server, r#"{"auth":"bWU6","identitytoken":"i"}"#).unwrap();
            assert_eq!(questions(&server), expected, "{refusal}");
        }
    }

    #[test]
    fn an_identity_token_does_not_follow_a_redirect() {
        let other = Server::start(|_, _| Answer::ok(br#"{"token":"t"}"#));
        for status in [301, 302, 303, 307, 308] {
            let location = format!("http://{}/elsewhere", other.address());
            let server = Server::start(move |asked, _| {
                served(
                    asked,
                    Answer::status(status).header("Location", &location),
                    "t",
                )
            });
            // Whether it works is the server's affair; where the secret goes is ours.
            let _result = get(&server, r#"{"identitytoken":"hidden"}"#);
        }
        for asked in other.asked() {
            assert!(!format!("{asked:?}").contains("hidden"), "{asked:?}");
        }
    }

    #[test]
    fn a_registry_token_is_used_as_it_is_and_its_service_not_asked() {
        let server = Server::start(|asked, _| registry(asked, "r"));
        get(&server, r#"{"registrytoken":"r"}"#).unwrap();
        assert_eq!(questions(&server), [""; 0]);
        let error = get(&server, r#"{"registrytoken":"stale"}"#).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("refuses the user name or password; you are logged in by a token (key"),
            "{text}"
        );
        assert!(!text.contains("stale"), "{text}");
    }

    #[test]
    fn a_token_is_renewed_before_it_expires_and_a_failed_renewal_does_no_harm() {
        // Its age by the service's clock is its life: it is to be renewed at once.
        let old = || {
            Answer::ok(br#"{"token":"t","expires_in":60,"issued_at":"2015-10-21T07:27:00Z"}"#)
                .header("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
        };
        let server = Server::start(move |asked, _| served(asked, old(), "t"));
        let (client, reference) = client(&server, "{}");
        for _ in 0..3 {
            wait(client.manifest(&reference)).unwrap();
        }
        let asked: Vec<_> = server.asked().iter().map(is_token).collect();
        // Refused, token, manifest; then each time a new token before the manifest.
        assert_eq!(asked, [false, true, false, true, false, true, false]);

        let failing = Server::start(move |asked, before| {
            let token = if before > 1 {
                Answer::status(500)
            } else {
                old()
            };
            served(asked, token, "t")
        });
        let (client, reference) = self::client(&failing, "{}");
        for _ in 0..3 {
            wait(client.manifest(&reference)).unwrap();
        }
        assert_eq!(questions(&failing).len(), 2);
    }

    #[test]
    fn refusals_tell_who_we_are_and_what_the_token_was_good_for() {
        let token = |access: serde_json::Value| {
            let payload = URL_SAFE_NO_PAD.encode(json!({"access": access}).to_string());
            format!(r#"{{"token":"h.{payload}.s"}}"#)
        };
        let granting = |answer: String| {
            Server::start(move |asked, _| served(asked, Answer::ok(answer.as_bytes()), "never"))
        };
        let nothing = granting(token(json!([])));
        let text = |error: RegistryError| error.to_string();
        let anonymous = text(get(&nothing, "{}").unwrap_err());
        assert!(
            anonymous
                .contains("there is no such repository, or it is private; you are not logged in"),
            "{anonymous}"
        );
        // me:pass phrase, which no name of a temporary file can hold.
        let user = r#"{"auth":"bWU6cGFzcyBwaHJhc2U="}"#;
        let known = text(get(&nothing, user).unwrap_err());
        assert!(
            known.contains("this user may not read it")
                && known.contains("logged in as `me` (key `127"),
            "{known}"
        );
        let opaque = granting(r#"{"token":"never mind"}"#.to_owned());
        let unsure = text(get(&opaque, user).unwrap_err());
        assert!(
            unsure.contains("there is no such repository, or this user may not read it"),
            "{unsure}"
        );
        let refusing = Server::start(|asked, _| served(asked, Answer::status(401), "t"));
        let wrong = text(get(&refusing, user).unwrap_err());
        assert!(
            wrong.contains("refuses the user name or password; you are logged in as `me`"),
            "{wrong}"
        );
        for text in [anonymous, known, unsure, wrong] {
            let is_shown = text.contains("pass phrase") || text.contains("bWU6cGFz");
            assert!(!is_shown, "{text}");
        }
    }

    #[test]
    fn a_token_is_no_answer_where_a_password_is_wanted() {
        let server = Server::start(|_, _| {
            Answer::status(401).header("WWW-Authenticate", r#"Basic realm="x""#)
        });
        let error = get(&server, r#"{"identitytoken":"hidden"}"#).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("there is only a token (key"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
    }
}
