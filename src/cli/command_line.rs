//! From the words of the command line to a command, and from clap's complaints to Docker's.

use crate::cli::failure::Refusal;
use crate::cli::{Arguments, unimplemented};
use anyhow::Result;
use clap::builder::TypedValueParser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _};
use std::env;
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    Command(Arguments),
    /// `--help` or `--version`: this text on stdout.
    Text(String),
}

/// Docker's grouped spellings: `ddock image ls` is `ddock images`.
#[rustfmt::skip]
const SPELLINGS: &[(&str, &str, &[&str])] = &[
    ("image", "ls", &["images"]),
    ("image", "list", &["images"]),
    ("image", "pull", &["pull"]),
    ("image", "rm", &["rmi"]),
    ("image", "remove", &["rmi"]),
    ("image", "inspect", &["inspect", "--type=image"]),
    ("container", "run", &["run"]),
    ("container", "ls", &["ps"]),
    ("container", "list", &["ps"]),
    ("container", "ps", &["ps"]),
    ("container", "port", &["port"]),
    ("container", "rm", &["rm"]),
    ("container", "remove", &["rm"]),
    ("container", "logs", &["logs"]),
    ("container", "attach", &["attach"]),
    ("container", "stop", &["stop"]),
    ("container", "kill", &["kill"]),
    ("container", "wait", &["wait"]),
    ("container", "inspect", &["inspect", "--type=container"]),
    ("system", "info", &["info"]),
    ("manifest", "inspect", &["manifest-inspect"]),
    // One word to clap, so that its help and its complaints say what the user typed.
    ("system", "check", &["system check"]),
    ("system", "reset", &["system reset"]),
    ("network", "connect", &["network connect"]),
    ("network", "create", &["network create"]),
    ("network", "disconnect", &["network disconnect"]),
    ("network", "ls", &["network ls"]),
    ("network", "list", &["network ls"]),
    ("network", "inspect", &["network inspect"]),
    ("network", "rm", &["network rm"]),
    ("network", "remove", &["network rm"]),
    ("network", "prune", &["network prune"]),
    ("volume", "create", &["volume create"]),
    ("volume", "ls", &["volume ls"]),
    ("volume", "list", &["volume ls"]),
    ("volume", "inspect", &["volume inspect"]),
    ("volume", "rm", &["volume rm"]),
    ("volume", "remove", &["volume rm"]),
    ("volume", "prune", &["volume prune"]),
];

/// Parses the process's arguments, the program's name first.
pub(crate) fn parse(mut words: Vec<OsString>) -> Result<Parsed, Refusal> {
    let at = command_position(&words);
    if let Some(text) = expand_group(&mut words, at)? {
        return Ok(Parsed::Text(text));
    }
    let command = words.get(at).and_then(|word| word.to_str()).unwrap_or("");
    let mut clap = Arguments::command().mut_args(as_dockers);
    if clap.find_subcommand(command).is_some() {
        clap = clap.mut_subcommand(command, |mut command| {
            // Its flags exist from here on; those of the other commands never come to be.
            command.build();
            command.mut_args(as_dockers)
        });
    }
    let parsed = clap
        .try_get_matches_from_mut(&words)
        .and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches));
    match parsed {
        Ok(arguments) => Ok(Parsed::Command(arguments)),
        Err(error) if !error.use_stderr() => {
            // The help of flags as they were declared, without the `[=BOOL]` of `accept_switch`.
            let plain = Arguments::command().try_get_matches_from(&words).err();
            let help = plain.filter(|plain| !plain.use_stderr()).unwrap_or(error);
            Ok(Parsed::Text(help.render().to_string()))
        }
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            Ok(Parsed::Text(Arguments::command().render_help().to_string()))
        }
        Err(error) => Err(refuse(&error, command, &words[..at.min(words.len())])),
    }
}

/// Tells whether these are words of `run`, before they are parsed: whoever is told wrong loses time, and nothing else.
pub(super) fn is_run(words: &[OsString]) -> bool {
    let command = words.get(command_position(words)..).unwrap_or_default();
    let is = |at: usize, word| command.get(at).is_some_and(|found| found == word);
    is(0, "run") || (is(0, "container") && is(1, "run"))
}

/// Returns the index of the command: the first word after ddock's own flags.
fn command_position(words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let takes_value = word == "--root";
        if !takes_value && !word.as_encoded_bytes().starts_with(b"-") {
            break;
        }
        at += if takes_value { 2 } else { 1 };
    }
    at
}

