//! From the words of the command line to a call of a command.

use crate::cli::command::{Call, Command};
use crate::cli::commands::{COMMANDS, GROUPS, find, of_group};
use crate::cli::failure::Refusal;
use crate::cli::globals::{Globals, WITH_VALUES};
use crate::cli::output::Stream;
use crate::cli::{emptied, foreign, help, refuse};
use crate::human;
use clap::builder::TypedValueParser as _;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args as _, FromArgMatches as _};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    Command(Call),
    /// `--help` or `--version`: this text. It goes to stderr if nobody asked for it.
    Text(Stream, String),
}

const PROGRAM: &str = "ddock";

/// Parses the process's arguments, the program's name first.
///
/// The flags of the one command that is called come to be, and no others: making them is most of what parsing costs.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Parsed, Refusal> {
    let at = command_position(&words).min(words.len());
    let mut words = words.into_iter().skip(1);
    let before: Vec<OsString> = words.by_ref().take(at.saturating_sub(1)).collect();
    let globals = match matches(own_flags(), before) {
        Ok(mut matches) => Globals::from_arg_matches_mut(&mut matches)
            .map_err(|it| refuse::refuse(&it, "", "ddock"))?,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Parsed::Text(Stream::Stdout, help::program(&own_flags())));
        }
        Err(error) => return Err(refuse::refuse(&error, "", "ddock")),
    };
    globals.obey()?;
    if globals.version {
        return Ok(Parsed::Text(
            Stream::Stdout,
            concat!("ddock ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
        ));
    }
    let words: Vec<OsString> = words.collect();
    match named(&words)? {
        Named::Program => Ok(Parsed::Text(Stream::Stderr, help::program(&own_flags()))),
        Named::Group(group, stream) => Ok(Parsed::Text(stream, help::group(group))),
        Named::Help(topic) => help_on(topic).map(|text| Parsed::Text(Stream::Stdout, text)),
        Named::Command(command, length) => {
            let name = spelled(&words[..length]);
            let mut words = words;
            words.drain(..length);
            call(command, &name, words, globals.root)
        }
    }
}

/// What the first words after the flags name.
enum Named<'a> {
    /// Nothing.
    Program,
    /// A group, and nothing of it; where its help is to go.
    Group(&'a str, Stream),
    /// `help` and what is asked about.
    Help(&'a [OsString]),
    /// A command of so many words.
    Command(&'static Command, usize),
}

fn named(words: &[OsString]) -> Result<Named<'_>, Refusal> {
    let Some(first) = words.first() else {
        return Ok(Named::Program);
    };
    let first = first.to_str().unwrap_or_default();
    if first == "help" {
        return Ok(Named::Help(&words[1..]));
    }
    if is_group(first) {
        return match words.get(1).and_then(|word| word.to_str()) {
            None => Ok(Named::Group(first, Stream::Stderr)),
            Some("--help" | "-h" | "help") => Ok(Named::Group(first, Stream::Stdout)),
            Some(second) => match find(&format!("{first} {second}")) {
                Some(command) => Ok(Named::Command(command, 2)),
                None => Err(unknown_in_group(first, second)),
            },
        };
    }
    match find(first) {
        Some(command) => Ok(Named::Command(command, 1)),
        None => Err(unknown(&words[0].to_string_lossy())),
    }
}

/// Reads the words after a command that is called by `name`.
fn call(
    command: &'static Command,
    name: &str,
    words: Vec<OsString>,
    root: Option<PathBuf>,
) -> Result<Parsed, Refusal> {
    let name = format!("ddock {name}");
    match matches(declared(command), words) {
        Ok(matches) => Ok(Parsed::Command(Call {
            command,
            matches,
            root,
            protected: None,
        })),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let help = help::command(command, &name, declared(command));
            Ok(Parsed::Text(Stream::Stdout, help))
        }
        Err(error) => Err(refuse::refuse(&error, command.name(), &name)),
    }
}

/// Returns the help that `ddock help TOPIC` asks for.
fn help_on(topic: &[OsString]) -> Result<String, Refusal> {
    let topic = spelled(topic);
    if topic.is_empty() {
        return Ok(help::program(&own_flags()));
    }
    if is_group(&topic) {
        return Ok(help::group(&topic));
    }
    let unknown = || Refusal::new(format!("unknown help topic: {topic}")).code(1);
    let command = find(&topic).ok_or_else(unknown)?;
    Ok(help::command(
        command,
        &format!("ddock {topic}"),
        declared(command),
    ))
}

