//! The command line of the container's first process: entrypoint and command, the image's and the user's.

use crate::options::ContainerOptions;
use crate::spec::subject::ImageDefaults;
use anyhow::{Result, ensure};

/// Returns the arguments of the container's first process.
///
/// The user's entrypoint drops the image's command along with its entrypoint.
pub(crate) fn merge(image: &ImageDefaults, options: &ContainerOptions) -> Result<Vec<String>> {
    let (entrypoint, default) = match &options.entrypoint {
        Some(words) => (reset_or(words), &[][..]),
        None => (reset_or(&image.entrypoint), image.command.as_slice()),
    };
    let command = if options.command.is_empty() {
        default
    } else {
        &options.command
    };
    let arguments: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    ensure!(!arguments.is_empty(), "no command specified");
    Ok(arguments)
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
    use crate::options::parse_entrypoint;

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
            let options = ContainerOptions {
                entrypoint: flag.map(parse_entrypoint),
                command: words(arguments),
                ..ContainerOptions::default()
            };
            assert_eq!(
                merge(&image, &options).unwrap(),
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
        let mut options = ContainerOptions {
            entrypoint: Some(vec![String::new()]),
            ..ContainerOptions::default()
        };
        let error = merge(&image, &options).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
        options.entrypoint = None;
        assert!(merge(&image, &options).is_ok());
        assert!(merge(&ImageDefaults::default(), &options).is_err());
        let reset = ImageDefaults {
            entrypoint: words(&[""]),
            ..ImageDefaults::default()
        };
        let error = merge(&reset, &options).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }
}
