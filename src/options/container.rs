//! All that a container is asked to be, whoever asks: enough to make it, and to make it again.

use crate::human::printable;
use crate::options::device::Devices;
use crate::options::environment::Environment;
use crate::options::files::Files;
use crate::options::lifetime::Stop;
use crate::options::limits::Limits;
use crate::options::log::Log;
use crate::options::names::NetworkNames;
use crate::options::namespaces::{Namespaces, Network};
use crate::options::publish::Publish;
use crate::options::root::Root;
use crate::options::security::Security;
use crate::options::user::{GroupName, UserName};
use crate::platform::Platform;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest hostname of the kernel (sethostname(2)), in bytes.
const HOSTNAME_LIMIT: usize = 64;

/// What a container is asked to be, all of it. What the image says is not in here, and what the machine is neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(crate) struct ContainerOptions {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) root: Root,
    /// `--platform`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) platform: Option<Platform>,
    /// What follows the image on the command line.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) command: Vec<String>,
    /// `--entrypoint`: none is the image's; nothing, or one empty word, is no entrypoint.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) environment: Environment,
    /// `-w`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) working_directory: Option<String>,
    /// `-u`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) user: Option<UserName>,
    /// `--group-add`, in order.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) groups: Vec<GroupName>,
    /// `--umask`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) umask: Option<u32>,
    /// `--tz`: a zone of the host's zoneinfo(5), or `local`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) time_zone: Option<String>,
    /// `-h`; the ID's first 12 digits otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) hostname: Option<String>,
    /// `--domainname`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) domain_name: Option<String>,
    /// `-t`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) terminal: bool,
    /// `-i`: the command has an input.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) interactive: bool,
    /// Which of the command's streams whoever started it is attached to, as `-a` and `-d` say.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) attached: Streams,
    /// `--rm`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) remove: bool,
    /// `--init`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) init: bool,
    /// `--timeout`, in seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) timeout: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) stop: Stop,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) log: Log,
    /// `--label-file`, and `--label` above them.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) labels: BTreeMap<String, String>,
    /// `--annotation`
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) files: Files,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) namespaces: Namespaces,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) names: NetworkNames,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) publish: Publish,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) limits: Limits,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) devices: Devices,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) security: Security,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The standard streams of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl ContainerOptions {
    /// Refuses what makes no sense together, whatever image and machine there are. The words are Docker's.
    pub(crate) fn check(&self) -> Result<()> {
        check_name("hostname", self.hostname.as_deref())?;
        check_name("domain name", self.domain_name.as_deref())?;
        let directory = self.working_directory.as_deref().unwrap_or_default();
        ensure!(
            directory.is_empty() || directory.starts_with('/'),
            "the working directory '{}' is invalid, it needs to be an absolute path",
            printable(directory)
        );
        self.files.check()?;
        self.limits.check()?;
        self.security.check()?;
        self.check_uts()?;
        self.check_network()
    }

    fn check_uts(&self) -> Result<()> {
        let joins_network = matches!(self.namespaces.network, Network::Container(_));
        let conflicts = [
            (
                self.hostname.is_some() && self.namespaces.uts_of_host,
                "hostname and the UTS mode",
            ),
            (
                self.domain_name.is_some() && self.namespaces.uts_of_host,
                "domainname and the UTS mode",
            ),
            (
                self.hostname.is_some() && joins_network,
                "hostname and the network mode",
            ),
        ];
        refuse(conflicts)
    }

    /// Another container's network leaves no choice, and the host's has parameters that are the machine's.
    fn check_network(&self) -> Result<()> {
        let network = &self.namespaces.network;
        let sysctl = self.limits.sysctls.iter().find(|it| it.is_of_network());
        if let Some(sysctl) = sysctl.filter(|_| !network.is_own()) {
            bail!(
                "sysctl '{}={}' is not allowed in the host network namespace",
                sysctl.name,
                printable(&sysctl.value)
            );
        }
        if !matches!(network, Network::Container(_)) {
            return Ok(());
        }
        let (publish, names) = (&self.publish, &self.names);
        refuse([
            (
                publish.all || !publish.publications.is_empty(),
                "port publishing and the container type network mode",
            ),
            (
                !publish.exposed.is_empty(),
                "port exposing and the container type network mode",
            ),
            (
                !(names.servers.is_empty() && names.search.is_empty() && names.options.is_empty()),
                "dns and the network mode",
            ),
            (
                !names.hosts.is_empty(),
                "custom host-to-IP mapping and the network mode",
            ),
        ])
    }
}

/// Reads `--entrypoint`: a program, or a JSON array of it and its first arguments.
pub(crate) fn parse_entrypoint(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| vec![text.to_owned()])
}

fn refuse<const COUNT: usize>(conflicts: [(bool, &str); COUNT]) -> Result<()> {
    match conflicts.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => bail!("conflicting options: {what}"),
        None => Ok(()),
    }
}

/// Refuses a name that the kernel does not take: it has at most 64 bytes (sethostname(2), setdomainname(2)).
pub(crate) fn check_name(what: &str, name: Option<&str>) -> Result<()> {
    let name = name.unwrap_or_default();
    ensure!(
        name.len() <= HOSTNAME_LIMIT
            && !name.contains(|c: char| c.is_whitespace() || c.is_control()),
        "invalid {what} `{}`: at most {HOSTNAME_LIMIT} bytes without blanks",
        printable(name)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn refused(options: &ContainerOptions) -> String {
        options.check().unwrap_err().to_string()
    }

    fn of(network: Network) -> ContainerOptions {
        ContainerOptions {
            namespaces: Namespaces {
                network,
                ..Namespaces::default()
            },
            ..ContainerOptions::default()
        }
    }

    #[test]
    fn names_and_directories_are_those_of_a_kernel() {
        for bad in ["a b", "a\nb", &"x".repeat(65)] {
            let options = ContainerOptions {
                hostname: Some(bad.to_owned()),
                ..ContainerOptions::default()
            };
            assert!(refused(&options).starts_with("invalid hostname"), "{bad}");
        }
        let options = ContainerOptions {
            working_directory: Some("app".to_owned()),
            ..ContainerOptions::default()
        };
        assert_eq!(
            refused(&options),
            "the working directory 'app' is invalid, it needs to be an absolute path"
        );
    }

    #[test]
    fn what_conflicts_is_refused_in_dockers_words() {
        let mut published = of(Network::Container("other".to_owned()));
        published.publish.all = true;
        let mut asked = of(Network::Container("other".to_owned()));
        asked.names.servers = vec![Ipv4Addr::LOCALHOST.into()];
        let mut named = of(Network::Container("other".to_owned()));
        named.hostname = Some("box".to_owned());
        let mut tuned = of(Network::Host);
        tuned.limits.sysctls = vec!["net.core.somaxconn=5".parse().unwrap()];
        for (options, expected) in [
            (
                published,
                "conflicting options: port publishing and the container type network mode",
            ),
            (asked, "conflicting options: dns and the network mode"),
            (named, "conflicting options: hostname and the network mode"),
            (
                tuned,
                "sysctl 'net.core.somaxconn=5' is not allowed in the host network namespace",
            ),
        ] {
            assert_eq!(refused(&options), expected);
        }
        ContainerOptions::default().check().unwrap();
    }
}
