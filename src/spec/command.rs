//! The command line of the container's first process: entrypoint and command, the image's and the user's.

use crate::spec::request::{ImageDefaults, Request};
use anyhow::{Result, ensure};

/// Returns the arguments of the container's first process.
///
/// The user's entrypoint drops the image's command along with its entrypoint.
pub(crate) fn merge(image: &ImageDefaults, request: &Request) -> Result<Vec<String>> {
    let (entrypoint, default) = match &request.entrypoint {
        Some(text) => (parse_entrypoint(text), &[][..]),
        None => (reset_or(&image.entrypoint), image.command.as_slice()),
    };
    let command = if request.command.is_empty() {
        default
    } else {
        &request.command
    };
    let arguments: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    ensure!(!arguments.is_empty(), "no command specified");
    Ok(arguments)
}

/// `--entrypoint` is a program, or a JSON array of it and its first arguments; empty is no entrypoint.
fn parse_entrypoint(text: &str) -> Vec<String> {
    let words = match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => words,
        Err(_) => vec![text.to_owned()],
    };
    reset_or(&words)
}

/// One empty word is Docker's way to have no entrypoint, in an image as on the command line.
fn reset_or(entrypoint: &[String]) -> Vec<String> {
    match entrypoint {
        [word] if word.is_empty() => Vec::new(),
        words => words.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|&word| word.to_owned()).collect()
    }

    /// Image entrypoint, image command, `--entrypoint`, arguments, result.
    type Case<'a> = (
        &'a [&'a str],
        &'a [&'a str],
        Option<&'a str>,
        &'a [&'a str],
        &'a [&'a str],
    );

    #[test]
    fn entrypoint_and_command_merge_as_dockers_do() {
        let cases: &[Case<'_>] = &[
            (&[], &["sh"], None, &[], &["sh"]),
            (&[], &["sh"], None, &["ls", "-l a"], &["ls", "-l a"]),
            (&["e"], &["c"], None, &[], &["e", "c"]),
            (&["e"], &["c"], None, &["x"], &["e", "x"]),
            (&["e"], &["c"], Some("p"), &[], &["p"]),
            (&["e"], &["c"], Some("p q"), &["x"], &["p q", "x"]),
            (&["e"], &["c"], Some(""), &["x"], &["x"]),
            (&["e"], &["c"], Some("[]"), &["x"], &["x"]),
            (&["e"], &["c"], Some(r#"[""]"#), &["x"], &["x"]),
            (&[""], &["c"], None, &[], &["c"]),
            (&[""], &["c"], None, &["x"], &["x"]),
            (&["", "e"], &["c"], None, &[], &["", "e", "c"]),
            (
                &["e"],
                &["c"],
                Some(r#"["p","-q"]"#),
                &["x"],
                &["p", "-q", "x"],
            ),
            (&["e"], &["c"], Some("[p"), &[], &["[p"]),
        ];
        for (entrypoint, command, flag, arguments, expected) in cases {
            let image = ImageDefaults {
                entrypoint: words(entrypoint),
                command: words(command),
                ..ImageDefaults::default()
            };
            let request = Request {
                entrypoint: flag.map(str::to_owned),
                command: words(arguments),
                ..Request::default()
            };
            assert_eq!(
                merge(&image, &request).unwrap(),
                words(expected),
                "{flag:?}"
            );
        }
    }

    #[test]
    fn something_must_be_left_to_run() {
        let image = ImageDefaults {
            command: words(&["sh"]),
            ..ImageDefaults::default()
        };
        let mut request = Request {
            entrypoint: Some(String::new()),
            ..Request::default()
        };
        let error = merge(&image, &request).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
        request.entrypoint = None;
        assert!(merge(&image, &request).is_ok());
        assert!(merge(&ImageDefaults::default(), &request).is_err());
        let reset = ImageDefaults {
            entrypoint: words(&[""]),
            ..ImageDefaults::default()
        };
        let error = merge(&reset, &request).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }
}
