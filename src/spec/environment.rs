//! The environment of the container's first process: ours, the image's, the files', the user's, in this order.

use crate::options::ContainerOptions;
use crate::spec::subject::ImageDefaults;
use std::collections::HashMap;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values in the order of their first definition.
#[derive(Debug, Default)]
pub(super) struct Variables {
    list: Vec<Option<(String, String)>>,
    /// Where each name is in the list: an image may have a million variables.
    places: HashMap<String, usize>,
}

/// Returns the environment as `NAME=VALUE`.
///
/// Later definitions win in the place of the first one.
pub(crate) fn build(
    image: &ImageDefaults,
    options: &ContainerOptions,
    hostname: &str,
    home: &str,
) -> Vec<String> {
    let mut variables = Variables::default();
    let asked = &options.environment;
    for (name, value) in &asked.callers {
        variables.set(name, value);
    }
    // Where the caller is at home means nothing inside.
    variables.remove("HOME");
    variables.set("PATH", PATH);
    variables.set("HOSTNAME", hostname);
    if options.terminal {
        variables.set("TERM", "xterm");
    }
    for (name, value) in image.environment.iter().filter_map(|it| it.split_once('=')) {
        variables.set(name, value);
    }
    if asked.unset_all {
        variables = Variables::default();
    }
    for name in &asked.unset {
        variables.remove(name);
    }
    variables.merge(&asked.merged);
    for (name, value) in &asked.set {
        match value {
            Some(value) => variables.set(name, value),
            None => variables.remove(name),
        }
    }
    let no_home = asked.unset_all || asked.unset.iter().any(|name| name == "HOME");
    if !no_home && variables.get("HOME").is_none_or(str::is_empty) {
        variables.set("HOME", home);
    }
    variables.into_strings()
}

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let variable = Some((name.to_owned(), value.to_owned()));
        if let Some(&place) = self.places.get(name) {
            self.list[place] = variable;
        } else {
            self.places.insert(name.to_owned(), self.list.len());
            self.list.push(variable);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.list[place] = None;
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let place = *self.places.get(name)?;
        self.list[place].as_ref().map(|(_, value)| value.as_str())
    }

    /// Takes over `--env-merge`: each sees the variables as they were before all of them.
    fn merge(&mut self, merged: &[(String, String)]) {
        let entries = merged.iter().map(|(name, text)| (name, self.expand(text)));
        for (name, value) in entries.collect::<Vec<_>>() {
            self.set(name, &value);
        }
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

    pub(super) fn into_strings(self) -> Vec<String> {
        let variables = self.list.into_iter().flatten();
        variables.map(|(name, value)| name + "=" + &value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Environment;

    fn strings(text: &[&str]) -> Vec<String> {
        text.iter().map(|&it| it.to_owned()).collect()
    }

    /// What is set, and without an `=` removed.
    fn set(text: &[&str]) -> Vec<(String, Option<String>)> {
        let one = |text: &&str| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => ((*text).to_owned(), None),
        };
        text.iter().map(one).collect()
    }

    fn pairs(text: &[&str]) -> Vec<(String, String)> {
        let pairs = set(text).into_iter();
        pairs.map(|(name, value)| (name, value.unwrap())).collect()
    }

    fn built(image: &[&str], environment: Environment) -> Vec<String> {
        let image = ImageDefaults {
            environment: strings(image),
            ..ImageDefaults::default()
        };
        let options = ContainerOptions {
            environment,
            ..ContainerOptions::default()
        };
        build(&image, &options, "box", "/root")
    }

    #[test]
    fn defaults_are_unset_merged_and_taken_from_the_caller() {
        let none = Environment::default;
        let path = format!("PATH={PATH} HOSTNAME=box");
        for (environment, expected) in [
            (
                Environment {
                    unset: strings(&["A", "HOME"]),
                    ..none()
                },
                format!("{path} B=b"),
            ),
            (
                Environment {
                    unset_all: true,
                    set: set(&["C=c"]),
                    ..none()
                },
                "C=c".to_owned(),
            ),
            (
                Environment {
                    merged: pairs(&["A=${A}:$B", "B=$A${X}$"]),
                    ..none()
                },
                format!("{path} A=a:b B=a$ HOME=/root"),
            ),
            (
                Environment {
                    callers: pairs(&["CALLER=of the tests", "EMPTY=", "HOME=/home/me"]),
                    set: set(&["A=mine"]),
                    ..none()
                },
                format!("CALLER=of the tests EMPTY= {path} A=mine B=b HOME=/root"),
            ),
        ] {
            let built = built(&["A=a", "B=b"], environment);
            assert_eq!(built.join(" "), expected);
        }
    }

    #[test]
    fn nothing_asked_is_dockers_environment() {
        let path = format!("PATH={PATH}");
        let expected = [&path, "HOSTNAME=box", "HOME=/root"];
        assert_eq!(built(&[], Environment::default()), expected);
    }

    #[test]
    fn a_terminal_brings_term() {
        let mut options = ContainerOptions {
            terminal: true,
            ..ContainerOptions::default()
        };
        let built = |options: &_| build(&ImageDefaults::default(), options, "box", "/root");
        assert_eq!(built(&options)[2..], ["TERM=xterm", "HOME=/root"]);
        options.environment.set = set(&["TERM=vt100"]);
        assert_eq!(built(&options)[2..], ["TERM=vt100", "HOME=/root"]);
    }

    #[test]
    fn flags_win_in_the_first_place() {
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
            (&["A=1", "B=2"], &["A"], &["B=2", "HOME=/root"]),
            (&[], &["A", "EMPTY="], &["EMPTY=", "HOME=/root"]),
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
            let environment = Environment {
                set: set(flags),
                ..Environment::default()
            };
            assert_eq!(built(image, environment)[2..], **expected, "{flags:?}");
        }
    }
}
