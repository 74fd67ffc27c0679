//! Credentials: who the user is for a registry, from the command line, files, variables and helpers.

mod file;
mod helper;
mod key;
mod login;
mod save;
mod secret;
mod sources;

pub(crate) use key::registry as registry_of_key;
pub(crate) use login::{Login, Proof, basic, bearer};
pub(crate) use save::{Keeper, Keyring};
pub(crate) use secret::Secret;

use crate::reference::Reference;
use anyhow::{Context, Result, anyhow};
use login::Pair;
use sources::Source;
use std::collections::BTreeMap;
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

/// What the command line says about credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// `--creds`: a user name, a colon and a password.
    pub(crate) pair: Option<Secret>,
    /// `--authfile`
    pub(crate) file: Option<PathBuf>,
}

/// Everything that is known about the user's credentials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// `--creds`, and the one registry that it is for.
    given: Option<(String, Login)>,
    /// The one that counts first is first.
    sources: Vec<Source>,
    /// What helpers said, by their name and the server's.
    answers: BTreeMap<(String, String), Option<Pair>>,
    warnings: Vec<String>,
}

impl Credentials {
    /// Gathers what this process's user has for the repository of `reference`.
    ///
    /// Helpers are asked here: it must be as the user, before any namespace is entered.
    /// No thread is started.
    pub(crate) fn gather(reference: &Reference, given: &Given) -> Result<Self> {
        let pair = given.pair.as_ref();
        let login = pair.map(|pair| {
            let registry = reference.registry().to_owned();
            let (user, password) = pair
                .expose()
                .split_once(':')
                .context("`--creds` needs a user name, a colon and a password")?;
            let pair = Pair {
                user: user.to_owned(),
                secret: password.to_owned().into(),
            };
            anyhow::Ok((registry, Login::of_pair(pair, "--creds".to_owned())))
        });
        let given_login = login.transpose()?;
        let (sources, warnings) = sources::read(given.file.as_deref())?;
        let mut credentials = Self {
            given: given_login,
            sources,
            warnings,
            ..Self::default()
        };
        credentials.prepare(reference.registry(), reference.repository());
        Ok(credentials)
    }

