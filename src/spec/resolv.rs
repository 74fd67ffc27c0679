//! `/etc/resolv.conf` of a container: the host's, as far as it can work there, and what the flags say instead.

use crate::spec::files::read;
use crate::spec::request::NetworkNames;
use anyhow::Result;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where systemd-resolved keeps the servers that it asks itself.
const UPSTREAM_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// The host's own file, unless a flag says otherwise.
pub(super) fn of_host(names: &NetworkNames) -> Result<String> {
    let text = read(RESOLV_CONF)?;
    if names.servers.is_empty() && names.search.is_empty() && names.options.is_empty() {
        return Ok(text);
    }
    Ok(Resolv::parse(&text, |_| None).write(RESOLV_CONF, names, None))
}

/// The file of a container with a network namespace of its own.
pub(super) fn private(names: &NetworkNames, ipv6: bool) -> Result<String> {
    let text = read(RESOLV_CONF)?;
    if asks_only_resolved(&text) && Path::new(UPSTREAM_RESOLV_CONF).exists() {
        return Ok(adapt(
            &read(UPSTREAM_RESOLV_CONF)?,
            UPSTREAM_RESOLV_CONF,
            names,
            ipv6,
        ));
    }
    Ok(adapt(&text, RESOLV_CONF, names, ipv6))
}

/// Returns a host's resolv.conf without what cannot work in a network namespace of its own, and says in comments what changed.
fn adapt(text: &str, source: &str, names: &NetworkNames, ipv6: bool) -> String {
    Resolv::parse(text, |server| unusable(server, ipv6)).write(source, names, Some(ipv6))
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

/// What a host's file says.
#[derive(Default)]
struct Resolv<'a> {
    servers: Vec<String>,
    /// Servers that are of no use, and why.
    dropped: Vec<(&'a str, &'static str)>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
    /// Unknown directives, as they are.
    others: Vec<String>,
}

impl<'a> Resolv<'a> {
    fn parse(text: &'a str, unusable: impl Fn(&str) -> Option<&'static str>) -> Self {
        let mut found = Self::default();
        for (keyword, words) in directives(text) {
            match (keyword, words.as_slice()) {
                ("nameserver", [server, ..]) => match unusable(server) {
                    None => found.servers.push((*server).to_owned()),
                    Some(reason) => found.dropped.push((server, reason)),
                },
                ("search" | "domain", words) => found.search = words.to_vec(),
                ("options", words) => found.options.extend_from_slice(words),
                (keyword, words) => found.others.push(format!("{keyword} {}", words.join(" "))),
            }
        }
        found
    }

    /// Returns the container's file. Without servers it gets public ones, if it is told whether there is IPv6.
    fn write(mut self, source: &str, names: &'a NetworkNames, ipv6: Option<bool>) -> String {
        let mut remarks = vec![format!("\n# Based on the host's {source}.")];
        if names.servers.is_empty() {
            let dropped = self.dropped.iter();
            remarks
                .extend(dropped.map(|(server, reason)| {
                    format!("# Left out: nameserver {server} ({reason}).")
                }));
            if let Some(ipv6) = ipv6.filter(|_| self.servers.is_empty()) {
                self.servers = public_servers(ipv6);
                remarks.push("# Public name servers are used because none was left.".to_owned());
            }
        } else {
            self.servers = names.servers.iter().map(ToString::to_string).collect();
            remarks.push("# The name servers are those of `--dns`.".to_owned());
        }
        if !names.search.is_empty() {
            let words = names.search.iter().map(String::as_str);
            self.search = words.filter(|word| *word != ".").collect();
            remarks.push("# The search list is that of `--dns-search`.".to_owned());
        }
        if !names.options.is_empty() {
            self.options = names.options.iter().map(String::as_str).collect();
            remarks.push("# The options are those of `--dns-option`.".to_owned());
        }
        let mut file = String::new();
        for line in self.lines().into_iter().chain(remarks) {
            writeln!(file, "{}", line.trim_end_matches(' ')).expect("a string takes every write");
        }
        file
    }

    fn lines(self) -> Vec<String> {
        let servers = self.servers.iter().map(|it| format!("nameserver {it}"));
        let mut lines: Vec<String> = servers.collect();
        if !self.search.is_empty() {
            lines.push(format!("search {}", self.search.join(" ")));
        }
        if !self.options.is_empty() {
            lines.push(format!("options {}", self.options.join(" ")));
        }
        lines.extend(self.others);
        lines
    }
}

fn public_servers(ipv6: bool) -> Vec<String> {
    let mut servers = vec!["8.8.8.8", "8.8.4.4"];
    if ipv6 {
        servers.extend(["2001:4860:4860::8888", "2001:4860:4860::8844"]);
    }
    servers.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directives of an adapted file, without the comments at its end.
    fn adapted(text: &str, ipv6: bool) -> String {
        let file = adapt(text, RESOLV_CONF, &NetworkNames::default(), ipv6);
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
            adapt(
                "nameserver 127.0.0.1",
                RESOLV_CONF,
                &NetworkNames::default(),
                false
            ),
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

    #[test]
    fn flags_replace_what_the_host_says() {
        let text = "nameserver 127.0.0.1\nsearch a.example\noptions ndots:1\n";
        let names = |search: &[&str]| NetworkNames {
            servers: vec!["127.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            search: search.iter().map(|&it| it.to_owned()).collect(),
            options: vec!["ndots:5".to_owned()],
            ..NetworkNames::default()
        };
        let file = adapt(text, RESOLV_CONF, &names(&["b.example"]), false);
        let servers = "nameserver 127.0.0.1\nnameserver fd00::1\n";
        let expected = format!("{servers}search b.example\noptions ndots:5\n\n# Based");
        assert!(file.starts_with(&expected), "{file}");
        let file = adapt(text, RESOLV_CONF, &names(&["."]), false);
        assert!(file.starts_with(&format!("{servers}options")), "{file}");
    }
}
