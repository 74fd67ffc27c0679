//! `/etc/resolv.conf` of a container: the host's, as far as it can work there, and what the flags say instead.

use crate::network::RESOLVER;
use crate::options::NetworkNames;
use crate::spec::files::read;
use anyhow::Result;
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt as _;
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

/// The file of a container in networks of the user's: it asks the responder there, which asks others in its place.
pub(super) fn named(names: &NetworkNames) -> Result<String> {
    Ok(with_responder(&read(RESOLV_CONF)?, names))
}

/// Returns a container's file as it is once the container is in a network of the user's; `servers` are those of `--dns`.
pub(crate) fn ask_responder(text: &str, servers: &[IpAddr]) -> String {
    let names = NetworkNames {
        servers: servers.to_vec(),
        ..NetworkNames::default()
    };
    with_responder(text, &names)
}

fn with_responder(text: &str, names: &NetworkNames) -> String {
    let mut found = Resolv::parse(text, |_| None);
    // None of the others is named: what the host's are may change while the container runs.
    found.servers = vec![RESOLVER.to_string()];
    let mut remarks = vec![based_on(RESOLV_CONF)];
    found.choose(names, &mut remarks);
    if !found.options.iter().any(|it| it.starts_with("ndots:")) {
        // A container's name has no dots, and is asked for as it is before anything is added to it.
        found.options.push("ndots:0");
    }
    let others = if names.servers.is_empty() {
        "the host's servers are asked for all others".to_owned()
    } else {
        let servers = names.servers.iter().map(ToString::to_string);
        let servers = servers.collect::<Vec<_>>().join(" ");
        format!("{servers} are asked for all others, as `--dns` says")
    };
    remarks.push(format!(
        "# {RESOLVER} knows the names of containers; {others}."
    ));
    found.file(&remarks)
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
        let mut remarks = vec![based_on(source)];
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
        self.choose(names, &mut remarks);
        self.file(&remarks)
    }

    /// Takes what the flags say instead of the host, and says so.
    fn choose(&mut self, names: &'a NetworkNames, remarks: &mut Vec<String>) {
        if !names.search.is_empty() {
            let words = names.search.iter().map(String::as_str);
            self.search = words.filter(|word| *word != ".").collect();
            remarks.push("# The search list is that of `--dns-search`.".to_owned());
        }
        if !names.options.is_empty() {
            self.options = names.options.iter().map(String::as_str).collect();
            remarks.push("# The options are those of `--dns-option`.".to_owned());
        }
    }

    fn file(self, remarks: &[String]) -> String {
        let mut file = String::new();
        for line in self.lines().iter().chain(remarks) {
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

fn based_on(source: &str) -> String {
    format!("\n# Based on the host's {source}.")
}

fn public_servers(ipv6: bool) -> Vec<String> {
    let mut servers = vec!["8.8.8.8", "8.8.4.4"];
    if ipv6 {
        servers.extend(["2001:4860:4860::8888", "2001:4860:4860::8844"]);
    }
    servers.into_iter().map(str::to_owned).collect()
}

/// The host's name servers, as the host reaches them itself; read again when they change.
#[derive(Default)]
pub(crate) struct HostServers {
    seen: Option<Stamp>,
    servers: Vec<SocketAddr>,
}

/// What tells a file from the one before it: its inode, when it was changed, and its size.
type Stamp = (u64, i64, i64, u64);

impl HostServers {
    pub(crate) fn now(&mut self) -> Result<&[SocketAddr]> {
        let stamp = match fs_err::metadata(RESOLV_CONF) {
            Ok(it) => (it.ino(), it.ctime(), it.ctime_nsec(), it.size()),
            Err(error) if error.kind() == ErrorKind::NotFound => Stamp::default(),
            Err(error) => return Err(error.into()),
        };
        if self.seen != Some(stamp) {
            self.servers = servers_of(&read(RESOLV_CONF)?);
            self.seen = Some(stamp);
        }
        Ok(&self.servers)
    }
}

fn servers_of(text: &str) -> Vec<SocketAddr> {
    let servers = directives(text).filter(|(keyword, _)| *keyword == "nameserver");
    let servers = servers.filter_map(|(_, words)| server(words.first()?));
    let servers: Vec<SocketAddr> = servers.collect();
    if !servers.is_empty() {
        return servers;
    }
    let public = public_servers(false).into_iter();
    public.filter_map(|it| server(&it)).collect()
}

/// Returns a server as a socket has it, with the number of its link where it belongs to one.
fn server(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    let Some((address, link)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, PORT));
    };
    // A link that is not there reaches nobody.
    let index = fs_err::read_to_string(format!("/sys/class/net/{link}/ifindex")).ok()?;
    let index = index.trim().parse().ok()?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
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
    fn in_a_network_of_the_users_the_responder_is_asked_and_what_else_the_host_says_stays() {
        let text = "nameserver 127.0.0.53\nsearch a.example\noptions edns0\nsortlist 10.0.0.0\n";
        let file = with_responder(text, &NetworkNames::default());
        assert_eq!(
            file,
            "nameserver 127.0.0.11\nsearch a.example\noptions edns0 ndots:0\nsortlist 10.0.0.0\n\n\
             # Based on the host's /etc/resolv.conf.\n\
             # 127.0.0.11 knows the names of containers; the host's servers are asked for all others.\n"
        );
        let names = NetworkNames {
            servers: vec!["192.0.2.1".parse().unwrap()],
            search: vec![".".to_owned()],
            options: vec!["ndots:3".to_owned()],
            ..NetworkNames::default()
        };
        let file = with_responder(text, &names);
        let expected = "nameserver 127.0.0.11\noptions ndots:3\nsortlist";
        assert!(file.starts_with(expected), "{file}");
        assert!(file.contains("192.0.2.1 are asked"), "{file}");
    }

    #[test]
    fn the_hosts_servers_are_asked_from_the_host_whatever_they_are() {
        for (text, expected) in [
            (
                "nameserver 127.0.0.53\nnameserver ::1 # x",
                "127.0.0.53:53 [::1]:53",
            ),
            ("nameserver fe80::1%lo\nnameserver bad", "[fe80::1%1]:53"),
            ("nameserver fe80::1%nolink", "8.8.8.8:53 8.8.4.4:53"),
            ("", "8.8.8.8:53 8.8.4.4:53"),
        ] {
            let servers = servers_of(text).into_iter().map(|it| it.to_string());
            assert_eq!(servers.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
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
