//! Which images a list shows: `ddock images NAME` and `--filter`.

use crate::cli::failure::Refusal;
use crate::cli::filter::{Filter, Filters, invalid};
use crate::cli::prune_filter::moment;
use crate::digest::Digest;
use crate::engine::image::View;
use crate::reference::Reference;
use crate::store::NotFound;
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::convert::Infallible;
use std::str::FromStr;

const KNOWN: &[&str] = &["dangling", "label", "before", "since", "until", "reference"];

/// What images must be like to be shown.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    filters: Filters<'a>,
    pub(super) dangling: Option<bool>,
    until: Option<DateTime<Utc>>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(filters: &'a [Filter]) -> Result<Self, Refusal> {
        let filters = Filters::new(filters, KNOWN)?;
        let mut until = None;
        for value in filters.values("until") {
            until = Some(moment(value).ok_or_else(|| invalid("until", value))?);
        }
        Ok(Self {
            dangling: filters.boolean("dangling")?,
            until,
            filters,
        })
    }

    /// Tells whether each image's config must be read.
    pub(super) fn is_on_labels(&self) -> bool {
        self.filters.has("label")
    }

    pub(super) fn is_on_names(&self) -> bool {
        self.filters.has("reference")
    }

    /// Refuses an image that `before` or `since` names and that is not there.
    pub(super) fn check(&self, all: &[View]) -> Result<()> {
        for key in ["before", "since"] {
            for name in self.filters.values(key) {
                if !all.iter().any(|image| is_called(image, name)) {
                    return Err(NotFound::image(name).into());
                }
            }
        }
        Ok(())
    }

    /// Tells whether `image` passes, as far as that is not a matter of its names.
    pub(super) fn accepts(&self, image: &View, all: &[View]) -> bool {
        let created = |name: &str| {
            let other = all.iter().find(|other| is_called(other, name));
            other.and_then(|other| other.created)
        };
        let is_before =
            |then: Option<DateTime<Utc>>| then.is_some_and(|it| image.created < Some(it));
        let is_after =
            |then: Option<DateTime<Utc>>| then.is_some_and(|it| image.created > Some(it));
        self.dangling
            .is_none_or(|dangling| image.tags.is_empty() == dangling)
            && self.filters.has_labels(&image.labels)
            && self
                .filters
                .values("before")
                .all(|name| is_before(created(name)))
            && self
                .filters
                .values("since")
                .all(|name| is_after(created(name)))
            && self.until.is_none_or(|time| is_before(Some(time)))
    }

    /// Tells whether a name of an image passes: a pattern has `*`, `?` and `[a-z]`, and `*` does not reach across a `/`.
    pub(super) fn accepts_name(&self, name: &Reference) -> bool {
        self.filters.any("reference", |pattern| {
            [name.familiar(), name.familiar_name(), name.to_string()]
                .iter()
                .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
        })
    }
}

/// Tells whether `name` is the image's name, its ID or the beginning of its ID.
fn is_called(image: &View, name: &str) -> bool {
    let asked = Named(name.to_owned());
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    image.tags.iter().any(|tag| asked.is(tag))
        || (!hex.is_empty() && image.id.hex().starts_with(hex))
}

/// A name on the command line: a repository, or one tag or digest in it.
#[derive(Debug, Clone)]
pub(crate) struct Named(String);

impl FromStr for Named {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl Named {
    /// Tells whether `name` is meant.
    pub(crate) fn is(&self, name: &Reference) -> bool {
        let Ok(asked) = self.0.parse::<Reference>() else {
            return false;
        };
        let has_version = self
            .0
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains([':', '@']));
        asked.registry() == name.registry()
            && asked.repository() == name.repository()
            && (!has_version || is_version(&asked, name.tag(), name.digest()))
    }
}

fn is_version(asked: &Reference, tag: Option<&str>, digest: Option<&Digest>) -> bool {
    match asked.digest() {
        Some(asked) => digest == Some(asked),
        None => tag == asked.tag(),
    }
}

/// Tells whether `pattern` describes the whole of `text`, by the rules of Go's `path.Match`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    if *first == b'*' {
        let reach = text
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(text.len());
        return (0..=reach).any(|taken| glob(rest, &text[taken..]));
    }
    let Some((byte, text)) = text.split_first() else {
        return false;
    };
    match first {
        b'?' => *byte != b'/' && glob(rest, text),
        b'[' => match class(rest, *byte) {
            Some((matched, rest)) => matched && glob(rest, text),
            None => false,
        },
        b'\\' => rest
            .split_first()
            .is_some_and(|(first, rest)| first == byte && glob(rest, text)),
        _ => first == byte && glob(rest, text),
    }
}

/// Returns whether the class that begins after its `[` has `byte`, and what follows it; `None` if it does not end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, pattern) = match pattern.split_first()? {
        (b'^', rest) => (true, rest),
        _ => (false, pattern),
    };
    // A `]` that comes first is a member.
    let end = 1 + pattern.get(1..)?.iter().position(|byte| *byte == b']')?;
    let (members, rest) = (&pattern[..end], &pattern[end + 1..]);
    let mut matched = false;
    let mut at = 0;
    while at < members.len() {
        let (low, high, width) = match members.get(at..at + 3) {
            Some([low, b'-', high]) => (*low, *high, 3),
            _ => (members[at], members[at], 1),
        };
        matched |= (low..=high).contains(&byte);
        at += width;
    }
    Some((matched != negated, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::images::tests::image;

    #[test]
    fn patterns_stay_within_a_component() {
        for (pattern, text, expected) in [
            ("ubuntu", "ubuntu", true),
            ("ubuntu", "ubuntu2", false),
            ("ub*", "ubuntu:24.04", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("v[0-9]", "v7", true),
            ("v[^0-9]", "v7", false),
            ("v[]x]", "v]", true),
            ("v[", "v[", false),
            ("\\*", "*", true),
            ("", "", true),
            ("**a", "ba", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn filters_look_at_what_they_name() {
        let mut first = image("a", &["ubuntu"], 1);
        first.labels.insert("team".to_owned(), "blue".to_owned());
        let all = [first, image("b", &["debian"], 2), image("c", &[], 3)];
        let accepted = |filter: &str| {
            let filter = [filter.parse().unwrap()];
            let wanted = Wanted::new(&filter).unwrap();
            let accepted = all.iter().filter(|image| wanted.accepts(image, &all));
            accepted
                .map(|image| image.id.short()[..2].to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        for (filter, ids) in [
            ("dangling=true", "2e"),
            ("dangling=false", "ca 3e"),
            ("label=team", "ca"),
            ("label=team=red", ""),
            ("before=debian", "ca"),
            ("since=ubuntu:latest", "3e 2e"),
            ("since=3e23", "2e"),
            ("until=2026-01-02T00:00:00Z", "ca"),
        ] {
            assert_eq!(accepted(filter), ids, "{filter}");
        }
    }

    #[test]
    fn unknown_filters_are_refused() {
        for bad in ["dangling=maybe", "colour=red", "until=x"] {
            let filter = [bad.parse().unwrap()];
            assert!(Wanted::new(&filter).is_err(), "{bad}");
        }
        let filter = ["since=nothing".parse().unwrap()];
        assert!(Wanted::new(&filter).unwrap().check(&[]).is_err());
    }
}
