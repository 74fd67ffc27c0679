//! `ddock volume create`, `ls`, `inspect`, `rm` and `prune`.

use crate::cli::failure;
use crate::cli::{inspect, output, prompt};
use crate::engine;
use crate::engine::place;
use crate::engine::volume::{self, Listed};
use crate::fault::Kind;
use crate::human;
use crate::options::Pair;
use crate::store::{Store, VolumeName, VolumeRecord};
use anyhow::{Context, Result};
use chrono::SecondsFormat;
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::str::FromStr;

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
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
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

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Dangling(bool),
    Label(String, Option<String>),
    Name(String),
    Driver(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let owned = value.to_owned();
        match (key, value) {
            ("dangling", "true" | "1") => Ok(Self::Dangling(true)),
            ("dangling", "false" | "0") => Ok(Self::Dangling(false)),
            ("dangling", _) => Err("`dangling` is `true` or `false`".to_owned()),
            ("label", _) => Ok(match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            }),
            ("name", _) => Ok(Self::Name(owned)),
            ("driver", _) => Ok(Self::Driver(owned)),
            _ => Err(format!("there is no filter `{key}`")),
        }
    }
}

impl Filter {
    fn accepts(&self, volume: &Listed) -> bool {
        match self {
            Self::Dangling(dangling) => *dangling != volume.is_used,
            Self::Label(key, value) => volume
                .record
                .labels
                .get(key)
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found)),
            Self::Name(text) => volume.name.as_str().contains(text),
            Self::Driver(driver) => driver == "local",
        }
    }
}

/// Makes a volume and prints its name.
pub(crate) fn create(arguments: &CreateArguments, root: &Path) -> Result<()> {
    let labels = arguments.label.iter().cloned().map(Pair::into).collect();
    let name = volume::create(root, arguments.name.clone(), labels);
    let name = name.context("cannot create the volume")?;
    output::print(&format!("{name}\n"))
}

/// Lists volumes by name.
pub(crate) fn list(arguments: &ListArguments, root: &Path) -> Result<()> {
    let mut volumes = volume::list(root).context("cannot list volumes")?;
    volumes.retain(|volume| arguments.filter.iter().all(|it| it.accepts(volume)));
    let names = volumes.into_iter().map(|volume| volume.name.to_string());
    if arguments.quiet {
        let lines: String = names.map(|name| name + "\n").collect();
        return output::print(&lines);
    }
    let mut table = vec![["DRIVER", "VOLUME NAME"].map(str::to_owned).to_vec()];
    table.extend(names.map(|name| vec!["local".to_owned(), name]));
    output::print(&human::table(&table))
}

/// Prints what was found as one JSON array, then says what was not.
pub(crate) fn inspect(arguments: &InspectArguments, root: &Path) -> Result<()> {
    let store = place::existing(root).context("cannot inspect volumes")?;
    let find = |text: &str| look_up(store.as_ref(), text);
    inspect::each(&arguments.volumes, find, |text| {
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
    fn filters_are_dockers() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let volume = Listed {
            name: "data".parse().unwrap(),
            record: VolumeRecord::new(labels, false),
            is_used: true,
        };
        for (text, expected) in [
            ("dangling=true", false),
            ("dangling=0", true),
            ("label=a", true),
            ("label=a=b", true),
            ("label=a=c", false),
            ("label=b", false),
            ("name=at", true),
            ("name=x", false),
            ("driver=local", true),
            ("driver=nfs", false),
        ] {
            let filter: Filter = text.parse().unwrap();
            assert_eq!(filter.accepts(&volume), expected, "{text}");
        }
        for text in ["dangling", "dangling=x", "bogus=1"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
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
