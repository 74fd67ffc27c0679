//! Ports: which of the container's are published, and where; as the command line and images write them.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the container's: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

impl Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for Port {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::range(text)?.as_slice() {
            [port] => Ok(*port),
            _ => bail!("`{text}` is not one port"),
        }
    }
}

impl Port {
    /// Reads `80`, `80/udp`, `8000-8010` or `8000-8010/tcp`: what `--expose` and an image's config say.
    pub(crate) fn range(text: &str) -> Result<Vec<Self>> {
        let (numbers, protocol) = split_protocol(text)?;
        let numbers = numbers_of(numbers).with_context(|| format!("invalid port `{text}`"))?;
        Ok(numbers.map(|number| Self { number, protocol }).collect())
    }

    /// Reads what an image's config says is served, which is no demand: what is no port that can be published is none, as with
    /// Docker (`38412/sctp`, `$PORT`, `70000/tcp`).
    pub(crate) fn of_image(text: &str) -> Vec<Self> {
        // An empty protocol is the usual one.
        let text = text.strip_suffix('/').unwrap_or(text);
        Self::range(text).unwrap_or_default()
    }
}

/// A port that is to be published, as `-p` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    /// Where on the host; everywhere if it is none.
    pub(crate) address: Option<IpAddr>,
    /// Any of these; whatever is free if it is none.
    pub(crate) host: Option<RangeInclusive<u16>>,
    pub(crate) container: Port,
}

/// A port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) container: Port,
    pub(crate) host: SocketAddr,
}

impl Publication {
    /// Reads `[[ADDRESS:][PORT]:]PORT[/PROTOCOL]`, where ports may be ranges of the same length, or many for one.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>> {
        let bad = || format!("invalid publish `{text}`: it is [[ADDRESS:][PORT]:]PORT[/tcp|/udp]");
        let (rest, protocol) = split_protocol(text)?;
        let (address, rest) = split_address(rest).with_context(bad)?;
        let (host, container) = match rest.rsplit_once(':') {
            Some((host, container)) => (Some(host), container),
            None => (None, rest),
        };
        let container = numbers_of(container).with_context(bad)?;
        // As for the kernel, 0 is whatever is free (ip(7)).
        let host = host.filter(|host| !matches!(*host, "" | "0"));
        let host = host.map(numbers_of);
        let host = host.transpose().with_context(bad)?;
        let port = |number| Port { number, protocol };
        let Some(host) = host else {
            let free = |number| Self {
                address,
                host: None,
                container: port(number),
            };
            return Ok(container.map(free).collect());
        };
        if container.clone().count() == 1 {
            return Ok(vec![Self {
                address,
                host: Some(host),
                container: port(*container.start()),
            }]);
        }
        ensure!(
            host.clone().count() == container.clone().count(),
            "invalid ranges in `{text}`: as many ports of the host are needed as of the container"
        );
        let pair = |(host, container)| Self {
            address,
            host: Some(host..=host),
            container: port(container),
        };
        Ok(host.zip(container).map(pair).collect())
    }
}

fn split_protocol(text: &str) -> Result<(&str, Protocol)> {
    let Some((rest, protocol)) = text.rsplit_once('/') else {
        return Ok((text, Protocol::Tcp));
    };
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((rest, Protocol::Tcp)),
        "udp" => Ok((rest, Protocol::Udp)),
        "sctp" => bail!("`{text}`: sctp is not there yet; tcp and udp are"),
        _ => bail!("invalid proto: `{protocol}`; it is tcp or udp"),
    }
}

/// Splits off an address, which is followed by a colon; an IPv6 address is in brackets.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str)> {
    let (address, rest) = if let Some(rest) = text.strip_prefix('[') {
        rest.split_once("]:").context("no `]:` after the address")?
    } else if text.matches(':').count() > 1 {
        text.split_once(':').unwrap_or_default()
    } else {
        return Ok((None, text));
    };
    // An empty address is every address: `::80`.
    let address = (!address.is_empty()).then(|| address.parse());
    Ok((address.transpose().context("the address is none")?, rest))
}