/// Replaces `image ls` by `images` and the like. Returns the help of a group named without a command.
fn expand_group(words: &mut Vec<OsString>, at: usize) -> Result<Option<String>, Refusal> {
    let Some(group) = words.get(at).and_then(|word| word.to_str()) else {
        return Ok(None);
    };
    if !SPELLINGS.iter().any(|(known, ..)| *known == group) {
        return Ok(None);
    }
    let group = group.to_owned();
    let command = words.get(at + 1).map(|word| word.to_string_lossy());
    let Some(command) = command.filter(|word| !matches!(&**word, "--help" | "-h" | "help")) else {
        return Ok(Some(group_help(&group)));
    };
    let spelling = SPELLINGS
        .iter()
        .find(|(known, verb, _)| *known == group && *verb == command);
    let Some((.., replacement)) = spelling else {
        return Err(
            unimplemented::command(&[&group, &command]).unwrap_or_else(|| {
                Refusal::new(format!("unknown command `{group} {command}`"))
                    .help(format!("ddock {group}"))
            }),
        );
    };
    words.splice(at..at + 2, replacement.iter().map(OsString::from));
    Ok(None)
}

fn group_help(group: &str) -> String {
    let mut text = format!("Usage: ddock {group} COMMAND\n\nCommands:\n");
    for (_, verb, replacement) in SPELLINGS.iter().filter(|(known, ..)| *known == group) {
        writeln!(text, "  {verb:<12}as `ddock {}`", replacement.join(" "))
            .expect("writing to a string cannot fail");
    }
    text
}

/// Has flags read as Docker's library for them does (Go's pflag).
fn as_dockers(flag: Arg) -> Arg {
    let flag = match flag.get_env() {
        // A variable that is empty is one that is not set.
        Some(variable) if env::var_os(variable).is_none_or(|value| value.is_empty()) => {
            flag.env(None::<&str>)
        }
        _ => flag,
    };
    match flag.get_action() {
        ArgAction::SetTrue => accept_switch(flag),
        // The word after a flag that needs one is its value, whatever it begins with: `--label -x=1`, `--name --rm`.
        ArgAction::Set | ArgAction::Append
            if !flag.is_positional() && !flag.is_require_equals_set() =>
        {
            flag.allow_hyphen_values(true)
        }
        _ => flag,
    }
}

/// Lets a boolean flag take a value after `=`, as all of Docker's do: `--rm=false`.
fn accept_switch(flag: Arg) -> Arg {
    // All of them start as false, unless they say otherwise.
    let default = flag.get_default_values().first().cloned();
    let switch = clap::builder::NonEmptyStringValueParser::new().try_map(|text| {
        match text.as_str() {
            // Go's strconv.ParseBool, which Docker's flags go through.
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err("expected `true` or `false`"),
        }
    });
    flag.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value(default.unwrap_or_else(|| "false".into()))
        .default_missing_value("true")
        .value_parser(switch)
}

/// Says in our words what clap has against the words of `command`, or against those `before` it.
fn refuse(error: &clap::Error, command: &str, before: &[OsString]) -> Refusal {
    let word = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let flag = word.split('=').next().unwrap_or_default();
    let is_before = |flag: &str| {
        before
            .iter()
            .any(|word| word.to_string_lossy().starts_with(flag))
    };
    let help = match error.kind() {
        ErrorKind::InvalidSubcommand => "ddock".to_owned(),
        _ if command.is_empty() || (!flag.is_empty() && is_before(flag)) => "ddock".to_owned(),
        _ => format!("ddock {command}"),
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => unimplemented::command(&[command]).unwrap_or_else(|| {
            let refusal = Refusal::new(format!("unknown command `{command}`"));
            with_nearest(refusal, context(error, ContextKind::SuggestedSubcommand)).help(help)
        }),
        ErrorKind::UnknownArgument if !flag.starts_with('-') => {
            Refusal::new(format!("unexpected argument `{word}`")).help(help)
        }
        ErrorKind::UnknownArgument => unimplemented::flag(command, flag).unwrap_or_else(|| {
            let refusal = Refusal::new(format!("unknown flag `{flag}`"));
            with_nearest(refusal, context(error, ContextKind::SuggestedArg)).help(help)
        }),
        ErrorKind::MissingRequiredArgument => {
            Refusal::new(format!("`{help}` needs {}", bare(&word))).help(help)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            Refusal::new(bad_value(error, bare(&word))).help(help)
        }
        ErrorKind::ArgumentConflict => {
            let prior = context(error, ContextKind::PriorArg).unwrap_or_default();
            let (one, other) = (bare(&word), bare(&prior));
            Refusal::new(format!("conflicting options: `{one}` and `{other}`")).help(help)
        }
        _ => Refusal::new(first_paragraph(error)).help(help),
    }
}

