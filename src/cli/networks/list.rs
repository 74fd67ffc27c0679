//! `ddock network ls`.

use crate::cli::networks::{View, all};
use crate::cli::prune_filter::has_label;
use crate::cli::{failure, output};
use crate::engine::place;
use crate::human;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::mem::discriminant;
use std::path::Path;
use std::str::FromStr;

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Show only what fits: name=TEXT, id=DIGITS, driver=NAME, label=KEY[=VALUE], dangling=true, type=custom|builtin
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// In which form: `table`, or `json` for one object a line
    #[arg(long, value_name = "FORM", default_value = "table", value_enum)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Name(String),
    Id(String),
    Driver(String),
    Label(String, Option<String>),
    Dangling(bool),
    Builtin(bool),
    Scope(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let owned = value.to_owned();
        match (key, value) {
            ("name", _) => Ok(Self::Name(owned)),
            ("id", _) => Ok(Self::Id(owned)),
            ("driver", _) => Ok(Self::Driver(owned)),
            ("label", _) => Ok(match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            }),
            ("dangling", "true" | "1") => Ok(Self::Dangling(true)),
            ("dangling", "false" | "0") => Ok(Self::Dangling(false)),
            ("dangling", _) => Err("`dangling` is `true` or `false`".to_owned()),
            ("type", "custom") => Ok(Self::Builtin(false)),
            ("type", "builtin") => Ok(Self::Builtin(true)),
            ("type", _) => Err("`type` is `custom` or `builtin`".to_owned()),
            ("scope", _) => Ok(Self::Scope(owned)),
            _ => Err(format!("there is no filter `{key}`")),
        }
    }
}

impl Filter {
    fn accepts(&self, network: &View, used: &[String]) -> bool {
        let record = network.record.as_ref();
        match self {
            Self::Name(text) => network.name.contains(text),
            Self::Id(digits) => network.id.starts_with(digits),
            Self::Driver(driver) => network.driver == driver,
            Self::Label(key, value) => {
                record.is_some_and(|it| has_label(&it.labels, key, value.as_deref()))
            }
            Self::Dangling(dangling) => {
                record.is_some_and(|it| used.contains(&it.id) != *dangling)
                    || record.is_none() && !dangling
            }
            Self::Builtin(builtin) => record.is_none() == *builtin,
            Self::Scope(scope) => scope == "local",
        }
    }
}

/// Tells whether a network passes: of several filters of one kind one is enough, but all labels are needed. As Docker's.
fn passes(filters: &[Filter], network: &View, used: &[String]) -> bool {
    filters.iter().all(|filter| {
        let is_same = |other: &&Filter| discriminant(*other) == discriminant(filter);
        let is_label = matches!(filter, Filter::Label(..));
        let mut alike = filters.iter().filter(is_same);
        filter.accepts(network, used) || !is_label && alike.any(|it| it.accepts(network, used))
    })
}

/// Lists networks by name.
pub(crate) fn list(arguments: &ListArguments, root: &Path) -> Result<()> {
    let context = "cannot list networks";
    let (mut defined, mut used) = (Vec::new(), Vec::new());
    if let Some(store) = place::existing(root).context(context)? {
        defined = store.networks().context(context)?;
        store
            .damaged_networks()
            .context(context)?
            .iter()
            .for_each(failure::tell);
        used = store.networks_in_use().context(context)?;
    }
    let mut networks = all(defined);
    networks.retain(|network| passes(&arguments.filter, network, &used));
    output::print(&render(arguments, &networks))
}

