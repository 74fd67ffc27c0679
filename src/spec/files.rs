//! `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` of a container.

use crate::options::{AddedHost, HostAddress, Network, NetworkNames};
use crate::spec::resolv;
use crate::spec::subject::Subject;
use crate::sys::file;
use anyhow::{Result, ensure};
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

/// A file of the container's directory that is mounted into the container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name in the directory; of [`NAMES`] also its name in the container's `/etc`.
    pub(crate) name: &'static str,
    pub(crate) content: String,
}

/// The names of the files, each under `/etc` in the container.
pub(crate) const NAMES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

const HOSTS: &str = "127.0.0.1\tlocalhost\n";

const HOSTS_IPV6: &str = "\
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Returns the three files. With the host's network, name resolution is the host's too; with another container's the
/// files are those of that one.
///
/// The line about the container itself is appended to `hosts` when its address is known.
pub(crate) fn build(subject: &Subject, hostname: &str, ipv6: bool) -> Result<Vec<File>> {
    let names = &subject.options.names;
    let (hosts, resolv_conf) = match subject.options.namespaces.network {
        Network::Host => (read("/etc/hosts")?, resolv::of_host(names)?),
        Network::Container(_) => return Ok(Vec::new()),
        Network::Bridge | Network::None => (hosts(ipv6), resolv::private(names, ipv6)?),
        Network::Named(_) => (hosts(ipv6), resolv::named(names)?),
    };
    let hosts = hosts + &added_hosts(names, &subject.gateways)?;
    let contents = [format!("{hostname}\n"), hosts, resolv_conf];
    let files = NAMES.into_iter().zip(contents);
    Ok(files
        .map(|(name, content)| File { name, content })
        .collect())
}

pub(super) fn read(path: &str) -> Result<String> {
    match file::read(Path::new(path)) {
        Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
        // A host without the file is fine: the C library has defaults.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

fn hosts(ipv6: bool) -> String {
    HOSTS.to_owned() + if ipv6 { HOSTS_IPV6 } else { "" }
}

/// Returns the lines of `--add-host`, in order.
fn added_hosts(names: &NetworkNames, gateways: &[IpAddr]) -> Result<String> {
    let mut lines = String::new();
    for AddedHost { name, address } in &names.hosts {
        let addresses = match address {
            HostAddress::Address(address) => std::slice::from_ref(address),
            HostAddress::Gateway => gateways,
        };
        ensure!(
            !addresses.is_empty(),
            "`host-gateway` of `--add-host` needs a network in which the host has an address: with `--network host` it is 127.0.0.1"
        );
        for address in addresses {
            writeln!(lines, "{address}\t{name}").expect("a string takes every write");
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{ContainerOptions, Namespaces};

    fn in_network(network: Network) -> Subject {
        let namespaces = Namespaces {
            network,
            ..Namespaces::default()
        };
        Subject {
            options: ContainerOptions {
                namespaces,
                ..ContainerOptions::default()
            },
            ..Subject::default()
        }
    }

    #[test]
    fn a_private_network_knows_itself_only() {
        let files = build(&in_network(Network::None), "box", true).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.name).collect();
        assert_eq!(names, NAMES);
        assert_eq!(files[0].content, "box\n");
        assert_eq!(
            files[1].content,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        );
        assert_eq!(hosts(false), "127.0.0.1\tlocalhost\n");
    }

    #[test]
    fn the_hosts_network_brings_the_hosts_files() {
        let files = build(&in_network(Network::Host), "box", true).unwrap();
        assert_eq!(files[1].content, read("/etc/hosts").unwrap());
        assert_eq!(files[2].content, read("/etc/resolv.conf").unwrap());
    }

    #[test]
    fn added_hosts_come_in_order_and_the_gateway_may_be_two() {
        let hosts = ["a:10.0.0.1", "host:host-gateway"];
        let names = NetworkNames {
            hosts: hosts.map(|text| text.parse().unwrap()).into(),
            ..NetworkNames::default()
        };
        assert!(added_hosts(&names, &[]).is_err());
        let gateways = ["172.29.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(
            added_hosts(&names, &gateways).unwrap(),
            "10.0.0.1\ta\n172.29.0.1\thost\nfd00::1\thost\n"
        );
    }
}