fn numbers_of(text: &str) -> Result<RangeInclusive<u16>> {
    let number = |text: &str| -> Result<u16> {
        // Signs are no digits to Docker.
        let digits = !text.starts_with('+');
        let number = text.parse().ok().filter(|number| digits && *number > 0);
        number.with_context(|| format!("`{text}` is no port: they are 1 to 65535"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    ensure!(first <= last, "the range `{text}` ends before it begins");
    Ok(first..=last)
}

/// Returns what `ps` shows of published ports: neighbours together, as Docker has them.
pub(crate) fn summary(published: &[Published]) -> String {
    let mut sorted = published.to_vec();
    sorted.sort_by_key(|it| (it.container.protocol, it.host.ip(), it.container.number));
    let mut words: Vec<String> = Vec::new();
    let mut rest = sorted.as_slice();
    while let Some(first) = rest.first() {
        let follows = |(at, next): &(usize, &Published)| {
            let ahead = u16::try_from(*at).unwrap_or(u16::MAX);
            next.host.ip() == first.host.ip()
                && next.container.protocol == first.container.protocol
                && first.container.number.checked_add(ahead) == Some(next.container.number)
                && first.host.port().checked_add(ahead) == Some(next.host.port())
        };
        let length = rest.iter().enumerate().take_while(follows).count();
        let last = &rest[length - 1];
        words.push(if length == 1 {
            format!("{}->{}", first.host, first.container)
        } else {
            let (a, b) = (first.host, last.host.port());
            let (c, d) = (first.container.number, last.container);
            format!("{a}-{b}->{c}-{d}")
        });
        rest = &rest[length..];
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let publications = Publication::parse(text).unwrap();
        let show = |it: &Publication| {
            let address = it.address.map_or("*".to_owned(), |it| it.to_string());
            let host = it.host.as_ref().map_or("any".to_owned(), |range| {
                format!("{}-{}", range.start(), range.end())
            });
            format!("{address} {host} {}", it.container)
        };
        let all: Vec<String> = publications.iter().map(show).collect();
        all.join("; ")
    }

    #[test]
    fn what_an_image_exposes_is_taken_if_it_is_a_port() {
        for (text, expected) in [
            ("80/tcp", &["80/tcp"][..]),
            ("80", &["80/tcp"]),
            ("80/", &["80/tcp"]),
            ("53/UDP", &["53/udp"]),
            ("8000-8001/udp", &["8000/udp", "8001/udp"]),
            ("38412/sctp", &[]),
            ("80/bogus", &[]),
            ("0", &[]),
            ("$PORT", &[]),
            ("70000/tcp", &[]),
            ("8002-8000/tcp", &[]),
            ("80-/tcp", &[]),
            (" 80", &[]),
            ("+80", &[]),
            ("-80", &[]),
            ("80//tcp", &[]),
            ("/", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = Port::of_image(text).iter().map(Port::to_string).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn publications_are_dockers() {
        for (text, expected) in [
            ("80", "* any 80/tcp"),
            ("8080:80", "* 8080-8080 80/tcp"),
            ("8080:80/udp", "* 8080-8080 80/udp"),
            (":80", "* any 80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1 8080-8080 80/tcp"),
            ("127.0.0.1::80/TCP", "127.0.0.1 any 80/tcp"),
            ("[::1]:8080:80", "::1 8080-8080 80/tcp"),
            ("::80", "* any 80/tcp"),
            ("0:80", "* any 80/tcp"),
            ("127.0.0.1:0:80/udp", "127.0.0.1 any 80/udp"),
            ("8000-8001:80-81", "* 8000-8000 80/tcp; * 8001-8001 81/tcp"),
            ("8000-8009:80", "* 8000-8009 80/tcp"),
            ("80-81", "* any 80/tcp; * any 81/tcp"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_publication_is_refused() {
        for bad in [
            "",
            "0",
            "65536",
            "a",
            "80:",
            "80/",
            "80/sctp",
            "80/x",
            "1.2.3:80:80",
            "[::1]80",
            "::1:80:80",
            "8000-8002:80-81",
            "81-80",
            "-1",
            "80-",
            "+80x",
        ] {
            assert!(Publication::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn neighbours_are_shown_together() {
        let published = |host: &str, container: &str| Published {
            container: container.parse().unwrap(),
            host: host.parse().unwrap(),
        };
        assert_eq!(
            summary(&[
                published("[::]:8080", "80/tcp"),
                published("0.0.0.0:8080", "80/tcp"),
                published("0.0.0.0:8081", "81/tcp"),
                published("0.0.0.0:8083", "83/tcp"),
                published("127.0.0.1:53", "53/udp"),
            ]),
            "0.0.0.0:8080-8081->80-81/tcp, 0.0.0.0:8083->83/tcp, [::]:8080->80/tcp, 127.0.0.1:53->53/udp"
        );
        assert_eq!(summary(&[]), "");
    }
}