fn spelled(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn is_group(word: &str) -> bool {
    GROUPS.iter().any(|(group, _)| *group == word)
}

/// Returns the refusal of a first word that is no command.
fn unknown(word: &str) -> Refusal {
    let names = COMMANDS.iter().flat_map(|command| command.names).copied();
    let names = names.filter(|name| !name.contains(' '));
    let names = names.chain(GROUPS.iter().map(|(group, _)| *group));
    foreign::command(&[word]).unwrap_or_else(|| {
        let refusal = Refusal::new(format!("unknown command `{word}`")).code(1);
        refuse::with_nearest(refusal, nearest(word, names)).help("ddock")
    })
}

fn unknown_in_group(group: &str, word: &str) -> Refusal {
    let names = of_group(group).map(|(name, _)| name);
    foreign::command(&[group, word]).unwrap_or_else(|| {
        let refusal = Refusal::new(format!("unknown command `{group} {word}`")).code(1);
        let nearest = nearest(word, names).map(|name| format!("{group} {name}"));
        refuse::with_nearest(refusal, nearest).help(format!("ddock {group}"))
    })
}

/// Returns the name that `word` may have been meant for: as with Docker, at most two slips away.
fn nearest(word: &str, names: impl Iterator<Item = &'static str>) -> Option<String> {
    let slips = names.map(|name| (strsim::damerau_levenshtein(word, name), name));
    let (slips, name) = slips.min_by_key(|(slips, _)| *slips)?;
    (slips <= 2 && slips < word.chars().count()).then(|| name.to_owned())
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
        let bytes = word.as_encoded_bytes();
        if !bytes.starts_with(b"-") {
            break;
        }
        at += if takes_next(bytes) { 2 } else { 1 };
    }
    at
}

/// Tells whether the next word is this flag's value: of letters the first one with a value has what follows, or that.
fn takes_next(word: &[u8]) -> bool {
    let is_with_value = |flag: &[u8]| WITH_VALUES.iter().any(|it| it.as_bytes() == flag);
    if word.starts_with(b"--") {
        return is_with_value(word);
    }
    let letters = &word[1..];
    let first = letters
        .iter()
        .position(|letter| is_with_value(&[b'-', *letter]));
    first.is_some_and(|at| at + 1 == letters.len())
}

fn own_flags() -> clap::Command {
    Globals::augment_args(clap::Command::new(PROGRAM))
}

/// Returns a command's flags as they are declared, for its help.
fn declared(command: &Command) -> clap::Command {
    (command.flags)(clap::Command::new(command.name()))
}

