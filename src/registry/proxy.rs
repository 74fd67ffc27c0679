//! Proxies: what goes through which, as the user's environment has it.

use crate::registry::transport::is_loopback;
use anyhow::{Result, bail};
use ipnet::IpNet;
use reqwest::{Proxy, Url};

/// The variables about proxies. They may hold passwords: there is no `Debug` that shows them.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    https: Option<(&'static str, String)>,
    http: Option<(&'static str, String)>,
    none: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxies")
    }
}

impl Proxies {
    /// Returns those of this process's environment.
    pub(crate) fn of_environment() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = variable(name).filter(|value| !value.trim().is_empty());
                value.map(|value| (*name, value.trim().to_owned()))
            })
        };
        let all = first(&["ALL_PROXY", "all_proxy"]);
        // In a CGI program HTTP_PROXY is the header `Proxy` of whoever asks (CVE-2016-5385).
        let http: &[_] = match variable("REQUEST_METHOD") {
            Some(_) => &[],
            None => &["HTTP_PROXY", "http_proxy"],
        };
        Self {
            https: first(&["HTTPS_PROXY", "https_proxy"]).or_else(|| all.clone()),
            http: first(http).or(all),
            none: first(&["NO_PROXY", "no_proxy"])
                .map(|(_, value)| value)
                .unwrap_or_default(),
        }
    }

    /// Returns the rule for the HTTP client. A URL that is none is an error naming its variable.
    pub(crate) fn rule(&self) -> Result<Proxy> {
        let https = self.https.as_ref().map(parse).transpose()?;
        let http = self.http.as_ref().map(parse).transpose()?;
        let exceptions: Vec<_> = self
            .none
            .split([',', ' '])
            .filter_map(Exception::parse)
            .collect();
        Ok(Proxy::custom(move |url| {
            let excepted = is_loopback(url) || exceptions.iter().any(|it| it.means(url));
            let proxy = if url.scheme() == "http" {
                &http
            } else {
                &https
            };
            proxy.clone().filter(|_| !excepted)
        }))
    }
}

/// Reads the URL of a proxy; without a scheme it is an http proxy. Its text is not repeated: it may hold a password.
fn parse((variable, text): &(&'static str, String)) -> Result<Url> {
    let whole = if text.contains("://") {
        text.clone()
    } else {
        format!("http://{text}")
    };
    let Some(url) = Url::parse(&whole).ok().filter(Url::has_host) else {
        bail!("{variable} is no URL of a proxy, such as http://proxy.example:3128");
    };
    if !matches!(
        url.scheme(),
        "http" | "https" | "socks5" | "socks5h" | "socks4" | "socks4a"
    ) {
        bail!(
            "{variable} names a proxy of the unknown kind `{}://`",
            url.scheme()
        );
    }
    Ok(url)
}

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network(IpNet),
    /// A host and what is below it (`x`), or only what is below it (`.x`); at one port, if there is one.
    Domain {
        name: String,
        with_itself: bool,
        port: Option<u16>,
    },
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            return Some(Self::Network(address.into()));
        }
        let (name, port) = match text
            .rsplit_once(':')
            .map(|(name, port)| (name, port.parse()))
        {
            Some((name, Ok(port))) => (name, Some(port)),
            _ => (text, None),
        };
        // `*.x` is often written for `.x`.
        let name = name.strip_prefix('*').unwrap_or(name);
        let below = name.strip_prefix('.');
        Some(Self::Domain {
            name: below
                .unwrap_or(name)
                .trim_end_matches('.')
                .to_ascii_lowercase(),
            with_itself: below.is_none(),
            port,
        })
    }

    fn means(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        match self {
            Self::All => true,
            Self::Network(network) => {
                let address = host.trim_matches(['[', ']']).parse();
                address.is_ok_and(|address: std::net::IpAddr| {
                    network.contains(&address.to_canonical())
                })
            }
            Self::Domain {
                name,
                with_itself,
                port,
            } => {
                let rest = host.strip_suffix(name.as_str());
                let matches = match rest {
                    Some("") => *with_itself,
                    Some(rest) => rest.ends_with('.'),
                    None => false,
                };
                matches && port.is_none_or(|port| url.port_or_known_default() == Some(port))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_exceptions_of_no_proxy_are_known_in_every_form() {
        for (entry, url, expected) in [
            ("*", "https://a.example", true),
            ("example", "https://a.example", true),
            ("a.example", "https://a.example", true),
            ("A.Example", "https://a.example", true),
            ("a.example", "https://ba.example", false),
            (".example", "https://a.example", true),
            ("*.example", "https://a.example", true),
            (".a.example", "https://a.example", false),
            ("a.example:443", "https://a.example", true),
            ("a.example:5000", "https://a.example", false),
            ("a.example:5000", "https://a.example:5000", true),
            ("10.0.0.0/8", "https://10.1.2.3:5000", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.1.2.3", "https://10.1.2.3", true),
            ("10.1.2.3:80", "https://10.1.2.3", false),
            ("fd00::/8", "https://[fd00::1]:5000", true),
            ("[fd00::1]", "https://[fd00::1]", true),
        ] {
            let url = Url::parse(url).unwrap();
            let exception = Exception::parse(entry).unwrap();
            assert_eq!(exception.means(&url), expected, "{entry} {url}");
        }
        assert_eq!(Exception::parse(""), None);
    }

    #[test]
    fn variables_are_read_in_both_cases_and_not_from_a_cgi_request() {
        let values = |variables: &[(&str, &str)]| {
            let proxies = of(variables);
            let text = |it: Option<(_, String)>| it.map(|(_, text)| text).unwrap_or_default();
            (text(proxies.https), text(proxies.http))
        };
        let pair = |https: &str, http: &str| (https.to_owned(), http.to_owned());
        assert_eq!(
            values(&[("https_proxy", "a"), ("http_proxy", "b")]),
            pair("a", "b")
        );
        assert_eq!(
            values(&[("HTTPS_PROXY", "a"), ("https_proxy", "b")]),
            pair("a", "")
        );
        assert_eq!(
            values(&[("HTTPS_PROXY", ""), ("https_proxy", "b")]),
            pair("b", "")
        );
        assert_eq!(
            values(&[("ALL_PROXY", "a"), ("HTTP_PROXY", "b")]),
            pair("a", "b")
        );
        let cgi = [
            ("REQUEST_METHOD", "GET"),
            ("HTTP_PROXY", "evil"),
            ("HTTPS_PROXY", "a"),
        ];
        assert_eq!(values(&cgi), pair("a", ""));
    }

    #[test]
    fn a_bad_proxy_is_told_by_its_variable_without_its_password() {
        for (value, expected) in [
            ("http://u:secret@", "https_proxy is no URL"),
            (
                "ftp://u:secret@p",
                "https_proxy names a proxy of the unknown kind `ftp://`",
            ),
            ("http://u:secret@p:port", "https_proxy is no URL"),
        ] {
            let error = of(&[("https_proxy", value)])
                .rule()
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for good in ["p:3128", "http://u:p@p", "socks5h://p:1080", "https://p"] {
            assert!(of(&[("all_proxy", good)]).rule().is_ok(), "{good}");
        }
    }
}
