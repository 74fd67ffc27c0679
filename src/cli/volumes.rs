//! `ddock volume create`, `ls`, `inspect`, `rm` and `prune`.

use crate::cli::failure;
use crate::cli::filter::{Filter, Filters};
use crate::cli::listing::{self, Listing};
use crate::cli::{inspect, output, prompt};
use crate::engine;
use crate::engine::place;
use crate::engine::volume::{self, Listed};
use crate::fault::Kind;
use crate::human;
use crate::options::Pair;
use crate::store::{Store, VolumeName, VolumeRecord};
use crate::template::METHOD;
use anyhow::{Context, Result};
use chrono::SecondsFormat;
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Give the volume a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<Pair>,
    /// Which driver makes it: `local`
    #[arg(short, long, value_name = "DRIVER", default_value = "local", value_parser = ["local"])]
    driver: String,
    /// Its name [default: a random one]
    #[arg(value_name = "NAME")]
    name: Option<VolumeName>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
    /// Show only what fits: dangling=true, label=KEY[=VALUE], name=TEXT, driver=NAME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Show so: `table`, `table TEMPLATE`, `json` or a template of Go's, such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Show so: `json`, or a template of Go's such as `{{.Name}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Which volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Pass over a volume that is not there
    #[arg(short, long)]
    force: bool,
    /// Which volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Remove volumes with names too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Makes a volume and prints its name.
pub(crate) fn create(arguments: &CreateArguments, root: &Path) -> Result<()> {
    let labels = arguments.label.iter().cloned().map(Pair::into).collect();
    let name = volume::create(root, arguments.name.clone(), labels);
    let name = name.context("cannot create the volume")?;
    output::print(&format!("{name}\n"))
}

/// What `volume ls` can show: Docker's columns.
const LISTING: Listing = Listing {
    columns: &[
        ("Availability", "AVAILABILITY"),
        ("Driver", "DRIVER"),
        ("Group", "GROUP"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
    table: &["Driver", "Name"],
    quiet: "Name",
};

/// Lists volumes by name.
pub(crate) fn list(arguments: &ListArguments, root: &Path) -> Result<()> {
    let filters = Filters::new(&arguments.filter, &["dangling", "driver", "label", "name"])?;
    let dangling = filters.boolean("dangling")?;
    let context = "cannot list volumes";
    let store = place::existing(root).context(context)?;
    let mut volumes = volume::list(root).context(context)?;
    volumes.retain(|it| {
        dangling.is_none_or(|dangling| dangling != it.is_used)
            && filters.any("driver", |driver| driver == "local")
            && filters.has_labels(&it.record.labels)
            && filters.any("name", |text| it.name.as_str().contains(text))
    });
    let data = |name| {
        store
            .as_ref()
            .map(|store| store.volume_data(name))
            .unwrap_or_default()
    };
    let rows: Vec<Value> = volumes.iter().map(|it| row(it, &data(&it.name))).collect();
    LISTING.print(arguments.format.as_deref(), arguments.quiet, &rows)
}

/// Returns all that a template can ask for, as Docker's command line has it: texts.
fn row(volume: &Listed, data: &Path) -> Value {
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": listing::labels(&volume.record.labels),
        "Links": "N/A",
        "Mountpoint": data,
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
        format!("{METHOD}Label"): volume.record.labels,
    })
}

/// Prints what was found as one JSON array, then says what was not.
pub(crate) fn inspect(arguments: &InspectArguments, root: &Path) -> Result<()> {
    let store = place::existing(root).context("cannot inspect volumes")?;
    let find = |text: &str| look_up(store.as_ref(), text);
    let format = arguments.format.as_deref();
    inspect::each(&arguments.volumes, format, find, |text| {
        format!("error: get {}: no such volume\n", human::printable(text))
    })
}

