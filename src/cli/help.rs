//! What `--help` prints: two columns, in groups.

use crate::cli::command::{Command, Section};
use crate::cli::commands::{COMMANDS, GROUPS, of_group};
use clap::{Arg, ArgAction};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use unicode_width::UnicodeWidthStr as _;

/// Columns that flags may take before what they do is told; after longer ones that begins on the next line.
const FLAG_WIDTH: usize = 32;

/// Columns of a page that is not for a terminal.
const PAGE_WIDTH: usize = 120;

/// Fewer would leave no room for the second column.
const MIN_WIDTH: usize = 60;

/// Two columns, and where text goes on in the second.
struct Page {
    text: String,
    width: usize,
}

/// Returns the help of the whole program, whose own flags are `globals`.
pub(super) fn program(globals: &clap::Command) -> String {
    let mut page = Page::new(
        "Usage: ddock [OPTIONS] COMMAND\n\nPull images and run commands in containers, without a daemon\n",
    );
    let of = |section| {
        let commands = COMMANDS.iter().filter(move |it| it.section == section);
        commands
            .filter(|it| !it.name().contains(' '))
            .map(|it| (it.name(), it.about))
    };
    page.list("Common Commands", of(Section::Common));
    page.list("Management Commands", GROUPS.iter().copied());
    page.list("Commands", of(Section::Other));
    page.flags("Global Options", globals.get_arguments());
    page.end("Run 'ddock COMMAND --help' for more information on a command")
}

/// Returns the help of a group of commands.
pub(super) fn group(name: &str) -> String {
    let about = GROUPS.iter().find(|(group, _)| *group == name);
    let about = about.map_or("", |(_, about)| about);
    let mut page = Page::new(&format!("Usage: ddock {name} COMMAND\n\n{about}\n"));
    let mut commands: Vec<_> = of_group(name).map(|(verb, it)| (verb, it.about)).collect();
    commands.sort_unstable();
    page.list("Commands", commands.into_iter());
    page.end(&format!(
        "Run 'ddock {name} COMMAND --help' for more information on a command"
    ))
}

/// Returns the help of a command that was asked about by `name`, with its flags as they are `declared`.
pub(super) fn command(command: &Command, name: &str, mut declared: clap::Command) -> String {
    declared.build();
    let mut page = Page::new(&format!(
        "{}\n\n{}\n",
        usage(name, &mut declared),
        command.about
    ));
    if command.names.len() > 1 {
        let names: Vec<_> = command
            .names
            .iter()
            .map(|name| format!("ddock {name}"))
            .collect();
        write!(page.text, "\nAliases:\n  {}\n", names.join(", "))
            .expect("writing to a string cannot fail");
    }
    let rows = declared
        .get_positionals()
        .filter(|it| !it.is_hide_set())
        .map(|it| (positional(it), about(it)));
    let rows: Vec<_> = rows.filter(|(_, about)| !about.is_empty()).collect();
    page.list(
        "Arguments",
        rows.iter()
            .map(|(name, about)| (name.as_str(), about.as_str())),
    );
    let mut headings: Vec<Option<&str>> = Vec::new();
    for flag in declared.get_arguments().filter(|it| !it.is_positional()) {
        if !headings.contains(&flag.get_help_heading()) {
            headings.push(flag.get_help_heading());
        }
    }
    for heading in headings {
        let flags = declared.get_arguments().filter(|it| !it.is_positional());
        let flags = flags.filter(|it| it.get_help_heading() == heading);
        page.flags(heading.unwrap_or("Options"), flags);
    }
    page.text
}

/// Returns the one line that shows how a command is called.
fn usage(name: &str, declared: &mut clap::Command) -> String {
    let usual = declared.render_usage().to_string();
    // The words of a command that has them written down, after whatever name it has there.
    if let Some(at) = usual
        .find(" [OPTIONS] ")
        .filter(|_| !usual.contains(['<', '\n']))
    {
        return format!("Usage: {name}{}", &usual[at..]);
    }
    let mut usage = format!("Usage: {name} [OPTIONS]");
    for argument in declared.get_positionals() {
        let name = positional(argument);
        let many = matches!(argument.get_action(), ArgAction::Append);
        let shown = match (argument.is_required_set(), many) {
            (true, true) => format!("{name} [{name}...]"),
            (true, false) => name,
            (false, true) => format!("[{name}...]"),
            (false, false) => format!("[{name}]"),
        };
        usage.push(' ');
        usage.push_str(&shown);
    }
    usage
}

