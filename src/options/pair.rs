//! `KEY[=VALUE]`: labels and annotations, of containers, networks and volumes alike.

use crate::human::printable;
use anyhow::{Result, ensure};
use std::str::FromStr;

/// A key and its value, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = anyhow::Error;

    /// Reads a pair by Docker's rules (docker/cli, `opts.ValidateLabel`): blanks before the key do not make one, and it has none
    /// inside; the value is taken as it is.
    fn from_str(text: &str) -> Result<Self> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let bare = key.trim_start();
        ensure!(
            !bare.is_empty(),
            "invalid label '{}': empty name",
            printable(text)
        );
        ensure!(
            !bare.contains(char::is_whitespace),
            "label '{}' contains whitespaces",
            printable(bare)
        );
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl From<Pair> for (String, String) {
    fn from(pair: Pair) -> Self {
        (pair.key, pair.value)
    }
}

/// Reads the lines of a file of labels: blanks at the start, empty lines and comments mean nothing.
pub(crate) fn labels_of_file(text: &str) -> Result<Vec<Pair>> {
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_no_blanks_and_values_are_taken_as_they_are() {
        for (text, key, value) in [
            ("a", "a", ""),
            ("a=", "a", ""),
            ("a=2=3", "a", "2=3"),
            ("a= x ", "a", " x "),
            (" a=1", " a", "1"),
        ] {
            let pair: Pair = text.parse().unwrap();
            assert_eq!((&*pair.key, &*pair.value), (key, value), "{text}");
        }
        for (text, reason) in [
            ("", "invalid label '': empty name"),
            ("=x", "invalid label '=x': empty name"),
            (" =x", "invalid label ' =x': empty name"),
            ("a b=x", "label 'a b' contains whitespaces"),
        ] {
            let error = text.parse::<Pair>().unwrap_err().to_string();
            assert_eq!(error, reason);
        }
    }

    #[test]
    fn files_of_labels_have_comments() {
        let labels = labels_of_file("# comment\n\n  a=1\nb= x \nc\n").unwrap();
        let labels = labels.into_iter().map(|it| it.key + "=" + &it.value);
        assert_eq!(labels.collect::<Vec<_>>(), ["a=1", "b= x ", "c="]);
        assert!(labels_of_file("a=1\n=x").is_err());
    }
}