/// Says which value of `flag` is wrong, and why.
fn bad_value(error: &clap::Error, flag: &str) -> String {
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    if value.is_empty() {
        return format!("`{flag}` needs a value");
    }
    let reason = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("expected {}", valid.join(", ")),
        _ => return format!("invalid value `{value}` for `{flag}`"),
    };
    format!("invalid value `{value}` for `{flag}`: {reason}")
}

/// Returns `--name` for `--name <NAME>`, `--rm` for `--rm[=<RM>]` and `IMAGE` for `<IMAGE>...`.
fn bare(argument: &str) -> &str {
    let name = if argument.starts_with('-') {
        argument.split([' ', '[', '=']).next().unwrap_or(argument)
    } else {
        argument.trim_end_matches("...")
    };
    match name.strip_prefix(['<', '[']) {
        Some(placeholder) => &placeholder[..placeholder.len() - 1],
        None => name,
    }
}

/// Returns the first word that clap's `error` carries as `kind`.
fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

fn with_nearest(refusal: Refusal, nearest: Option<String>) -> Refusal {
    match nearest {
        Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
        None => refusal,
    }
}

/// Returns clap's own complaint as one line, without its label and its usage text.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        let line = format!("ddock {line}");
        line.split_whitespace().map(Into::into).collect()
    }

    /// The whole complaint about each `ddock <line>`, as the user reads it.
    fn refusals(lines: &[&str]) -> String {
        let complaint = |line: &&str| match parse(words(line)) {
            Err(refusal) => {
                let text = crate::cli::failure::render(&refusal.into());
                format!("$ ddock {line}\n{text}\n")
            }
            Ok(parsed) => panic!("{line}: {parsed:?}"),
        };
        lines.iter().map(complaint).collect()
    }

    #[test]
    fn both_spellings_are_the_same_command() {
        let command = |line: &str| match parse(words(line)) {
            Ok(Parsed::Command(arguments)) => format!("{:?}", arguments.command),
            other => panic!("{line}: {other:?}"),
        };
        for (grouped, plain) in [
            ("image ls -q", "images -q"),
            ("image rm -f x", "rmi -f x"),
            ("--root /r image pull x", "--root /r pull x"),
            ("image inspect x", "inspect --type image x"),
            ("container ls -a", "ps -a"),
            ("container rm x", "rm x"),
            ("container run -it x y", "run -it x y"),
            ("container inspect x", "inspect --type=container x"),
            ("system info", "info"),
        ] {
            assert_eq!(command(grouped), command(plain), "{grouped}");
        }
    }

    /// Every command's every flag that takes a value, with words that begin with a hyphen.
    #[test]
    fn the_word_after_a_flag_is_its_value_whatever_it_begins_with() {
        for command in Arguments::command().get_subcommands_mut() {
            command.build();
            let name = command.get_name().to_owned();
            let flags = command.get_opts().filter(|flag| {
                let takes_value = flag.get_action().takes_values();
                takes_value && !flag.is_require_equals_set()
            });
            for flag in flags.cloned().map(as_dockers) {
                let spellings = flag.get_long().map(|long| format!("--{long}")).into_iter();
                let spellings = spellings.chain(flag.get_short().map(|short| format!("-{short}")));
                let flag = flag.value_parser(clap::value_parser!(String));
                let id = flag.get_id().to_string();
                for spelling in spellings {
                    for value in ["-x", "-x=1", "--rm", "--", "-", "-1", ""] {
                        let parser = clap::Command::new("test").arg(flag.clone());
                        let parser = parser.disable_help_flag(true);
                        let matches = parser.try_get_matches_from(["test", &spelling, value]);
                        let matches = matches
                            .unwrap_or_else(|error| panic!("{name} {spelling} {value}: {error}"));
                        let found = matches.get_one::<String>(&id).unwrap();
                        assert_eq!(found, value, "{name} {spelling}");
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_words_are_refused_with_the_nearest_match() {
        insta::assert_snapshot!(refusals(&[
            "imgaes",
            "image sl",
            "run --privlieged x",
            "run -Z x",
            "--bogus run x",
            "version now",
        ]), @r"
        $ ddock imgaes
        ddock: unknown command `imgaes`
        hint: did you mean `images`?

        Run 'ddock --help' for more information

        $ ddock image sl
        ddock: unknown command `image sl`

        Run 'ddock image --help' for more information

        $ ddock run --privlieged x
        ddock: unknown flag `--privlieged`
        hint: did you mean `--privileged`?

        Run 'ddock run --help' for more information

        $ ddock run -Z x
        ddock: unknown flag `-Z`

        Run 'ddock run --help' for more information

        $ ddock --bogus run x
        ddock: unknown flag `--bogus`

        Run 'ddock --help' for more information

        $ ddock version now
        ddock: unexpected argument `now`

        Run 'ddock version --help' for more information
        ");
    }

    #[test]
    fn bad_values_and_missing_ones_are_refused() {
        insta::assert_snapshot!(refusals(&[
            "run -m lots x",
            "run --cpus -1 x",
            "run --rm=maybe x",
            "run --pull sometimes x",
            "run --platform a/b/c/d x",
            "run --rm",
            "run --name",
            "pull",
            "rm",
            "rm -a x",
            "pull a b",
            "images -f colour=red",
        ]), @r"
        $ ddock run -m lots x
        ddock: invalid value `lots` for `--memory`: expected a size such as `512m` or `2g`

        Run 'ddock run --help' for more information

        $ ddock run --cpus -1 x
        ddock: invalid value `-1` for `--cpus`: expected a number such as `0.5` or `2`

        Run 'ddock run --help' for more information

        $ ddock run --rm=maybe x
        ddock: invalid value `maybe` for `--rm`: expected `true` or `false`

        Run 'ddock run --help' for more information

        $ ddock run --pull sometimes x
        ddock: invalid value `sometimes` for `--pull`: expected always, missing, never

        Run 'ddock run --help' for more information

        $ ddock run --platform a/b/c/d x
        ddock: invalid value `a/b/c/d` for `--platform`: invalid platform `a/b/c/d`: expected OS[/ARCH[/VARIANT]], for example `linux/arm64`

        Run 'ddock run --help' for more information

        $ ddock run --rm
        ddock: `ddock run` needs IMAGE

        Run 'ddock run --help' for more information

        $ ddock run --name
        ddock: `--name` needs a value

        Run 'ddock run --help' for more information

        $ ddock pull
        ddock: `ddock pull` needs NAME[:TAG|@DIGEST]

        Run 'ddock pull --help' for more information

        $ ddock rm
        ddock: `ddock rm` needs CONTAINER

        Run 'ddock rm --help' for more information

        $ ddock rm -a x
        ddock: conflicting options: `--all` and `CONTAINER`

        Run 'ddock rm --help' for more information

        $ ddock pull a b
        ddock: unexpected argument `b`

        Run 'ddock pull --help' for more information

        $ ddock images -f colour=red
        ddock: invalid value `colour=red` for `--filter`: there is no filter `colour`

        Run 'ddock images --help' for more information
        ");
    }

    #[test]
    fn what_is_not_there_is_named() {
        insta::assert_snapshot!(refusals(&[
            "build -t x .",
            "exec -it x sh",
            "compose up",
            "image prune",
            "system df -v",
            "volume export x",
            "run --health-cmd true x",
            "run --health-cmd=true x",
            "run --link a x",
            "run --arch arm64 x",
            "images --format json",
            "inspect -f x y",
        ]), @r"
        $ ddock build -t x .
        ddock: `build` is not there: ddock runs images and does not build them
        hint: build with buildah or buildkit, and push the image where ddock can pull it

        $ ddock exec -it x sh
        ddock: `exec` is not there yet

        $ ddock compose up
        ddock: `compose` is not there: ddock runs one container at a time
        hint: a shell script of `ddock run` lines does for a few containers

        $ ddock image prune
        ddock: `image prune` is not there yet

        $ ddock system df -v
        ddock: `system df` is not there yet

        $ ddock volume export x
        ddock: `volume export` is not there yet

        $ ddock run --health-cmd true x
        ddock: `--health-cmd` is not there yet

        $ ddock run --health-cmd=true x
        ddock: `--health-cmd` is not there yet

        $ ddock run --link a x
        ddock: `--link` is not there yet: containers of one network (`--network NAME`) find each other by name

        $ ddock run --arch arm64 x
        ddock: `--arch` is not there yet: it is spelled `--platform OS/ARCH/VARIANT`

        $ ddock images --format json
        ddock: `--format` is not there yet

        $ ddock inspect -f x y
        ddock: `-f` is not there yet
        ");
    }

    #[test]
    fn help_goes_to_stdout() {
        let text = |line: &str| match parse(words(line)) {
            Ok(Parsed::Text(text)) => text,
            other => panic!("{line}: {other:?}"),
        };
        for line in [
            "",
            "--help",
            "help",
            "image",
            "image --help",
            "run --help",
            "images -h",
        ] {
            assert!(text(line).contains("Usage: ddock"), "{line}");
        }
        let run = text("run --rm --help");
        // Only `--explain` has a value that can be left out: switches are shown without.
        let optional: Vec<_> = run.lines().filter(|line| line.contains("[=<")).collect();
        assert!(run.contains("--rm") && optional.len() == 1, "{run}");
        assert!(optional[0].contains("--explain[=<FORM>]"), "{run}");
        assert!(text("-v").contains(env!("CARGO_PKG_VERSION")));
    }
}