/// Reads `words` by the flags of `command`.
fn matches(command: clap::Command, words: Vec<OsString>) -> Result<clap::ArgMatches, clap::Error> {
    let mut command = command.no_binary_name(true);
    command.build();
    let words = emptied::without(words, &command);
    command.mut_args(as_dockers).try_get_matches_from(words)
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
    let switch = clap::builder::NonEmptyStringValueParser::new()
        .try_map(|text| human::parse_boolean(&text).ok_or("expected `true` or `false`"));
    flag.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value(default.unwrap_or_else(|| "false".into()))
        .default_missing_value("true")
        .value_parser(switch)
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
            Ok(Parsed::Command(call)) => format!("{} {:?}", call.command.name(), call.matches),
            other => panic!("{line}: {other:?}"),
        };
        for (grouped, plain) in [
            ("image ls -q", "images -q"),
            ("image rm -f x", "rmi -f x"),
            ("--root /r image pull x", "--root /r pull x"),
            ("container ls -a", "ps -a"),
            ("container rm x", "rm x"),
            ("container run -it x y", "run -it x y"),
            ("system info", "info"),
            ("-Dl info --host unix:///var/run/docker.sock ps -a", "ps -a"),
            ("-c default -H= --tls=false --config= ps -a", "ps -a"),
        ] {
            assert_eq!(command(grouped), command(plain), "{grouped}");
        }
    }

    #[test]
    fn every_name_is_one_commands_and_in_a_group_that_is_told_of() {
        let names: Vec<_> = COMMANDS.iter().flat_map(|it| it.names).copied().collect();
        for name in &names {
            let same = names.iter().filter(|other| *other == name).count();
            assert_eq!(same, 1, "{name}");
            assert!(!is_group(name), "{name}");
            if let Some((group, _)) = name.split_once(' ') {
                assert!(is_group(group), "{name}");
            }
        }
    }

    #[test]
    fn flags_before_the_command_may_have_the_next_word_for_a_value() {
        let mut flags = own_flags();
        flags.build();
        let mut declared = Vec::new();
        for flag in flags.get_opts().filter(|it| it.get_action().takes_values()) {
            declared.extend(flag.get_long().map(|long| format!("--{long}")));
            declared.extend(flag.get_short().map(|short| format!("-{short}")));
        }
        let mut listed: Vec<_> = WITH_VALUES.to_vec();
        declared.sort_unstable();
        listed.sort_unstable();
        assert_eq!(declared, listed);
    }

    /// Every command's every flag that takes a value, with words that begin with a hyphen.
    #[test]
    fn the_word_after_a_flag_is_its_value_whatever_it_begins_with() {
        for known in COMMANDS {
            let name = known.name();
            let mut command = declared(known);
            command.build();
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
                        let parser = clap::Command::new(PROGRAM).arg(flag.clone());
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
            "-H tcp://elsewhere:2375 ps",
            "--tlsverify ps",
            "-c elsewhere ps",
            "-l loud ps",
        ]), @r#"
        $ ddock imgaes
        ddock: unknown command `imgaes`
        hint: did you mean `images`?

        Run 'ddock --help' for more information

        $ ddock image sl
        ddock: unknown command `image sl`
        hint: did you mean `image ls`?

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

        $ ddock -H tcp://elsewhere:2375 ps
        ddock: `--host tcp://elsewhere:2375` is not there: ddock has no daemon that it could ask elsewhere
        hint: call it on the machine where the containers are to run

        $ ddock --tlsverify ps
        ddock: `--tlsverify` is not there: ddock has no daemon that it could ask elsewhere
        hint: call it on the machine where the containers are to run

        $ ddock -c elsewhere ps
        ddock: context "elsewhere" does not exist
        hint: there is only `default`: containers run where ddock is called

        $ ddock -l loud ps
        ddock: Unable to parse logging level: loud
        "#);
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
            "images -f colour",
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

        $ ddock images -f colour
        ddock: invalid value `colour` for `--filter`: bad format of filter (expected name=value)

        Run 'ddock images --help' for more information
        ");
    }

    #[test]
    fn what_is_not_there_is_named() {
        insta::assert_snapshot!(refusals(&[
            "build -t x .",
            "cp x:/a b",
            "compose up",
            "image tree",
            "volume export x",
            "run --health-cmd true x",
            "run --health-cmd=true x",
            "run --link a x",
            "run --arch arm64 x",
        ]), @r"
        $ ddock build -t x .
        ddock: `build` is not there: ddock runs images and does not build them
        hint: build with buildah or buildkit, and push the image where ddock can pull it

        $ ddock cp x:/a b
        ddock: `cp` is not there yet

        $ ddock compose up
        ddock: `compose` is not there: ddock runs one container at a time
        hint: a shell script of `ddock run` lines does for a few containers

        $ ddock image tree
        ddock: `image tree` is not there yet

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
        ");
    }

    #[test]
    fn help_goes_to_stdout() {
        let text = |line: &str| match parse(words(line)) {
            Ok(Parsed::Text(_, text)) => text,
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
            "help image",
            "image help",
        ] {
            assert!(text(line).contains("Usage: ddock"), "{line}");
        }
        let run = text("run --help");
        // Only `--explain` has a value that can be left out: switches are shown without.
        let optional: Vec<_> = run.lines().filter(|line| line.contains("[=F")).collect();
        assert!(run.contains("--rm ") && optional.len() == 1, "{run}");
        assert!(optional[0].contains("--explain[=FORM]"), "{run}");
        assert!(run.lines().count() <= 180, "{run}");
        assert_eq!(text("help run"), run);
        assert_eq!(text("run --rm --help"), run);
        assert!(text("help container run").contains("Usage: ddock container run [OPTIONS] IMAGE"));
        assert!(text("-v").contains(env!("CARGO_PKG_VERSION")));
    }
}
