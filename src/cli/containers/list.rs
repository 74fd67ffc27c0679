//! `ddock ps`.

use super::filter::Wanted;
use crate::cli::failure;
use crate::cli::filter::Filter;
use crate::cli::listing::{self, Listing};
use crate::container::{self, Origin, Record, Status};
use crate::engine::place;
use crate::human;
use crate::image::Image;
use crate::network::{self, Port};
use crate::store::Store;
use crate::template::METHOD;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;

/// How much of the command line a list shows.
const COMMAND_WIDTH: usize = 20;

/// How much of each mount's name.
const MOUNT_WIDTH: usize = 15;

#[derive(Debug, Default, Args)]
#[command(args_override_self = true)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
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
    /// Show only what fits: id, name, label, exited, status, ancestor, before, since, volume, network, publish, expose, health
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Show so: `table`, `table TEMPLATE`, `json` or a template of Go's, such as `{{.Names}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the last ones that were made, whether they run or not; -1 is all that run
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "-1",
        hide_default_value = true
    )]
    last: i64,
    /// Show the last one that was made
    #[arg(short, long)]
    latest: bool,
    /// Show how large their changes are
    #[arg(short, long)]
    size: bool,
}

/// What `ps` can show: Docker's columns.
const LISTING: Listing = Listing {
    columns: &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Ports", "PORTS"),
        ("RunningFor", "CREATED"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
    table: &[
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
    ],
    quiet: "ID",
};

/// Lists containers, the newest first.
pub(crate) fn list(arguments: &ListArguments, root: &Path) -> Result<()> {
    let store = place::enter_existing(root).context("cannot list containers")?;
    let mut containers = Vec::new();
    if let Some(store) = &store {
        place::sweep(store, &failure::note);
        containers = container::list(store).context("cannot list containers")?;
    }
    let wanted = Wanted::new(&arguments.filter, store.as_ref())?;
    choose(arguments, &wanted, &mut containers);
    let now = Utc::now();
    let rows: Vec<Value> = containers
        .iter()
        .map(|it| row(arguments, it, store.as_ref(), now))
        .collect();
    let table: Vec<&str> = LISTING
        .table
        .iter()
        .copied()
        .chain(arguments.size.then_some("Size"))
        .collect();
    let text = LISTING.render(arguments.format.as_deref(), arguments.quiet, &table, &rows)?;
    crate::cli::output::print(&text)
}

/// Leaves those that are asked for, the newest first.
fn choose(arguments: &ListArguments, wanted: &Wanted<'_>, containers: &mut Vec<Record>) {
    let last = if arguments.latest { 1 } else { arguments.last };
    let last = usize::try_from(last).ok().filter(|last| *last > 0);
    let all = arguments.all || last.is_some() || wanted.is_on_status();
    containers.retain(|it| all || matches!(it.status, Status::Running { .. }));
    containers.retain(|it| wanted.accepts(it));
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    containers.truncate(last.unwrap_or(usize::MAX));
}

/// Returns all that a template can ask for, as Docker's command line has it: texts.
fn row(arguments: &ListArguments, it: &Record, store: Option<&Store>, now: DateTime<Utc>) -> Value {
    let digits = if arguments.no_trunc { 64 } else { 12 };
    let id: String = it.id.chars().take(digits).collect();
    let size = store
        .filter(|_| arguments.size)
        .map_or_else(|| "0B".to_owned(), |store| size(store, it));
    let networks: Vec<&str> = it.networks.iter().map(|it| it.network.as_str()).collect();
    let local = it
        .mounts
        .iter()
        .filter(|mount| mount.volume.is_some())
        .count();
    json!({
        "Command": command(&it.command, arguments.no_trunc),
        "CreatedAt": it.created.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "ID": id,
        "Image": human::printable(&image(&it.origin)),
        "Labels": listing::labels(&it.labels),
        "LocalVolumes": local.to_string(),
        "Mounts": mounts(it, arguments.no_trunc),
        "Names": it.name,
        "Networks": networks.join(","),
        "Ports": ports(it),
        "RunningFor": human::ago(it.created, now),
        "Size": size,
        "State": state(&it.status),
        "Status": status(&it.status, now),
        format!("{METHOD}Label"): it.labels,
    })
}

/// Returns how large a container's changes are, and its image with them.
fn size(store: &Store, it: &Record) -> String {
    let own = store.container_size(&it.id);
    let image = it
        .origin
        .image()
        .and_then(|id| Image::open(store, id.clone()).ok().flatten());
    let below = image.map_or(0, |image| image.record.size);
    format!(
        "{} (virtual {})",
        human::size(own, 3),
        human::size(own + below, 3)
    )
}

fn mounts(it: &Record, whole: bool) -> String {
    let name = |mount: &crate::spec::MountPoint| {
        let name = match &mount.volume {
            Some(volume) => volume.to_string(),
            None => mount.source.display().to_string(),
        };
        shortened(&name, if whole { usize::MAX } else { MOUNT_WIDTH })
    };
    let names: Vec<String> = it.mounts.iter().map(name).collect();
    human::printable(&names.join(","))
}

/// Returns at most so many characters, the last of which says that there are more.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Returns Docker's word for where a container is in its life.
pub(crate) fn state(status: &Status) -> &'static str {
    match status {
        Status::Starting | Status::Created => "created",
        Status::Running { .. } => "running",
        Status::Exited { .. } => "exited",
        Status::Unknown => "dead",
    }
}