fn render(arguments: &ListArguments, networks: &[View]) -> String {
    let id = |network: &View| {
        let digits = if arguments.no_trunc { 64 } else { 12 };
        network.id.chars().take(digits).collect::<String>()
    };
    if arguments.quiet {
        return networks.iter().map(|it| id(it) + "\n").collect();
    }
    if arguments.format == Format::Json {
        let line = |it| describe(it, &id(it)).to_string() + "\n";
        return networks.iter().map(line).collect();
    }
    let header = ["NETWORK ID", "NAME", "DRIVER", "SCOPE"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(networks.iter().map(|network| {
        let words = [&network.name, network.driver, "local"];
        let words = words.map(str::to_owned).into_iter();
        [id(network)].into_iter().chain(words).collect()
    }));
    human::table(&table)
}

/// Docker's object for programs, all of texts.
fn describe(network: &View, id: &str) -> serde_json::Value {
    let record = network.record.as_ref();
    let has = |is_v4: bool| {
        let pools = record.map(|it| it.pools.as_slice()).unwrap_or_default();
        let is_there = pools.iter().any(|it| it.subnet.addr().is_ipv4() == is_v4);
        (is_there || record.is_none() && network.driver == "bridge").to_string()
    };
    let labels = record.map(|it| &it.labels).into_iter().flatten();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    json!({
        "CreatedAt": network.created().format("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        "Driver": network.driver,
        "ID": id,
        "IPv4": has(true),
        "IPv6": has(false),
        "Internal": record.is_some_and(|it| it.internal).to_string(),
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": "local",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NetworkRecord, Pool};
    use std::collections::BTreeMap;

    fn networks() -> Vec<View> {
        let pool = |subnet: &str, gateway: &str| Pool {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            range: None,
        };
        all(vec![NetworkRecord {
            id: "ab".repeat(32),
            name: "front".to_owned(),
            created: "2026-01-01T00:00:00Z".parse().unwrap(),
            pools: vec![pool("10.5.0.0/24", "10.5.0.1")],
            internal: false,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            options: BTreeMap::new(),
        }])
    }

    fn shown(quiet: bool, format: Format) -> String {
        let arguments = ListArguments {
            quiet,
            no_trunc: false,
            filter: Vec::new(),
            format,
        };
        render(&arguments, &networks())
    }

    #[test]
    fn the_list_is_dockers() {
        insta::assert_snapshot!(shown(false, Format::Table), @r"
        NETWORK ID     NAME      DRIVER    SCOPE
        17f29b073143   bridge    bridge    local
        abababababab   front     bridge    local
        4740ae6347b0   host      host      local
        140bedbf9c3f   none      null      local
        ");
        assert_eq!(shown(true, Format::Table).lines().count(), 4);
        let json = shown(false, Format::Json);
        assert_eq!(
            json.lines().nth(1).unwrap(),
            r#"{"CreatedAt":"2026-01-01 00:00:00 +0000 UTC","Driver":"bridge","ID":"abababababab","IPv4":"true","IPv6":"false","Internal":"false","Labels":"a=b","Name":"front","Scope":"local"}"#
        );
    }

    #[test]
    fn filters_are_dockers() {
        let used = ["ab".repeat(32)];
        for (text, expected) in [
            ("name=ron", &["front"][..]),
            ("id=abab", &["front"]),
            ("driver=null", &["none"]),
            ("label=a", &["front"]),
            ("label=a=c", &[]),
            ("dangling=true", &[]),
            ("dangling=false", &["bridge", "front", "host", "none"]),
            ("type=custom", &["front"]),
            ("type=builtin", &["bridge", "host", "none"]),
            ("scope=swarm", &[]),
        ] {
            let filter: Filter = text.parse().unwrap();
            let networks = networks();
            let found = networks.iter().filter(|it| filter.accepts(it, &used));
            let names: Vec<&str> = found.map(|it| it.name.as_str()).collect();
            assert_eq!(names, expected, "{text}");
        }
        let filters = |texts: &[&str]| -> Vec<Filter> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for (texts, expected) in [
            (&["name=front", "name=host"][..], &["front", "host"][..]),
            (&["name=front", "driver=host"], &[]),
            (&["label=a", "label=c"], &[]),
        ] {
            let (filters, networks) = (filters(texts), networks());
            let found = networks.iter().filter(|it| passes(&filters, it, &used));
            let names: Vec<&str> = found.map(|it| it.name.as_str()).collect();
            assert_eq!(names, expected, "{texts:?}");
        }
        for text in ["name", "type=x", "bogus=1", "dangling=x"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
