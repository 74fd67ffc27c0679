//! `ddock ps` and `ddock rm`.

use crate::cli::{failure, output};
use crate::container::{self, AskToKill, Origin, Record, Status, Volumes};
use crate::engine;
use crate::engine::place;
use crate::fault::Kind;
use crate::human;
use crate::monitor;
use crate::network::{self, Attachment, Port};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::Args;
use std::path::Path;
use std::str::FromStr;

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
    /// Show only what fits: network=NAME or network=ID
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
}

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    /// A network that the container is in: its name, or the beginning of its ID.
    Network(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=').ok_or("expected KEY=VALUE")? {
            ("network", value) => Ok(Self::Network(value.to_owned())),
            (key, _) => Err(format!("the filter `{key}` is not there yet; `network` is")),
        }
    }
}

impl Filter {
    fn accepts(&self, container: &Record) -> bool {
        let Self::Network(text) = self;
        let has_id = |it: &Attachment| !text.is_empty() && it.network_id.starts_with(text);
        let mut networks = container.networks.iter();
        networks.any(|it| it.network == *text || has_id(it))
    }
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
    #[arg(short, long)]
    volumes: bool,
    /// Which containers: names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,
}

/// Lists containers, the newest first.
pub(crate) fn list(arguments: &ListArguments, root: &Path) -> Result<()> {
    let containers = match place::enter_existing(root).context("cannot list containers")? {
        Some(store) => {
            place::sweep(&store, &failure::note);
            container::list(&store).context("cannot list containers")?
        }
        None => Vec::new(),
    };
    output::print(&render(arguments, containers, Utc::now()))
}

/// Removes containers one after the other, saying the name of each as the user gave it.
pub(crate) fn remove(arguments: &RemoveArguments, root: &Path) -> Result<()> {
    let (store, _) = place::enter(root).context("cannot remove containers")?;
    let names = if arguments.all {
        place::sweep(&store, &failure::note);
        let all = container::list(&store).context("cannot remove containers")?;
        all.into_iter().map(|container| container.id).collect()
    } else {
        arguments.containers.clone()
    };
    let volumes = if arguments.volumes {
        Volumes::Removed
    } else {
        Volumes::Kept
    };
    let force = arguments.force.then_some(monitor::kill as AskToKill);
    failure::each(names, |name| {
        let removed = container::find(&store, &name)
            .and_then(|record| container::remove(&store, &record, force, volumes));
        match removed {
            // What is to be gone is gone.
            Err(error) if arguments.force && engine::blame(&error) == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => output::print(&format!("{name}\n")),
        }
    })
}

fn render(arguments: &ListArguments, mut containers: Vec<Record>, now: DateTime<Utc>) -> String {
    containers
        .retain(|container| arguments.all || matches!(container.status, Status::Running { .. }));
    containers.retain(|container| arguments.filter.iter().all(|it| it.accepts(container)));
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let id = |container: &Record| {
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
            human::printable(&image(&container.origin)),
            command(&container.command, arguments.no_trunc),
            human::ago(container.created, now),
            status(&container.status, now),
            ports(container),
            container.name.clone(),
        ]
    }));
    human::table(&table)
}

/// Returns what the user named: the image, or the directory that is there instead of one.
fn image(origin: &Origin) -> String {
    match origin {
        Origin::Image { image_name, .. } => image_name.clone(),
        Origin::Directory { rootfs } => rootfs.display().to_string(),
        Origin::Unknown {} => String::new(),
    }
}

/// Returns the published ports, then those that are only said to be served; nothing of what runs no more.
fn ports(container: &Record) -> String {
    if !matches!(container.status, Status::Running { .. }) {
        return String::new();
    }
    let published = &container.ports;
    let is_published = |port: &Port| published.iter().any(|it| it.container == *port);
    let others = container.exposed.iter().filter(|port| !is_published(port));
    let published = Some(network::summary(published)).filter(|it| !it.is_empty());
    let words: Vec<String> = published
        .into_iter()
        .chain(others.map(ToString::to_string))
        .collect();
    words.join(", ")
}

/// Returns the command line in quotes, as Docker shows it: words with blanks in single quotes of their
/// own, and shortened with `…` unless `whole`.
fn command(words: &[String], whole: bool) -> String {
    let quoted = words.iter().map(|word| {
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    });
    let line = quoted.collect::<Vec<_>>().join(" ");
    let shown = if whole || line.chars().count() <= COMMAND_WIDTH {
        line
    } else {
        line.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
    };
    let escaped = shown.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", human::printable(&escaped))
}

fn status(status: &Status, now: DateTime<Utc>) -> String {
    let seconds = |since: DateTime<Utc>| now.signed_duration_since(since).num_seconds();
    match status {
        Status::Starting | Status::Created => "Created".to_owned(),
        Status::Running { started, .. } => format!("Up {}", human::duration(seconds(*started))),
        Status::Exited { code, finished, .. } => {
            format!("Exited ({code}) {}", human::ago(*finished, now))
        }
        Status::Unknown => "Dead".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::options::{Log, Stop};
    use std::collections::BTreeMap;

    fn time(text: &str) -> DateTime<Utc> {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn containers() -> Vec<Record> {
        let container = |digit: &str, name: &str, command: &[&str], created, status| Record {
            id: digit.repeat(64),
            name: name.to_owned(),
            origin: Origin::Image {
                image: Digest::of(b"ubuntu"),
                image_name: "ubuntu".to_owned(),
            },
            options: None,
            holds: None,
            volumes: Vec::new(),
            command: command.iter().copied().map(str::to_owned).collect(),
            created: time(created),
            auto_remove: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            stop: Stop::default(),
            log: Log::default(),
            mounts: Vec::new(),
            networks: Vec::new(),
            holds_switch: false,
            ports: Vec::new(),
            exposed: Vec::new(),
            status,
        };
        let ended = Status::Exited {
            code: 137,
            out_of_memory: false,
            finished: time("10:00:00"),
        };
        let runs = Status::Running {
            pid: 1,
            start_time: 1,
            started: time("11:59:57"),
            boot: None,
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
            filter: Vec::new(),
        };
        render(&arguments, containers(), time("12:00:00"))
    }

    #[test]
    fn the_table_is_dockers() {
        insta::assert_snapshot!(shown(true, false, false), @r#"
        CONTAINER ID   IMAGE     COMMAND                     CREATED             STATUS                     PORTS     NAMES
        bbbbbbbbbbbb   ubuntu    "/bin/sh"                   4 seconds ago       Up 3 seconds                         brisk_vermeer
        cccccccccccc   ubuntu    "a-command-that-is-l…"      About an hour ago   Created                              never
        aaaaaaaaaaaa   ubuntu    "bash -c 'echo \"a\nb\"'"   3 hours ago         Exited (137) 2 hours ago             old
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