/// Returns what the user named: the image, or the directory that is there instead of one.
pub(crate) fn image(origin: &Origin) -> String {
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
    let shown = shortened(&line, if whole { usize::MAX } else { COMMAND_WIDTH });
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

    fn shown(arguments: &ListArguments, format: &str) -> String {
        let wanted = Wanted::new(&arguments.filter, None).unwrap();
        let mut containers = containers();
        choose(arguments, &wanted, &mut containers);
        let now = time("12:00:00");
        let rows: Vec<Value> = containers
            .iter()
            .map(|it| row(arguments, it, None, now))
            .collect();
        let text = LISTING.render(Some(format), arguments.quiet, LISTING.table, &rows);
        text.unwrap()
    }

    fn all() -> ListArguments {
        ListArguments {
            all: true,
            last: -1,
            ..ListArguments::default()
        }
    }

    #[test]
    fn the_table_is_dockers() {
        insta::assert_snapshot!(shown(&all(), "table"), @r#"
        CONTAINER ID   IMAGE     COMMAND                     CREATED             STATUS                     PORTS     NAMES
        bbbbbbbbbbbb   ubuntu    "/bin/sh"                   4 seconds ago       Up 3 seconds                         brisk_vermeer
        cccccccccccc   ubuntu    "a-command-that-is-l…"      About an hour ago   Created                              never
        aaaaaaaaaaaa   ubuntu    "bash -c 'echo \"a\nb\"'"   3 hours ago         Exited (137) 2 hours ago             old
        "#);
        assert_eq!(
            shown(&all(), "json").lines().next().unwrap(),
            r#"{"Command":"\"/bin/sh\"","CreatedAt":"2026-01-01 11:59:56 +0000 UTC","ID":"bbbbbbbbbbbb","Image":"ubuntu","Labels":"","LocalVolumes":"0","Mounts":"","Names":"brisk_vermeer","Networks":"","Ports":"","RunningFor":"4 seconds ago","Size":"0B","State":"running","Status":"Up 3 seconds"}"#
        );
    }

    #[test]
    fn only_what_runs_is_shown_unless_all_is_asked_for() {
        let some = |all, quiet, no_trunc, last| ListArguments {
            all,
            quiet,
            no_trunc,
            last,
            ..ListArguments::default()
        };
        let ids = "bbbbbbbbbbbb\ncccccccccccc\naaaaaaaaaaaa\n";
        assert_eq!(shown(&some(false, true, false, -1), ""), "bbbbbbbbbbbb\n");
        assert_eq!(shown(&some(true, true, false, -1), ""), ids);
        assert_eq!(shown(&some(false, true, false, 3), ""), ids);
        assert_eq!(shown(&some(false, true, false, 1), ""), "bbbbbbbbbbbb\n");
        assert_eq!(
            shown(&some(false, true, true, -1), ""),
            format!("{}\n", "b".repeat(64))
        );
        assert!(shown(&some(true, false, true, -1), "").contains("\"a-command-that-is-long\""));
    }

    #[test]
    fn filters_are_dockers() {
        for (texts, names) in [
            (&["name=ol"][..], "old\n"),
            (&["name=^/old$"], "old\n"),
            (&["name=^ol$"], ""),
            (&["name=x"], ""),
            (&["name=old", "name=never"], "never\nold\n"),
            (&["id=aaa"], "old\n"),
            (&["status=exited"], "old\n"),
            (&["status=exited", "status=created"], "never\nold\n"),
            (&["exited=137"], "old\n"),
            (&["exited=0"], ""),
            (&["label=a"], ""),
            (&["ancestor=ubuntu"], "brisk_vermeer\nnever\nold\n"),
            (
                &["ancestor=docker.io/library/ubuntu:latest"],
                "brisk_vermeer\nnever\nold\n",
            ),
            (&["ancestor=debian"], ""),
            (&["health=healthy"], ""),
            (&["is-task=true"], ""),
            (&["publish=80"], ""),
            (&["network=bridge"], ""),
        ] {
            let filter = texts.iter().map(|text| text.parse().unwrap()).collect();
            let arguments = ListArguments { filter, ..all() };
            assert_eq!(shown(&arguments, "{{.Names}}"), names, "{texts:?}");
        }
        for bad in [
            "colour=red",
            "status=lost",
            "exited=x",
            "name=[",
            "is-task=maybe",
            "publish=x",
            "before=nobody",
        ] {
            let filter = [bad.parse().unwrap()];
            assert!(Wanted::new(&filter, None).is_err(), "{bad}");
        }
    }
}