    /// Returns those that make us `login` for `registry`.
    pub(crate) fn only(registry: &str, login: Login) -> Self {
        Self {
            given: Some((registry.to_owned(), login)),
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(crate) fn in_file(path: &Path) -> Self {
        Self {
            sources: sources::read(Some(path)).unwrap().0,
            ..Self::default()
        }
    }

    /// Asks the helper that may keep what is for `repository` of `registry`, if there is one:
    /// [`Credentials::find`] only remembers.
    pub(crate) fn prepare(&mut self, registry: &str, repository: &str) {
        let (mut answers, mut warnings) = (BTreeMap::new(), Vec::new());
        let mut ask = |name: &str, server: &str| {
            let answer = helper::get(name, server).unwrap_or_else(|error| {
                warnings.push(format!("{error:#}; going on without it"));
                None
            });
            answers.insert((name.to_owned(), server.to_owned()), answer.clone());
            answer
        };
        // A source that cannot be read is told by `find`, if credentials are wanted at all.
        self.search(registry, repository, &mut ask).ok();
        self.answers.extend(answers);
        self.warnings.extend(warnings);
    }

    /// Returns what the user should know although it stops nothing.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns what there is for `repository` of `registry`: the first hit of all sources.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>> {
        self.search(registry, repository, &mut |name, server| {
            let asked = (name.to_owned(), server.to_owned());
            self.answers.get(&asked)?.clone()
        })
    }

    fn search(
        &self,
        registry: &str,
        repository: &str,
        ask: &mut dyn FnMut(&str, &str) -> Option<Pair>,
    ) -> Result<Option<Login>> {
        if let Some((given, login)) = &self.given
            && given == registry
        {
            return Ok(Some(login.clone()));
        }
        for Source { origin, content } in &self.sources {
            let configuration = content.as_ref().map_err(|error| anyhow!("{error}"))?;
            if let Some(name) = configuration.helper(registry) {
                let server = key::of(registry);
                if let Some(pair) = ask(name, server) {
                    let origin =
                        format!("`docker-credential-{name}`, key `{server}`, named in {origin}");
                    return Ok(Some(Login::of_pair(pair, origin)));
                }
            }
            if let Some(login) = configuration.entry(registry, repository, origin)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::credentials::file::Configuration;

    fn source(origin: &str, text: &str) -> Source {
        let content = Configuration::parse(text.as_bytes(), origin);
        Source {
            origin: origin.to_owned(),
            content: content.map_err(|error| format!("{error:#}")),
        }
    }

    fn user(credentials: &Credentials, registry: &str, repository: &str) -> Option<String> {
        let login = credentials.find(registry, repository).unwrap()?;
        Some(format!("{} ({})", login.user, login.origin))
    }

    #[test]
    fn the_first_source_with_an_entry_wins() {
        let credentials = Credentials {
            sources: vec![
                source("/1", r#"{"auths":{"a.io":{},"b.io":{"username":"b1"}}}"#),
                source(
                    "/2",
                    r#"{"auths":{"a.io":{"username":"a2"},"b.io/ns":{"username":"b2"}}}"#,
                ),
            ],
            ..Credentials::default()
        };
        for (registry, repository, expected) in [
            ("a.io", "x", Some("a2 (key `a.io` in /2)")),
            ("b.io", "ns/x", Some("b1 (key `b.io` in /1)")),
            ("c.io", "x", None),
        ] {
            let found = user(&credentials, registry, repository);
            assert_eq!(found.as_deref(), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn what_the_command_line_gives_is_for_its_registry_only() {
        let given = Given {
            pair: Some("me:pw:x".to_owned().into()),
            file: None,
        };
        let reference = "r.example/x".parse().unwrap();
        let credentials = Credentials::gather(&reference, &given).unwrap();
        let login = credentials.find("r.example", "x").unwrap().unwrap();
        assert_eq!(login.proof, Proof::Password("pw:x".to_owned().into()));
        assert_eq!(login.origin, "--creds");
        assert_eq!(credentials.find("mirror.example", "x").unwrap(), None);
        assert!(!format!("{credentials:?} {given:?}").contains("pw"));
        let given = Given {
            pair: Some("hidden".to_owned().into()),
            file: None,
        };
        let error = Credentials::gather(&reference, &given).unwrap_err();
        assert!(!format!("{error:#}").contains("hidden"), "{error:#}");
    }

    #[test]
    fn a_helpers_answer_is_remembered_and_comes_before_its_files_entries() {
        let text = r#"{"credsStore":"desktop","auths":{"a.io":{"username":"file"},"b.io":{"username":"file"}}}"#;
        let answer = Some(Pair {
            user: "<token>".to_owned(),
            secret: "t".to_owned().into(),
        });
        let credentials = Credentials {
            sources: vec![source("/c", text)],
            answers: BTreeMap::from([(("desktop".to_owned(), "a.io".to_owned()), answer)]),
            ..Credentials::default()
        };
        let login = credentials.find("a.io", "x").unwrap().unwrap();
        assert_eq!(login.proof, Proof::IdentityToken("t".to_owned().into()));
        assert_eq!(
            login.origin,
            "`docker-credential-desktop`, key `a.io`, named in /c"
        );
        assert_eq!(
            user(&credentials, "b.io", "x").as_deref(),
            Some("file (key `b.io` in /c)")
        );
    }

    #[test]
    fn a_helper_that_fails_is_warned_of_and_the_search_goes_on() {
        let text = r#"{"credsStore":"ddock-none","auths":{"a.io":{"username":"file"}}}"#;
        let mut credentials = Credentials {
            sources: vec![source("/c", text)],
            ..Credentials::default()
        };
        credentials.prepare("a.io", "x");
        assert_eq!(
            credentials.warnings(),
            [
                "the credential helper `docker-credential-ddock-none` is not in PATH; going on without it"
            ]
        );
        assert!(credentials.find("a.io", "x").unwrap().is_some());
    }

    #[test]
    fn a_source_that_cannot_be_read_is_told_when_credentials_are_wanted() {
        let mut credentials = Credentials {
            sources: vec![source("/c", "{")],
            ..Credentials::default()
        };
        credentials.prepare("a.io", "x");
        assert_eq!(credentials.warnings(), &[] as &[String]);
        let error = credentials.find("a.io", "x").unwrap_err();
        assert!(error.to_string().starts_with("/c is no Docker"), "{error}");
    }
}
