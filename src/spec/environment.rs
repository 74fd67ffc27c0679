//! The environment of the container's first process: ours, the image's, the files', the user's, in this order.

use crate::spec::host::Host;
use crate::spec::request::{ImageDefaults, Request};
use crate::sys::file;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::Path;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values in the order of their first definition.
#[derive(Debug, Default)]
struct Variables {
    list: Vec<Option<(String, String)>>,
    /// Where each name is in the list: an image may have a million variables.
    places: HashMap<String, usize>,
}

/// Returns the environment as `NAME=VALUE`.
///
/// Later definitions win in the place of the first one. Nothing of the caller's environment gets in unless it is named.
pub(crate) fn build(
    image: &ImageDefaults,
    request: &Request,
    hostname: &str,
    home: &str,
    host: &Host,
) -> Result<Vec<String>> {
    let mut variables = Variables::default();
    let defaults = &request.default_environment;
    if defaults.with_callers {
        variables.add_callers("", host)?;
        // Where the caller is at home means nothing inside.
        variables.remove("HOME");
    }
    variables.set("PATH", PATH);
    variables.set("HOSTNAME", hostname);
    if request.terminal {
        variables.set("TERM", "xterm");
    }
    for (name, value) in image.environment.iter().filter_map(|it| it.split_once('=')) {
        variables.set(name, value);
    }
    if defaults.unset_all {
        variables = Variables::default();
    }
    for name in &defaults.unset {
        variables.remove(name);
    }
    variables.merge(&defaults.merged)?;
    for path in &request.environment_files {
        variables.add_file(path, host)?;
    }
    for entry in &request.environment {
        variables.add_flag(entry, host)?;
    }
    let no_home = defaults.unset_all || defaults.unset.iter().any(|name| name == "HOME");
    if !no_home && variables.get("HOME").is_none_or(str::is_empty) {
        variables.set("HOME", home);
    }
    Ok(variables.into_strings())
}

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        let variable = Some((name.to_owned(), value.to_owned()));
        if let Some(&place) = self.places.get(name) {
            self.list[place] = variable;
        } else {
            self.places.insert(name.to_owned(), self.list.len());
            self.list.push(variable);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.list[place] = None;
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let place = *self.places.get(name)?;
        self.list[place].as_ref().map(|(_, value)| value.as_str())
    }

    /// Takes over the caller's variables whose names begin with `prefix`.
    fn add_callers(&mut self, prefix: &str, host: &Host) -> Result<()> {
        for name in (host.variables)() {
            if name.starts_with(prefix)
                && let Some(value) = callers(&name, host)?
            {
                self.set(&name, &value);
            }
        }
        Ok(())
    }

    /// Takes over `--env-merge`: each sees the variables as they were before all of them.
    fn merge(&mut self, merged: &[String]) -> Result<()> {
        let entries: Vec<_> = merged
            .iter()
            .map(|entry| match entry.split_once('=') {
                Some((name, text)) if !name.is_empty() => Ok((name, self.expand(text))),
                _ => bail!("invalid environment variable: {entry}"),
            })
            .collect::<Result<_>>()?;
        for (name, value) in entries {
            self.set(name, &value);
        }
        Ok(())
    }

    /// Returns `text` with the values of `${NAME}` and `$NAME`; what is not set is empty.
    fn expand(&self, text: &str) -> String {
        let mut parts = text.split('$');
        let mut expanded = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = part.find(|c| !is_name(c)).unwrap_or(part.len());
            let (name, rest) = match part.strip_prefix('{').and_then(|it| it.split_once('}')) {
                Some(braced) => braced,
                None => part.split_at(end),
            };
            if name.is_empty() {
                expanded.push('$');
            }
            expanded.push_str(self.get(name).unwrap_or_default());
            expanded.push_str(rest);
        }
        expanded
    }

    /// Takes over an `--env-file`. A bare name that the caller does not have is passed over.
    fn add_file(&mut self, path: &Path, host: &Host) -> Result<()> {
        let content = file::read_given(path)?;
        let lines =
            parse_file(&content).with_context(|| format!("reading `{}`", path.display()))?;
        for (name, value) in lines {
            match value {
                Some(value) => self.set(name, value),
                None => {
                    if let Some(value) = callers(name, host)? {
                        self.set(name, &value);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes over an `-e`. A bare name that the caller does not have removes the variable.
    fn add_flag(&mut self, entry: &str, host: &Host) -> Result<()> {
        match entry.split_once('=') {
            Some(("", _)) => bail!("invalid environment variable: {entry}"),
            Some((name, value)) => self.set(name, value),
            None => {
                ensure!(!entry.is_empty(), "invalid environment variable: empty");
                if let Some(prefix) = entry.strip_suffix('*') {
                    return self.add_callers(prefix, host);
                }
                match callers(entry, host)? {
                    Some(value) => self.set(entry, &value),
                    None => self.remove(entry),
                }
            }
        }
        Ok(())
    }

    fn into_strings(self) -> Vec<String> {
        let variables = self.list.into_iter().flatten();
        variables.map(|(name, value)| name + "=" + &value).collect()
    }
}

/// Returns the caller's own value of a variable.
fn callers(name: &str, host: &Host) -> Result<Option<String>> {
    let Some(value) = (host.variable)(name) else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(value) => Ok(Some(value)),
        // config.json is JSON, which holds nothing but UTF-8.
        Err(_) => bail!("the value of the environment variable `{name}` is not UTF-8"),
    }
}

/// Returns the names and values of an environment file, as docker/cli's `kvfile` reads them: no quotes, no expansion.
fn parse_file(content: &[u8]) -> Result<Vec<(&str, Option<&str>)>> {
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
    use crate::spec::request::DefaultEnvironment;
    use crate::spec::tests::host;

    fn strings(text: &[&str]) -> Vec<String> {
        text.iter().map(|&it| it.to_owned()).collect()
    }

    /// The environment without our own PATH and HOSTNAME.
    fn environment(image: &[&str], request: &Request) -> Result<Vec<String>> {
        let image = ImageDefaults {
            environment: strings(image),
            ..ImageDefaults::default()
        };
        let all = build(&image, request, "box", "/root", &host())?;
        assert!(all[0].starts_with("PATH="));
        assert_eq!(all[1], "HOSTNAME=box");
        Ok(all[2..].to_vec())
    }

    #[test]
    fn defaults_are_unset_merged_and_taken_from_the_caller() {
        let built = |defaults: DefaultEnvironment, flags: &[&str]| {
            let request = Request {
                default_environment: defaults,
                environment: strings(flags),
                ..Request::default()
            };
            let image = ImageDefaults {
                environment: strings(&["A=a", "B=b"]),
                ..ImageDefaults::default()
            };
            build(&image, &request, "box", "/root", &host())
                .unwrap()
                .join(" ")
        };
        let none = DefaultEnvironment::default;
        let path = format!("PATH={PATH} HOSTNAME=box");
        for (defaults, flags, expected) in [
            (
                none(),
                &["CALL*"][..],
                format!("{path} A=a B=b CALLER=of the tests HOME=/root"),
            ),
            (
                DefaultEnvironment {
                    unset: strings(&["A", "HOME"]),
                    ..none()
                },
                &[],
                format!("{path} B=b"),
            ),
            (
                DefaultEnvironment {
                    unset_all: true,
                    ..none()
                },
                &["C=c"],
                "C=c".to_owned(),
            ),
            (
                DefaultEnvironment {
                    merged: strings(&["A=${A}:$B", "B=$A${X}$"]),
                    ..none()
                },
                &[],
                format!("{path} A=a:b B=a$ HOME=/root"),
            ),
            (
                DefaultEnvironment {
                    with_callers: true,
                    ..none()
                },
                &["A=mine"],
                format!("CALLER=of the tests EMPTY= {path} A=mine B=b HOME=/root"),
            ),
        ] {
            assert_eq!(built(defaults, flags), expected);
        }
    }

    #[test]
    fn nothing_asked_is_dockers_environment() {
        let all = build(
            &ImageDefaults::default(),
            &Request::default(),
            "box",
            "/root",
            &host(),
        );
        let path = format!("PATH={PATH}");
        assert_eq!(all.unwrap(), [&path, "HOSTNAME=box", "HOME=/root"]);
    }

    #[test]
    fn a_terminal_brings_term() {
        let mut request = Request {
            terminal: true,
            ..Request::default()
        };
        assert_eq!(
            environment(&[], &request).unwrap(),
            ["TERM=xterm", "HOME=/root"]
        );
        request.environment = strings(&["TERM=vt100"]);
        assert_eq!(
            environment(&[], &request).unwrap(),
            ["TERM=vt100", "HOME=/root"]
        );
    }

    #[test]
    fn flags_win_in_the_first_place() {
        // The caller of these tests has CALLER=of the tests, EMPTY= and nothing else.
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (
                &["A=1", "B=2"],
                &["B=3", "A=4"],
                &["A=4", "B=3", "HOME=/root"],
            ),
            (
                &["A=1"],
                &["B=2", "A=", "A=x=y"],
                &["A=x=y", "B=2", "HOME=/root"],
            ),
            (
                &["A=1"],
                &["CALLER"],
                &["A=1", "CALLER=of the tests", "HOME=/root"],
            ),
            (&["A=1", "B=2"], &["A"], &["B=2", "HOME=/root"]),
            (&[], &["A", "EMPTY"], &["EMPTY=", "HOME=/root"]),
            (&[], &["A=1", "A", "A=2"], &["A=2", "HOME=/root"]),
            (&["HOME=/h"], &[], &["HOME=/h"]),
            (&["HOME=", "A=1"], &[], &["HOME=/root", "A=1"]),
            (&["HOME=/h", "A=1"], &["HOME="], &["HOME=/root", "A=1"]),
            (
                &["A=1\nB=2", "bare", "=x"],
                &[],
                &["A=1\nB=2", "=x", "HOME=/root"],
            ),
        ];
        for (image, flags, expected) in cases {
            let request = Request {
                environment: strings(flags),
                ..Request::default()
            };
            assert_eq!(
                environment(image, &request).unwrap(),
                *expected,
                "{flags:?}"
            );
        }
    }

    #[test]
    fn variables_need_names() {
        for flag in ["=x", "=", ""] {
            let request = Request {
                environment: strings(&[flag]),
                ..Request::default()
            };
            assert!(environment(&[], &request).is_err(), "{flag}");
        }
    }

    #[test]
    fn files_stand_between_image_and_flags() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        fs_err::write(&first, "A=file\nB=file\nIMAGE\nCALLER\n").unwrap();
        fs_err::write(&second, "B=second\nC=second\n").unwrap();
        let request = Request {
            environment_files: vec![first, second],
            environment: strings(&["C=flag"]),
            ..Request::default()
        };
        let expected = [
            "IMAGE=stays",
            "A=file",
            "B=second",
            "CALLER=of the tests",
            "C=flag",
            "HOME=/root",
        ];
        assert_eq!(
            environment(&["IMAGE=stays", "A=image"], &request).unwrap(),
            expected
        );
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
