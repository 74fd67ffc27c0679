//! Limits: how many requests a registry says it will still answer (draft-ietf-httpapi-ratelimit-headers-01).

use crate::registry::Notice;
use reqwest::header::HeaderMap;
use std::net::IpAddr;
use std::time::Duration;

/// Below this it is worth telling.
const NEAR: u64 = 20;

/// Returns what to tell the user if `headers`, an answer of `registry`, say that few requests are left.
pub(crate) fn near(headers: &HeaderMap, registry: &str) -> Option<Notice> {
    let (remaining, window) = read(headers, "ratelimit-remaining")?;
    let (limit, window_of_limit) = read(headers, "ratelimit-limit")?;
    let window = window.or(window_of_limit)?;
    (remaining < NEAR && remaining < limit).then(|| Notice::NearLimit {
        registry: registry.to_owned(),
        remaining,
        limit,
        window,
        anonymous: is_anonymous(headers),
    })
}

/// Reads `100;w=21600`: a number, and the time in seconds that it is for.
fn read(headers: &HeaderMap, name: &str) -> Option<(u64, Option<Duration>)> {
    let text = headers.get(name)?.to_str().ok()?;
    let mut words = text.split(';').map(str::trim);
    let number = words.next()?.parse().ok()?;
    let window = words.find_map(|word| word.strip_prefix("w=")?.parse().ok());
    Some((number, window.map(Duration::from_secs)))
}

/// Docker Hub says whom it counts: an address, or the ID of a user.
fn is_anonymous(headers: &HeaderMap) -> bool {
    let source = headers.get("docker-ratelimit-source");
    source.is_some_and(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.parse::<IpAddr>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn of(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        near(&pairs.iter().map(header).collect(), "docker.io").map(|notice| notice.to_string())
    }

    #[test]
    fn few_left_are_told_and_nonsense_is_not() {
        let limit = ("ratelimit-limit", "100;w=21600");
        let few = ("ratelimit-remaining", "7;w=21600");
        assert_eq!(
            of(&[limit, few, ("docker-ratelimit-source", "192.0.2.1")]).unwrap(),
            "docker.io: 7 of 100 pulls left in 6 hours (you are not logged in)"
        );
        assert_eq!(
            of(&[limit, few, ("docker-ratelimit-source", "a-b-c")]).unwrap(),
            "docker.io: 7 of 100 pulls left in 6 hours"
        );
        for remaining in ["20;w=21600", "x", "-1;w=1", ""] {
            assert_eq!(of(&[limit, ("ratelimit-remaining", remaining)]), None);
        }
        assert_eq!(of(&[few]), None);
        assert_eq!(
            of(&[("ratelimit-limit", "7"), ("ratelimit-remaining", "7")]),
            None
        );
    }
}
