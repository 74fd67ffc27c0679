//! Challenges: what a 401 asks for in its `WWW-Authenticate` headers.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token of the service at `realm` is wanted (distribution's "Token Authentication Specification").
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    /// The user's name and password are wanted (RFC 7617).
    Basic,
}

/// Returns the challenges in the order of the headers; schemes that we do not speak are left out.
pub(crate) fn parse(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .flat_map(|value| Scanner(value).challenges())
        .collect()
}

/// Reads one header value: `Bearer realm="…",service="…", Basic realm="…"` (RFC 9110, 11.6.1).
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn challenges(mut self) -> Vec<Challenge> {
        let mut found: Vec<(&str, Vec<(String, String)>)> = Vec::new();
        loop {
            self.0 = self.0.trim_start_matches([' ', '\t', ',']);
            let word = self.take_while(|c| !matches!(c, ' ' | '\t' | ',' | '=' | '"'));
            if word.is_empty() {
                // The end, or something that is no challenge at all.
                break;
            }
            let after = self.0.trim_start_matches([' ', '\t']);
            match (after.strip_prefix('='), found.last_mut()) {
                (Some(rest), Some((_, parameters))) => {
                    self.0 = rest.trim_start_matches([' ', '\t']);
                    parameters.push((word.to_ascii_lowercase(), self.value()));
                }
                _ => found.push((word, Vec::new())),
            }
        }
        found
            .into_iter()
            .filter_map(|(scheme, parameters)| challenge(scheme, parameters))
            .collect()
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !belongs(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// Reads a quoted string, or a token up to the next comma.
    fn value(&mut self) -> String {
        let Some(rest) = self.0.strip_prefix('"') else {
            return self.take_while(|c| c != ',').trim_end().to_owned();
        };
        let (mut value, mut escaped) = (String::new(), false);
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.0 = &rest[at + 1..];
                    return value;
                }
                _ => value.push(c),
            }
        }
        self.0 = "";
        value
    }
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (name, value) in parameters {
        match name.as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer {
        realm: realm?,
        service,
        scope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn parsed(values: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        parse(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn every_form_of_a_challenge_is_read() {
        let hub = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/ubuntu:pull,push"),
        );
        for text in [
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/ubuntu:pull,push""#,
            r#"bearer Realm = "https://auth.docker.io/token" , SERVICE=registry.docker.io, scope="repository:library/ubuntu:pull,push",error="invalid_token""#,
        ] {
            assert_eq!(parsed(&[text]), std::slice::from_ref(&hub), "{text}");
        }
        assert_eq!(parsed(&[r#"BASIC realm="a, b""#]), [Challenge::Basic]);
        assert_eq!(parsed(&["Basic"]), [Challenge::Basic]);
        assert_eq!(
            parsed(&[r#"Bearer realm="a\"b\\c""#]),
            [bearer(r#"a"b\c"#, None, None)]
        );
    }

    #[test]
    fn several_challenges_are_read_from_one_header_and_from_many() {
        let both = [bearer("https://a/t", None, None), Challenge::Basic];
        assert_eq!(
            parsed(&[r#"Bearer realm="https://a/t", Basic realm="x, y""#]),
            both
        );
        assert_eq!(
            parsed(&[r#"Bearer realm="https://a/t""#, "Basic realm=x"]),
            both
        );
        assert_eq!(
            parsed(&[r#"Negotiate abc==, Bearer realm="https://a/t""#]),
            both[..1]
        );
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in [
            "",
            ",,,",
            "=",
            "\"",
            "Bearer",
            "Bearer service=x",
            "Digest realm=\"x\"",
            "= = =",
        ] {
            assert_eq!(parsed(&[text]), [], "{text}");
        }
        assert_eq!(
            parsed(&[r#"Bearer realm="unclosed"#]),
            [bearer("unclosed", None, None)]
        );
    }
}