fn positional(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    names.join(" ")
}

/// Returns `-e, --env KEY[=VALUE]`.
fn flag(flag: &Arg) -> String {
    let mut text = match flag.get_short() {
        Some(short) => format!("-{short}, "),
        None => "    ".to_owned(),
    };
    if let Some(long) = flag.get_long() {
        text.push_str("--");
        text.push_str(long);
    }
    if flag.get_action().takes_values() {
        let value = positional(flag);
        let shown = if flag.is_require_equals_set()
            && flag.get_num_args().is_some_and(|it| it.min_values() == 0)
        {
            format!("[={value}]")
        } else {
            format!(" {value}")
        };
        text.push_str(&shown);
    }
    text
}

/// Returns what an argument is for, with its default and the values that it can have.
fn about(argument: &Arg) -> String {
    let mut text = argument
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    if argument.get_action().takes_values() {
        let values = argument.get_possible_values();
        let values: Vec<&str> = values
            .iter()
            .map(clap::builder::PossibleValue::get_name)
            .collect();
        if !values.is_empty() {
            write!(text, " ({})", values.join(", ")).expect("writing to a string cannot fail");
        }
    }
    let default = argument.get_default_values().first();
    if let Some(default) =
        default.filter(|it| !argument.is_hide_default_value_set() && *it != "false")
    {
        write!(text, " [default: {}]", default.display()).expect("writing to a string cannot fail");
    }
    text
}

impl Page {
    fn new(head: &str) -> Self {
        let terminal = rustix::termios::tcgetwinsize(io::stdout());
        let columns = terminal
            .ok()
            .filter(|_| io::stdout().is_terminal())
            .map(|size| usize::from(size.ws_col));
        Self {
            text: head.to_owned(),
            width: columns
                .filter(|it| *it > 0)
                .unwrap_or(PAGE_WIDTH)
                .max(MIN_WIDTH),
        }
    }

    /// Adds rows of a name and what it is; nothing if there are none.
    fn list<'a>(&mut self, heading: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
        let rows: Vec<_> = rows.collect();
        let widest = rows.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
        self.head(heading, rows.is_empty());
        for (name, about) in rows {
            self.row(name, about, widest);
        }
    }

    fn flags<'a>(&mut self, heading: &str, flags: impl Iterator<Item = &'a Arg>) {
        let shown = flags.filter(|it| !it.is_hide_set());
        let rows: Vec<_> = shown.map(|it| (flag(it), about(it))).collect();
        let rows: Vec<(&str, &str)> = rows
            .iter()
            .map(|(flag, about)| (flag.as_str(), about.as_str()))
            .collect();
        self.head(heading, rows.is_empty());
        for (flag, about) in rows {
            self.row(flag, about, FLAG_WIDTH);
        }
    }

    fn head(&mut self, heading: &str, is_empty: bool) {
        if !is_empty {
            write!(self.text, "\n{heading}:\n").expect("writing to a string cannot fail");
        }
    }

    /// Adds one row; what does not fit goes on in the second column.
    fn row(&mut self, name: &str, about: &str, first: usize) {
        let indent = first + 4;
        let start = self.text.len();
        write!(self.text, "  {name:<first$}  ").expect("writing to a string cannot fail");
        let mut column = self.text[start..].width();
        if column > indent {
            write!(self.text, "\n{:indent$}", "").expect("writing to a string cannot fail");
            column = indent;
        }
        let mut is_fresh = true;
        for word in about.split(' ') {
            let fits = column + 1 + word.width() <= self.width;
            if !is_fresh && !fits {
                write!(self.text, "\n{:indent$}", "").expect("writing to a string cannot fail");
                column = indent;
                is_fresh = true;
            }
            if !is_fresh {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += word.width();
            is_fresh = false;
        }
        self.text.push('\n');
    }

    fn end(mut self, line: &str) -> String {
        write!(self.text, "\n{line}\n").expect("writing to a string cannot fail");
        self.text
    }
}
