//! `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` of a container.

use crate::spec::namespaces::Network;
use anyhow::Result;
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

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where systemd-resolved keeps the servers that it asks itself.
const UPSTREAM_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

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
pub(crate) fn build(network: &Network, hostname: &str, ipv6: bool) -> Result<Vec<File>> {
    let (hosts, resolv_conf) = match network {
        Network::Host => (read("/etc/hosts")?, read(RESOLV_CONF)?),
        Network::Container(_) => return Ok(Vec::new()),
        Network::Private => (hosts(ipv6), private_resolv_conf(ipv6)?),
    };
    let contents = [format!("{hostname}\n"), hosts, resolv_conf];
    let files = NAMES.into_iter().zip(contents);
    Ok(files
        .map(|(name, content)| File { name, content })
        .collect())
}

fn read(path: &str) -> Result<String> {
    match fs_err::read(path) {
        Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
        // A host without the file is fine: the C library has defaults.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

fn hosts(ipv6: bool) -> String {
    HOSTS.to_owned() + if ipv6 { HOSTS_IPV6 } else { "" }
}

fn private_resolv_conf(ipv6: bool) -> Result<String> {
    let text = read(RESOLV_CONF)?;
    if asks_only_resolved(&text) && Path::new(UPSTREAM_RESOLV_CONF).exists() {
        return Ok(adapt(
            &read(UPSTREAM_RESOLV_CONF)?,
            UPSTREAM_RESOLV_CONF,
            ipv6,
        ));
    }
    Ok(adapt(&text, RESOLV_CONF, ipv6))
}

/// Returns the words of each line that is not a comment (resolv.conf(5)).
fn directives(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let keyword = words.next()?;
        (!keyword.starts_with(['#', ';'])).then(|| (keyword, words.collect()))
    })
}

fn asks_only_resolved(text: &str) -> bool {
    let servers = directives(text).filter(|(keyword, _)| *keyword == "nameserver");
    let servers: Vec<Vec<&str>> = servers.map(|(_, words)| words).collect();
    servers == [["127.0.0.53"]]
}

/// Says why a name server of the host is of no use in a network namespace of its own, if so.
fn unusable(server: &str, ipv6: bool) -> Option<&'static str> {
    match server.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => Some("loopback"),
        Ok(IpAddr::V6(_)) if !ipv6 => Some("no IPv6"),
        Ok(_) => None,
        Err(_) if server.contains('%') => Some("belongs to an interface of the host"),
        Err(_) => Some("not an address"),
    }
}

/// Returns a host's resolv.conf without what cannot work in a network namespace of its own, and says in comments what changed.
fn adapt(text: &str, source: &str, ipv6: bool) -> String {
    let (mut servers, mut dropped) = (Vec::new(), Vec::new());
    let (mut search, mut options, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (keyword, words) in directives(text) {
        match (keyword, words.as_slice()) {
            ("nameserver", [server, ..]) => match unusable(server, ipv6) {
                None => servers.push(*server),
                Some(reason) => dropped.push((*server, reason)),
            },
            ("search" | "domain", words) => search = words.to_vec(),
            ("options", words) => options.extend_from_slice(words),
            (keyword, words) => others.push((keyword, words.join(" "))),
        }
    }
    let fallback = servers.is_empty();
    if fallback {
        servers.extend(["8.8.8.8", "8.8.4.4"]);
    }
    if fallback && ipv6 {
        servers.extend(["2001:4860:4860::8888", "2001:4860:4860::8844"]);
    }

    let mut lines: Vec<String> = servers
        .iter()
        .map(|it| format!("nameserver {it}"))
        .collect();
    if !search.is_empty() {
        lines.push(format!("search {}", search.join(" ")));
    }
    if !options.is_empty() {
        lines.push(format!("options {}", options.join(" ")));
    }
    lines.extend(
        others
            .iter()
            .map(|(keyword, words)| format!("{keyword} {words}")),
    );
    lines.push(format!("\n# Based on the host's {source}."));
    let left_out = dropped.iter();
    lines.extend(
        left_out.map(|(server, reason)| format!("# Left out: nameserver {server} ({reason}).")),
    );
    if fallback {
        lines.push("# Public name servers are used because none was left.".to_owned());
    }
    let mut file = String::new();
    for line in lines {
        writeln!(file, "{}", line.trim_end_matches(' ')).expect("a string takes every write");
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_network_knows_itself_only() {
        let files = build(&Network::Private, "box", true).unwrap();
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
        let files = build(&Network::Host, "box", true).unwrap();
        assert_eq!(files[1].content, read("/etc/hosts").unwrap());
        assert_eq!(files[2].content, read("/etc/resolv.conf").unwrap());
    }

    /// The directives of an adapted file, without the comments at its end.
    fn adapted(text: &str, ipv6: bool) -> String {
        let file = adapt(text, "/etc/resolv.conf", ipv6);
        file.split_once("\n\n").unwrap().0.to_owned()
    }

    #[test]
    fn name_servers_that_cannot_be_reached_are_left_out() {
        for (text, ipv6, expected) in [
            ("nameserver 10.0.0.1", true, "nameserver 10.0.0.1"),
            (
                "nameserver 127.0.0.1\nnameserver ::1\nnameserver 1.1.1.1",
                true,
                "nameserver 1.1.1.1",
            ),
            (
                "nameserver 1.1.1.1\nnameserver fd00::1",
                true,
                "nameserver 1.1.1.1\nnameserver fd00::1",
            ),
            (
                "nameserver 1.1.1.1\nnameserver fd00::1",
                false,
                "nameserver 1.1.1.1",
            ),
            (
                "nameserver fe80::1%eth0\nnameserver 1.1.1.1",
                true,
                "nameserver 1.1.1.1",
            ),
            (
                "nameserver nonsense",
                false,
                "nameserver 8.8.8.8\nnameserver 8.8.4.4",
            ),
            ("", false, "nameserver 8.8.8.8\nnameserver 8.8.4.4"),
            (
                "nameserver 127.0.0.53",
                true,
                "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844",
            ),
        ] {
            assert_eq!(adapted(text, ipv6), expected, "{text}");
        }
    }

    #[test]
    fn other_directives_are_kept() {
        let text = "# comment\n; comment\ndomain old.example\nsearch a.example b.example\n\
                    options ndots:1\nnameserver 1.1.1.1 # x\nsortlist 10.0.0.0\noptions rotate\nstrange\n";
        assert_eq!(
            adapted(text, false),
            "nameserver 1.1.1.1\nsearch a.example b.example\noptions ndots:1 rotate\nsortlist 10.0.0.0\nstrange"
        );
    }

    #[test]
    fn the_file_says_what_was_changed() {
        assert_eq!(
            adapt("nameserver 127.0.0.1", "/etc/resolv.conf", false),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n\n# Based on the host's /etc/resolv.conf.\n\
             # Left out: nameserver 127.0.0.1 (loopback).\n# Public name servers are used because none was left.\n"
        );
    }

    #[test]
    fn systemd_resolved_is_recognised() {
        for (text, expected) in [
            ("nameserver 127.0.0.53\noptions edns0", true),
            ("nameserver 127.0.0.53\nnameserver 1.1.1.1", false),
            ("#nameserver 127.0.0.53", false),
        ] {
            assert_eq!(asks_only_resolved(text), expected, "{text}");
        }
    }
}
