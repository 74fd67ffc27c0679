//! `ddock network ls`.

use crate::cli::failure::Refusal;
use crate::cli::filter::{Filter, Filters, invalid};
use crate::cli::listing::{self, Listing};
use crate::cli::networks::{View, all};
use crate::cli::{failure, output};
use crate::engine::place;
use crate::template::METHOD;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

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
    /// Show so: `table`, `table TEMPLATE`, `json` or a template of Go's, such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What `network ls` can show: Docker's columns.
const LISTING: Listing = Listing {
    columns: &[
        ("CreatedAt", "CREATED AT"),
        ("Driver", "DRIVER"),
        ("ID", "NETWORK ID"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("Name", "NAME"),
        ("Scope", "SCOPE"),
    ],
    table: &["ID", "Name", "Driver", "Scope"],
    quiet: "ID",
};

const KNOWN: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Returns what tells whether a network is to be shown; `used` are the IDs of those that a container is in.
fn chosen<'a>(
    filters: &'a [Filter],
    used: &'a [String],
) -> Result<impl Fn(&View) -> bool + use<'a>, Refusal> {
    let filters = Filters::new(filters, KNOWN)?;
    let dangling = filters.boolean("dangling")?;
    for kind in filters.values("type") {
        if !matches!(kind, "custom" | "builtin") {
            return Err(invalid("type", kind));
        }
    }
    let none = BTreeMap::new();
    Ok(move |network: &View| {
        let record = network.record.as_ref();
        // One that is always there is used, so to speak.
        let is_used = record.is_none_or(|it| used.contains(&it.id));
        let kind = if record.is_some() {
            "custom"
        } else {
            "builtin"
        };
        filters.any("name", |text| network.name.contains(text))
            && filters.any("id", |digits| network.id.starts_with(digits))
            && filters.any("driver", |driver| network.driver == driver)
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |it| it == kind)
            && filters.has_labels(record.map_or(&none, |it| &it.labels))
            && dangling.is_none_or(|dangling| dangling != is_used)
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
    networks.retain(chosen(&arguments.filter, &used)?);
    output::print(&render(arguments, &networks)?)
}

fn render(arguments: &ListArguments, networks: &[View]) -> Result<String> {
    let digits = if arguments.no_trunc { 64 } else { 12 };
    let row = |it: &View| describe(it, &it.id.chars().take(digits).collect::<String>());
    let rows: Vec<Value> = networks.iter().map(row).collect();
    LISTING.render(
        arguments.format.as_deref(),
        arguments.quiet,
        LISTING.table,
        &rows,
    )
}

/// Docker's object for programs, all of texts.
fn describe(network: &View, id: &str) -> Value {
    let record = network.record.as_ref();
    let has = |is_v4: bool| {
        let pools = record.map(|it| it.pools.as_slice()).unwrap_or_default();
        let is_there = pools.iter().any(|it| it.subnet.addr().is_ipv4() == is_v4);
        (is_there || record.is_none() && network.driver == "bridge").to_string()
    };
    let none = BTreeMap::new();
    let labels = record.map_or(&none, |it| &it.labels);
    json!({
        "CreatedAt": network.created().format("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        "Driver": network.driver,
        "ID": id,
        "IPv4": has(true),
        "IPv6": has(false),
        "Internal": record.is_some_and(|it| it.internal).to_string(),
        "Labels": listing::labels(labels),
        "Name": network.name,
        "Scope": "local",
        format!("{METHOD}Label"): labels,
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

    fn shown(quiet: bool, format: Option<&str>) -> String {
        let arguments = ListArguments {
            quiet,
            no_trunc: false,
            filter: Vec::new(),
            format: format.map(str::to_owned),
        };
        render(&arguments, &networks()).unwrap()
    }

    #[test]
    fn the_list_is_dockers() {
        insta::assert_snapshot!(shown(false, None), @r"
        NETWORK ID     NAME      DRIVER    SCOPE
        17f29b073143   bridge    bridge    local
        abababababab   front     bridge    local
        4740ae6347b0   host      host      local
        140bedbf9c3f   none      null      local
        ");
        assert_eq!(shown(true, None).lines().count(), 4);
        let json = shown(false, Some("json"));
        assert_eq!(
            json.lines().nth(1).unwrap(),
            r#"{"CreatedAt":"2026-01-01 00:00:00 +0000 UTC","Driver":"bridge","ID":"abababababab","IPv4":"true","IPv6":"false","Internal":"false","Labels":"a=b","Name":"front","Scope":"local"}"#
        );
    }

    #[test]
    fn filters_are_dockers() {
        let used = ["ab".repeat(32)];
        for (texts, expected) in [
            (&["name=ron"][..], &["front"][..]),
            (&["id=abab"], &["front"]),
            (&["driver=null"], &["none"]),
            (&["label=a"], &["front"]),
            (&["label=a=c"], &[]),
            (&["dangling=true"], &[]),
            (&["dangling=false"], &["bridge", "front", "host", "none"]),
            (&["type=custom"], &["front"]),
            (&["type=builtin"], &["bridge", "host", "none"]),
            (&["scope=swarm"], &[]),
            (&["name=front", "name=host"], &["front", "host"]),
            (&["name=front", "driver=host"], &[]),
            (&["label=a", "label=c"], &[]),
        ] {
            let filters: Vec<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
            let mut networks = networks();
            networks.retain(chosen(&filters, &used).unwrap());
            let names: Vec<&str> = networks.iter().map(|it| it.name.as_str()).collect();
            assert_eq!(names, expected, "{texts:?}");
        }
        for text in ["type=x", "bogus=1", "dangling=x"] {
            let filters = [text.parse().unwrap()];
            assert!(chosen(&filters, &used).is_err(), "{text}");
        }
    }
}
