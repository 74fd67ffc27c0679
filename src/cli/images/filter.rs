//! Which images a list shows: `ddock images NAME` and `--filter`.

use crate::digest::Digest;
use crate::engine::image::View;
use crate::reference::Reference;
use std::convert::Infallible;
use std::str::FromStr;

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Dangling(bool),
    Label(String, Option<String>),
    /// Made before this image.
    Before(String),
    /// Made after this image.
    Since(String),
    /// A pattern of names, with `*`, `?` and `[a-z]`; `*` does not reach across a `/`.
    Reference(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| "expected KEY=VALUE".to_owned())?;
        let value_owned = value.to_owned();
        match key {
            "dangling" => match value {
                "true" | "1" => Ok(Self::Dangling(true)),
                "false" | "0" => Ok(Self::Dangling(false)),
                _ => Err("`dangling` is `true` or `false`".to_owned()),
            },
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value_owned, None),
            }),
            "before" => Ok(Self::Before(value_owned)),
            "since" => Ok(Self::Since(value_owned)),
            "reference" => Ok(Self::Reference(value_owned)),
            "until" => Err("`until` is not there yet".to_owned()),
            _ => Err(format!("there is no filter `{key}`")),
        }
    }
}

impl Filter {
    /// Tells whether `image` passes, as far as that is not a matter of its names.
    pub(crate) fn accepts(&self, image: &View, all: &[View]) -> bool {
        let created = |name: &str| {
            let other = all.iter().find(|other| is_called(other, name));
            other.and_then(|other| other.created)
        };
        match self {
            Self::Dangling(dangling) => image.tags.is_empty() == *dangling,
            Self::Label(key, value) => image
                .labels
                .get(key)
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found)),
            Self::Before(name) => created(name).is_some_and(|then| image.created < Some(then)),
            Self::Since(name) => created(name).is_some_and(|then| image.created > Some(then)),
            Self::Reference(_) => true,
        }
    }

    /// Tells whether a name of an image passes.
    pub(crate) fn accepts_name(&self, name: &Reference) -> bool {
        let Self::Reference(pattern) = self else {
            return true;
        };
        [name.familiar(), name.familiar_name(), name.to_string()]
            .iter()
            .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
    }

    pub(crate) fn is_on_labels(&self) -> bool {
        matches!(self, Self::Label(..))
    }

    pub(crate) fn is_on_names(&self) -> bool {
        matches!(self, Self::Reference(_))
    }

    pub(crate) fn asks_for_untagged(&self) -> bool {
        *self == Self::Dangling(true)
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

    fn from_str(text: &str) -> Result<Self, Infallible> {
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
            let filter: Filter = filter.parse().unwrap();
            let accepted = all.iter().filter(|image| filter.accepts(image, &all));
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
            ("since=nothing", ""),
        ] {
            assert_eq!(accepted(filter), ids, "{filter}");
        }
    }

    #[test]
    fn unknown_filters_are_refused() {
        for bad in ["dangling", "dangling=maybe", "colour=red", "until=1h"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
