//! `ddock ps` and `ddock rm`.

use crate::cli::{failure, output};
use crate::human;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use std::path::Path;

/// How much of the command line a list shows.
const COMMAND_WIDTH: usize = 20;

#[derive(Debug, Default, Args)]
pub(crate) struct ListArguments {
    /// Show stopped containers too
    #[arg(short, long)]
    all: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Kill a container that runs; pass over one that is not there
    #[arg(short, long)]
    force: bool,
    /// Remove all containers
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
    /// Remove the container's anonymous volumes with it
    // Accepted for the scripts that say it: there are no volumes yet, so none can be left.
    #[arg(short, long)]
    volumes: bool,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,
}

/// A container as the list needs it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// 64 hex digits.
    pub(crate) id: String,
    pub(crate) name: String,
    /// As the user named it.
    pub(crate) image: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    pub(crate) created: DateTime<Utc>,
    pub(crate) status: Status,
}

/// What a container does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running { since: DateTime<Utc> },
    Exited { code: u8, at: DateTime<Utc> },
}

/// Lists containers, the newest first.
pub(crate) fn list(arguments: &ListArguments, root: &Path) -> Result<()> {
    let containers = fetch(root).context("cannot list containers")?;
    output::print(&render(arguments, containers, Utc::now()))
}

fn fetch(_root: &Path) -> Result<Vec<View>> {
    bail!("containers are not joined to the command line")
}

/// Removes containers one after the other, saying the name of each as the user gave it.
pub(crate) fn remove(arguments: &RemoveArguments, root: &Path) -> Result<()> {
    let names = if arguments.all {
        let all = fetch(root).context("cannot list containers")?;
        all.into_iter().map(|container| container.id).collect()
    } else {
        arguments.containers.clone()
    };
    failure::each(names, |name| {
        remove_one(root, &name, arguments.force)
            .with_context(|| format!("cannot remove container \"{name}\""))?;
        output::print(&format!("{name}\n"))
    })
}

fn remove_one(_root: &Path, _name: &str, _force: bool) -> Result<()> {
    bail!("removing is not joined to the command line")
}

fn render(arguments: &ListArguments, mut containers: Vec<View>, now: DateTime<Utc>) -> String {
    containers
        .retain(|container| arguments.all || matches!(container.status, Status::Running { .. }));
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let id = |container: &View| {
        let digits = if arguments.no_trunc { 64 } else { 12 };
        container.id.chars().take(digits).collect::<String>()
    };
    if arguments.quiet {
        return containers
            .iter()
            .map(|container| id(container) + "\n")
            .collect();
    }
    let header = [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(containers.iter().map(|container| {
        vec![
            id(container),
            human::printable(&container.image),
            command(&container.command, arguments.no_trunc),
            human::ago(container.created, now),
            status(container.status, now),
            String::new(),
            container.name.clone(),
        ]
    }));
    human::table(&table)
}

/// Returns the command line in quotes, shortened with `…` unless `whole`.
fn command(words: &[String], whole: bool) -> String {
    let line = words.join(" ");
    let shown = if whole || line.chars().count() <= COMMAND_WIDTH {
        line
    } else {
        line.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
    };
    let escaped = shown.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", human::printable(&escaped))
}

fn status(status: Status, now: DateTime<Utc>) -> String {
    let seconds = |since: DateTime<Utc>| now.signed_duration_since(since).num_seconds();
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running { since } => format!("Up {}", human::duration(seconds(since))),
        Status::Exited { code, at } => format!("Exited ({code}) {}", human::ago(at, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn containers() -> Vec<View> {
        let container = |digit: &str, name: &str, command: &[&str], created, status| View {
            id: digit.repeat(64),
            name: name.to_owned(),
            image: "ubuntu".to_owned(),
            command: command.iter().copied().map(str::to_owned).collect(),
            created: time(created),
            status,
        };
        let ended = Status::Exited {
            code: 137,
            at: time("10:00:00"),
        };
        let runs = Status::Running {
            since: time("11:59:57"),
        };
        vec![
            container(
                "a",
                "old",
                &["bash", "-c", "echo \"a\nb\""],
                "09:00:00",
                ended,
            ),
            container("b", "brisk_vermeer", &["/bin/sh"], "11:59:56", runs),
            container(
                "c",
                "never",
                &["a-command-that-is-long"],
                "11:00:00",
                Status::Created,
            ),
        ]
    }

    fn shown(all: bool, quiet: bool, no_trunc: bool) -> String {
        let arguments = ListArguments {
            all,
            quiet,
            no_trunc,
        };
        render(&arguments, containers(), time("12:00:00"))
    }

    #[test]
    fn the_table_is_dockers() {
        insta::assert_snapshot!(shown(true, false, false), @r#"
        CONTAINER ID   IMAGE       COMMAND                   CREATED             STATUS                     PORTS       NAMES
        bbbbbbbbbbbb   ubuntu      "/bin/sh"                 4 seconds ago       Up 3 seconds                           brisk_vermeer
        cccccccccccc   ubuntu      "a-command-that-is-l…"    About an hour ago   Created                                never
        aaaaaaaaaaaa   ubuntu      "bash -c echo \"a\nb\""   3 hours ago         Exited (137) 2 hours ago               old
        "#);
    }

    #[test]
    fn only_what_runs_is_shown_unless_all_is_asked_for() {
        assert_eq!(shown(false, true, false), "bbbbbbbbbbbb\n");
        assert_eq!(
            shown(true, true, false),
            "bbbbbbbbbbbb\ncccccccccccc\naaaaaaaaaaaa\n"
        );
        assert_eq!(shown(false, true, true), format!("{}\n", "b".repeat(64)));
        assert!(shown(true, false, true).contains("\"a-command-that-is-long\""));
    }
}
