//! Flags with an empty value: as with a variable, that is as if they were not there.

use clap::Arg;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// Flags to which an empty value means something, as with Docker.
const KEPT: &[&str] = &["entrypoint"];

/// How a word goes on.
enum Flag {
    /// It needs no other word.
    Whole,
    /// Its value is the next word; whether that may be empty.
    Next(bool),
    /// Its value is there and empty.
    Empty,
}

/// Returns the words of a command without those flags, as far as the words are its own: flags end at `--`, and for a command
/// that runs another at the first word that is none.
pub(super) fn without(words: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    let runs_another = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" || runs_another && !bytes.starts_with(b"-") {
            kept.push(word);
            break;
        }
        match flag(&word, command) {
            Flag::Whole => kept.push(word),
            Flag::Empty => {}
            Flag::Next(may_be_empty) => match words.next() {
                Some(value) if value.is_empty() && !may_be_empty => {}
                value => kept.extend([word].into_iter().chain(value)),
            },
        }
    }
    kept.extend(words);
    kept
}

fn flag(word: &OsString, command: &clap::Command) -> Flag {
    let Some(text) = word.to_str() else {
        return Flag::Whole;
    };
    let takes_value =
        |flag: &&Arg| flag.get_action().takes_values() && !flag.is_require_equals_set();
    let is_kept = |flag: &Arg| KEPT.contains(&flag.get_id().as_str());
    let find = |is: &dyn Fn(&Arg) -> bool| {
        command
            .get_arguments()
            .find(|flag| is(flag))
            .filter(takes_value)
    };
    if let Some(long) = text.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let has_name = |flag: &Arg| {
            flag.get_long_and_visible_aliases()
                .is_some_and(|it| it.contains(&name))
        };
        return match (find(&has_name), value) {
            (Some(flag), Some("")) if !is_kept(flag) => Flag::Empty,
            (Some(flag), None) => Flag::Next(is_kept(flag)),
            _ => Flag::Whole,
        };
    }
    let Some(shorts) = text.strip_prefix('-') else {
        return Flag::Whole;
    };
    for (at, short) in shorts.char_indices() {
        if find(&|flag: &Arg| flag.get_short() == Some(short)).is_some() {
            let rest = &shorts[at + short.len_utf8()..];
            return match rest {
                // Of `-ite ''` the letters before count.
                "" => Flag::Next(at > 0),
                "=" if at == 0 => Flag::Empty,
                _ => Flag::Whole,
            };
        }
    }
    Flag::Whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ArgAction;

    #[test]
    fn an_empty_value_is_none() {
        let value = |long: &'static str| Arg::new(long).long(long).action(ArgAction::Append);
        let command = |runs: bool| {
            let words = Arg::new("words").num_args(0..).trailing_var_arg(runs);
            let switch = Arg::new("rm")
                .long("rm")
                .short('r')
                .action(ArgAction::SetTrue);
            let flags = [value("name").short('n'), value("entrypoint"), switch, words];
            clap::Command::new("test").args(flags)
        };
        for (line, runs, expected) in [
            ("--name= x", true, "x"),
            ("--name _ x", true, "x"),
            ("-n _ x", true, "x"),
            ("-n= x", true, "x"),
            ("--name a x", true, "--name a x"),
            ("--name --rm x", true, "--name --rm x"),
            ("--entrypoint _ --name _ x", true, "--entrypoint _ x"),
            ("--entrypoint= x", true, "--entrypoint= x"),
            ("--rm x --name _", true, "--rm x --name _"),
            ("x --name _", false, "x"),
            ("-- --name _", false, "-- --name _"),
            ("--name", true, "--name"),
            ("_ x", true, "_ x"),
        ] {
            let words = line
                .split(' ')
                .map(|word| OsString::from(if word == "_" { "" } else { word }));
            let mut command = command(runs);
            command.build();
            let kept = without(words.collect(), &command);
            let kept: Vec<_> = kept
                .iter()
                .map(|it| {
                    if it.is_empty() {
                        "_".into()
                    } else {
                        it.to_string_lossy()
                    }
                })
                .collect();
            assert_eq!(kept.join(" "), expected, "{line}");
        }
    }
}
