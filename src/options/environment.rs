//! The command's variables, as the user names them: `-e`, `--env-file`, `--env-merge`, `--unsetenv`.

use crate::human::printable;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What the environment is to be besides the image's and ours. Nothing of the caller's is left to be looked up: it is the
/// environment of whoever made the container, whoever starts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Environment {
    /// All of the caller's, beneath the image's: `--env-host`.
    pub(crate) callers: Vec<(String, String)>,
    /// `--unsetenv`
    pub(crate) unset: Vec<String>,
    /// `--unsetenv-all`
    pub(crate) unset_all: bool,
    /// `--env-merge`, in order: names and texts, in which `${NAME}` is the default.
    pub(crate) merged: Vec<(String, String)>,
    /// `--env-file`, then `-e`, in order; without a value it is removed.
    pub(crate) set: Vec<(String, Option<String>)>,
}

/// One `-e`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    Set(String, String),
    /// The caller's, or removed if he has none.
    Callers(String),
    /// All of the caller's that begin so.
    CallersLike(String),
}

impl FromStr for Variable {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        ensure!(!text.is_empty(), "invalid environment variable: empty");
        let Some((name, value)) = text.split_once('=') else {
            return Ok(match text.strip_suffix('*') {
                Some(prefix) => Self::CallersLike(prefix.to_owned()),
                None => Self::Callers(text.to_owned()),
            });
        };
        ensure!(
            !name.is_empty(),
            "invalid environment variable: {}",
            printable(text)
        );
        Ok(Self::Set(name.to_owned(), value.to_owned()))
    }
}

/// `--env-merge NAME=TEXT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl FromStr for Merged {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, text) =
            parts.with_context(|| format!("invalid environment variable: {}", printable(text)))?;
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// Returns the names and values of an environment file, as docker/cli's `kvfile` reads them: no quotes, no expansion.
pub(crate) fn parse_file(content: &[u8]) -> Result<Vec<(&str, Option<&str>)>> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut variables = Vec::new();
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .with_context(|| format!("invalid utf8 bytes at line {number}"))?
            .trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        ensure!(!name.is_empty(), "no variable name on line {number}");
        ensure!(
            !name.contains(char::is_whitespace),
            "variable '{name}' contains whitespaces, on line {number}"
        );
        variables.push((name, value));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_need_names() {
        for text in ["=x", "=", ""] {
            assert!(text.parse::<Variable>().is_err(), "{text}");
            assert!(text.parse::<Merged>().is_err(), "{text}");
        }
        let set = Variable::Set("A".to_owned(), "x=y".to_owned());
        for (text, expected) in [
            ("A=x=y", set),
            ("A", Variable::Callers("A".to_owned())),
            ("A*", Variable::CallersLike("A".to_owned())),
        ] {
            assert_eq!(text.parse::<Variable>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn file_lines_are_taken_as_they_are() {
        let content = b"\xef\xbb\xbfA=1 \r\n\n  # no\n \t B='q' \"$A\"\nC\nD==\n#E=1\nF=a#b";
        let expected = [
            ("A", Some("1 ")),
            ("B", Some("'q' \"$A\"")),
            ("C", None),
            ("D", Some("=")),
            ("F", Some("a#b")),
        ];
        assert_eq!(parse_file(content).unwrap(), expected);
    }

    #[test]
    fn broken_files_are_refused_by_line() {
        for (content, error) in [
            (&b"A=1\n=x"[..], "no variable name on line 2"),
            (b"A B=1", "variable 'A B' contains whitespaces, on line 1"),
            (
                b"export A=1",
                "variable 'export A' contains whitespaces, on line 1",
            ),
            (b"A=1\n\nB=\xff", "invalid utf8 bytes at line 3"),
        ] {
            assert_eq!(parse_file(content).unwrap_err().to_string(), error);
        }
    }
}
