//! Image references, as a user types them and in full.

use crate::digest::Digest;
use std::fmt::{self, Display};
use std::str::FromStr;
use thiserror::Error;

/// The registry meant when a reference names none, and how it is shown.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// Repository names longer than this are refused (distribution/reference, `RepositoryNameTotalLengthMax`).
const MAX_NAME: usize = 255;

/// Why a string is not an image reference. The texts are Docker's own.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ParseError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    #[error(transparent)]
    Digest(#[from] crate::digest::ParseError),
}

/// What an image is called: a registry, a repository in it, and a tag, a digest or both.
///
/// Parsing fills in what the user left out: `ubuntu` is `docker.io/library/ubuntu:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Returns the registry's host and port, `docker.io` for Docker Hub.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository's path in its registry, `library/ubuntu` for `ubuntu`.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag: `latest` if the user gave neither a tag nor a digest.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, which wins over the tag when both are given.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns this repository at `digest`.
    pub(crate) fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns this repository at `tag`. Fails if that is no tag.
    pub(crate) fn with_tag(&self, tag: &str) -> Result<Self, ParseError> {
        if !is_tag(tag) {
            return Err(ParseError::Format);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the repository as Docker shows it: `ubuntu`, `foo/bar`, `localhost:5000/x`.
    pub(crate) fn familiar_name(&self) -> String {
        if self.registry != DOCKER_HUB {
            return format!("{}/{}", self.registry, self.repository);
        }
        self.repository
            .strip_prefix("library/")
            .filter(|rest| !rest.contains('/'))
            .unwrap_or(&self.repository)
            .to_owned()
    }

    /// Returns the reference as Docker shows it: `ubuntu:latest`.
    pub(crate) fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name = format!("{name}:{tag}");
        }
        if let Some(digest) = &self.digest {
            name = format!("{name}@{digest}");
        }
        name
    }
}

impl Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.registry, self.repository)))
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        // A colon after the last slash starts the tag.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        check_repository(&repository)?;
        if registry != DOCKER_HUB && !is_registry(registry) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ParseError::Format);
        }
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ParseError::TooLong);
        }
        let default = (digest.is_none() && tag.is_none()).then_some("latest");
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.or(default).map(str::to_owned),
            digest,
        })
    }
}

/// Tells whether `text` is most likely meant as a registry, although by Docker's rule it is a repository on Docker
/// Hub: `localhost:5000`, `registry.example:443`, `example.com`.
pub(crate) fn looks_like_registry(text: &str) -> bool {
    if text.contains(['/', '@']) {
        return false;
    }
    let (host, tag) = text.split_once(':').unwrap_or((text, ""));
    let port = tag.parse::<u16>();
    host == "localhost"
        || (host.contains('.') && (tag.is_empty() || port.is_ok_and(|port| port >= 80)))
}

/// Splits the registry from the rest, by Docker's rule: the first component is a registry if it
/// has a dot or a colon, is `localhost`, or is not lower case.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io" | DOCKER_HUB, rest)) => (DOCKER_HUB, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, text),
    }
}

fn check_repository(repository: &str) -> Result<(), ParseError> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = repository.to_ascii_lowercase();
        return Err(match check_repository(&lower) {
            Ok(()) => ParseError::Uppercase(repository.to_owned()),
            Err(error) => error,
        });
    }
    if repository.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ParseError::Format)
    }
}

/// `[a-z0-9]+((?:[._]|__|[-]+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !is_word(**byte)).count();
        match &rest[..separator] {
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|byte| *byte == b'-') => {}
            _ => return false,
        }
        rest = &rest[separator..];
    }
}

/// `[\w][\w.-]{0,127}`
fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && is_word(text.as_bytes()[0])
        && text
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// A host name, IPv4 address or bracketed IPv6 address, with or without a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some((address, port)) => {
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            (if is_address { "v6" } else { "" }, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("0")),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label) && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_completed_as_docker_does() {
        for (text, full, familiar) in [
            ("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
            (
                "ubuntu:24.04",
                "docker.io/library/ubuntu:24.04",
                "ubuntu:24.04",
            ),
            ("foo/bar", "docker.io/foo/bar:latest", "foo/bar:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("a.b/x", "a.b/x:latest", "a.b/x:latest"),
            ("a:5000/x", "a:5000/x:latest", "a:5000/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("Foo/x", "Foo/x:latest", "Foo/x:latest"),
            (
                "index.docker.io/x",
                "docker.io/library/x:latest",
                "x:latest",
            ),
            (
                "docker.io/ubuntu",
                "docker.io/library/ubuntu:latest",
                "ubuntu:latest",
            ),
            ("docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
            (
                "localhost:5000",
                "docker.io/library/localhost:5000",
                "localhost:5000",
            ),
            (
                "a/b__c/d-e---f.g:T_x.y-1",
                "docker.io/a/b__c/d-e---f.g:T_x.y-1",
                "a/b__c/d-e---f.g:T_x.y-1",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
    }

    #[test]
    fn a_digest_needs_no_tag_and_keeps_one() {
        let reference: Reference = format!("ubuntu@{DIGEST}").parse().unwrap();
        assert_eq!(
            (
                reference.tag(),
                reference.digest().map(ToString::to_string).as_deref()
            ),
            (None, Some(DIGEST))
        );
        let both: Reference = format!("ubuntu:24.04@{DIGEST}").parse().unwrap();
        assert_eq!(both.familiar(), format!("ubuntu:24.04@{DIGEST}"));
    }

    #[test]
    fn what_is_meant_as_a_registry_is_told_from_names_with_tags() {
        for (text, expected) in [
            ("localhost:5000", true),
            ("localhost", true),
            ("example.com", true),
            ("r.example:443", true),
            ("localhost:5000/x", false),
            ("ubuntu:2404", false),
            ("ubuntu:24.04", false),
            ("node.js:16", false),
        ] {
            assert_eq!(looks_like_registry(text), expected, "{text}");
        }
    }

    #[test]
    fn a_tag_of_a_registrys_list_must_be_one() {
        let reference: Reference = format!("ubuntu@{DIGEST}").parse().unwrap();
        assert_eq!(reference.with_tag("1").unwrap().familiar(), "ubuntu:1");
        for bad in ["", "../x", "a b", "a@b", "a:b"] {
            assert!(reference.with_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_references_are_refused() {
        let error = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(
            error("Ubuntu"),
            "invalid reference format: repository name (library/Ubuntu) must be lowercase"
        );
        assert_eq!(
            error("foo/Bar"),
            "invalid reference format: repository name (foo/Bar) must be lowercase"
        );
        assert_eq!(
            error(&"a".repeat(256)),
            "repository name must not be more than 255 characters"
        );
        let id = "a".repeat(64);
        assert_eq!(
            error(&id),
            format!("invalid repository name ({id}), cannot specify 64-byte hexadecimal strings")
        );
        for bad in [
            "",
            " ",
            ":tag",
            "x:",
            "x:-t",
            "-x",
            "x/",
            "/x",
            "x//y",
            "../x",
            "a/../b",
            "x:a:b",
            "x y",
            "x%2e",
            "a@b",
            "x:tág",
            "x_-y",
            "x___y",
            "x..y",
            "x@sha256:12",
            "a.b:99999/x",
            "-a.b/x",
            "[::z]:1/x",
            "a..b/x",
            "user@host.example/x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
