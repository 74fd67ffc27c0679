//! Keys: how files and helpers name the registry, or the part of one, that an entry is for.

use crate::reference::DOCKER_HUB;

/// The key under which Docker keeps Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Returns the key under which Docker keeps the credentials for `registry`, in files and in helpers.
pub(crate) fn of(registry: &str) -> &str {
    if registry == DOCKER_HUB {
        HUB_KEY
    } else {
        registry
    }
}

/// Returns the registry that `key` is about: older clients wrote `https://host/v1/`.
pub(crate) fn registry(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

/// Returns which of `keys` is for `repository` of `registry`: the one for the longest part of its
/// path, as podman has it (containers-auth.json(5)), else the one for the registry, as Docker has it.
pub(crate) fn best<'a>(
    keys: impl Iterator<Item = &'a String>,
    registry: &str,
    repository: &str,
) -> Option<&'a str> {
    let fitting = keys.filter_map(|key| Some((fit(key, registry, repository)?, key.as_str())));
    Some(fitting.max_by_key(|(fit, _)| *fit)?.1)
}

/// Tells whether `key` is for all of `registry`, in any spelling.
pub(crate) fn is_for(key: &str, registry: &str) -> bool {
    fit(key, registry, "").is_some()
}

/// Returns how closely `key` fits; `None`: it is for something else.
fn fit(key: &str, registry: &str, repository: &str) -> Option<usize> {
    if key == of(registry) {
        return Some(1);
    }
    if !self::registry(key).eq_ignore_ascii_case(registry) {
        return None;
    }
    let has_scheme = key.contains("://");
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let path = bare.split_once('/').map_or("", |(_, path)| path);
    let path = path.trim_end_matches('/');
    let below = repository.strip_prefix(path);
    let covers = below.is_some_and(|below| below.is_empty() || below.starts_with('/'));
    if !has_scheme && !path.is_empty() && covers {
        return Some(1 + path.len());
    }
    (has_scheme || matches!(path, "" | "v1" | "v2")).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_wins_then_the_registry_in_every_spelling() {
        for (keys, registry, repository, expected) in [
            (
                &["r.io", "r.io/a", "r.io/a/b"][..],
                "r.io",
                "a/b",
                Some("r.io/a/b"),
            ),
            (
                &["r.io", "r.io/a", "r.io/a/b"],
                "r.io",
                "a/bc",
                Some("r.io/a"),
            ),
            (&["r.io", "r.io/a", "r.io/a/b"], "r.io", "ab", Some("r.io")),
            (&["r.io/a"], "r.io", "b/a", None),
            (&["https://r.io/v1/"], "r.io", "b", Some("https://r.io/v1/")),
            (&["http://r.io"], "r.io", "b", Some("http://r.io")),
            (
                &["https://r.io/any/path"],
                "r.io",
                "b",
                Some("https://r.io/any/path"),
            ),
            (&["r.io/v2/"], "r.io", "b", Some("r.io/v2/")),
            (&["R.io"], "r.io", "b", Some("R.io")),
            (&["https://r.io", "r.io"], "r.io", "b", Some("r.io")),
            (&["r.io:5000", "r.iox", "x.r.io"], "r.io", "b", None),
            (
                &["docker.io", HUB_KEY],
                "docker.io",
                "library/x",
                Some(HUB_KEY),
            ),
            (&["docker.io"], "docker.io", "library/x", Some("docker.io")),
            (
                &["index.docker.io/v1"],
                "docker.io",
                "library/x",
                Some("index.docker.io/v1"),
            ),
            (
                &["docker.io/me", HUB_KEY],
                "docker.io",
                "me/x",
                Some("docker.io/me"),
            ),
            (&[""], "r.io", "b", None),
        ] {
            let keys: Vec<_> = keys.iter().copied().map(str::to_owned).collect();
            assert_eq!(
                best(keys.iter(), registry, repository),
                expected,
                "{keys:?} for {registry}/{repository}"
            );
        }
    }

    #[test]
    fn only_keys_for_the_whole_registry_are_for_it() {
        for (key, expected) in [
            ("r.io", true),
            ("https://r.io/v1/", true),
            ("r.io/a", false),
            ("r.io:1", false),
        ] {
            assert_eq!(is_for(key, "r.io"), expected, "{key}");
        }
    }
}
