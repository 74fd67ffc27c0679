//! A route: one host that may answer for a repository, and how it is spoken to.

use crate::reference::{DOCKER_HUB, Reference};
use anyhow::{Context, Result, bail, ensure};
use reqwest::Url;
use reqwest::header::HeaderMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Docker Hub's name on the wire.
const HUB_HOST: &str = "registry-1.docker.io";

/// How much a host must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// https with a certificate that we trust.
    Verified,
    /// https with any certificate, else plain http: the user said so.
    Insecure,
    /// Plain http: a configuration file spells it out.
    Plain,
}

/// Files with certificates, beyond those in `certs.d`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) roots: Vec<PathBuf>,
    /// The client's certificate; its key, if that is in a file of its own.
    pub(crate) client: Option<(PathBuf, Option<PathBuf>)>,
}

/// One host that may answer for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// As the user knows it: credentials and certificates are kept under this name.
    pub(crate) registry: String,
    /// With its port, as it is asked.
    pub(crate) host: String,
    /// Before the repository: `/v2`.
    pub(crate) path: String,
    /// Its name at this host.
    pub(crate) repository: String,
    pub(crate) security: Security,
    pub(crate) is_mirror: bool,
    /// It is not believed what a tag names.
    pub(crate) digests_only: bool,
    /// Sent as `?ns=`: for which registry a mirror of many is asked.
    pub(crate) namespace: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) files: Files,
}

impl Route {
    /// Returns the way to the registry of `reference` when nothing is configured.
    pub(crate) fn origin(reference: &Reference) -> Result<Self> {
        let base: Base = reference.registry().parse()?;
        Ok(Self {
            is_mirror: false,
            ..Self::mirror(&base, reference)
        })
    }

    /// Returns the way to the mirror at `base`, where the repository has its own name.
    pub(crate) fn mirror(base: &Base, reference: &Reference) -> Self {
        Self {
            registry: base.registry.clone(),
            host: base.host(),
            path: format!("{}/v2", base.path),
            repository: reference.repository().to_owned(),
            security: if base.is_plain {
                Security::Plain
            } else {
                Security::Verified
            },
            is_mirror: true,
            digests_only: false,
            namespace: None,
            headers: HeaderMap::new(),
            files: Files::default(),
        }
    }
}

/// Where a host is: `[https://]HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) is_plain: bool,
    /// Host and port as written, but Docker Hub by its one name.
    pub(crate) registry: String,
    /// Empty, or with a leading slash and none at its end.
    pub(crate) path: String,
}

impl Base {
    /// Returns host and port as they are asked.
    fn host(&self) -> String {
        match &*self.registry {
            DOCKER_HUB => HUB_HOST.to_owned(),
            registry => registry.to_owned(),
        }
    }
}

impl FromStr for Base {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (is_plain, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("https", rest)) => (false, rest),
            Some(("http", rest)) => (true, rest),
            Some(_) => bail!("neither http nor https"),
        };
        // The text may hold a password: it is not repeated here.
        ensure!(
            !rest.contains('@'),
            "a user name has no place in it; log in to that host instead"
        );
        ensure!(!rest.contains(['?', '#']), "a query has no place in it");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Url::parse(&format!("https://{host}/"))
            .with_context(|| format!("`{host}` is no host name"))?;
        let registry = match host {
            HUB_HOST | "index.docker.io" => DOCKER_HUB,
            host => host,
        };
        let path = path.trim_matches('/');
        Ok(Self {
            is_plain,
            registry: registry.to_owned(),
            path: if path.is_empty() {
                String::new()
            } else {
                format!("/{path}")
            },
        })
    }
}