/// Returns the description of a volume; `None` if it is not there.
pub(crate) fn look_up(store: Option<&Store>, text: &str) -> Result<Option<Value>> {
    let (Some(store), Ok(name)) = (store, text.parse()) else {
        return Ok(None);
    };
    let record = store.volume(&name).context("cannot inspect volumes")?;
    Ok(record.map(|record| describe(&name, &record, &store.volume_data(&name))))
}

/// Returns Docker's description of a volume (Engine API, `VolumeInspect`), in Docker's order.
fn describe(name: &VolumeName, record: &VolumeRecord, data: &Path) -> Value {
    let labels = &record.labels;
    json!({
        "CreatedAt": record.created.to_rfc3339_opts(SecondsFormat::Secs, true),
        "Driver": "local",
        "Labels": (!labels.is_empty()).then_some(labels),
        "Mountpoint": data,
        "Name": name,
        "Options": null,
        "Scope": "local",
    })
}

/// Removes volumes one after the other, saying the name of each.
pub(crate) fn remove(arguments: &RemoveArguments, root: &Path) -> Result<()> {
    let entered = place::enter_swept(root, &failure::note).context("cannot remove volumes")?;
    let store = entered.as_ref().map(|(store, _)| store);
    failure::each(&arguments.volumes, |text| {
        match volume::remove(store, text) {
            // What is to be gone is gone.
            Err(error) if !(arguments.force && engine::blame(&error) == Kind::NotFound) => {
                Err(error)
            }
            _ => output::print(&format!("{text}\n")),
        }
    })
}

/// Removes all volumes that no container uses and that nobody named, or with `--all` those with names too.
pub(crate) fn prune(arguments: &PruneArguments, root: &Path) -> Result<()> {
    if !arguments.force {
        let which = if arguments.all { "all" } else { "anonymous" };
        let warning =
            format!("This will remove {which} local volumes not used by at least one container.");
        prompt::confirm(&warning, "volume prune")?;
    }
    let fits = |record: &VolumeRecord| arguments.all || record.is_anonymous();
    let pruned = volume::prune(root, fits, &failure::note).context("cannot remove volumes")?;
    if !pruned.names.is_empty() {
        let lines = pruned.names.iter().map(|name| format!("{name}\n"));
        output::print(&format!(
            "Deleted Volumes:\n{}\n",
            lines.collect::<String>()
        ))?;
    }
    output::print(&format!(
        "Total reclaimed space: {}\n",
        human::size(pruned.reclaimed, 4)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn rows_are_dockers() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let volume = Listed {
            name: "data".parse().unwrap(),
            record: VolumeRecord::new(labels, false),
            is_used: false,
        };
        let rows = [row(&volume, Path::new("/v"))];
        let shown = |format| LISTING.render(format, false, LISTING.table, &rows).unwrap();
        assert_eq!(shown(None), "DRIVER    VOLUME NAME\nlocal     data\n");
        assert_eq!(
            shown(Some("{{.Name}} {{.Mountpoint}} {{.Label \"a\"}}")),
            "data /v b\n"
        );
        assert_eq!(
            shown(Some("json")),
            "{\"Availability\":\"N/A\",\"Driver\":\"local\",\"Group\":\"N/A\",\"Labels\":\"a=b\",\"Links\":\"N/A\",\"Mountpoint\":\"/v\",\"Name\":\"data\",\"Scope\":\"local\",\"Size\":\"N/A\",\"Status\":\"N/A\"}\n"
        );
    }

    #[test]
    fn the_description_is_dockers() {
        let record = VolumeRecord {
            created: "2026-01-01T00:00:00Z".parse().unwrap(),
            labels: BTreeMap::new(),
        };
        let document = describe(
            &"data".parse().unwrap(),
            &record,
            Path::new("/v/data/_data"),
        );
        insta::assert_snapshot!(inspect::render(&[document]), @r#"
        [
            {
                "CreatedAt": "2026-01-01T00:00:00Z",
                "Driver": "local",
                "Labels": null,
                "Mountpoint": "/v/data/_data",
                "Name": "data",
                "Options": null,
                "Scope": "local"
            }
        ]
        "#);
    }
}
