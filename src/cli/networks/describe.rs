//! `ddock network inspect`.

use crate::cli::inspect;
use crate::cli::networks::{View, all, endpoint_id};
use crate::container::{self, Record};
use crate::engine::place;
use crate::human;
use crate::network::{Network, format_mac};
use crate::store::{Store, unique};
use anyhow::{Context, Result};
use chrono::SecondsFormat;
use clap::Args;
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Show so: `json`, or a template of Go's such as `{{.Name}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Which networks: names, IDs or the beginnings of IDs
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Prints what was found as one JSON array, then says what was not.
pub(crate) fn inspect(arguments: &InspectArguments, root: &Path) -> Result<()> {
    let store = place::existing(root).context("cannot inspect networks")?;
    let find = |text: &str| look_up(store.as_ref(), text).context("cannot inspect networks");
    let format = arguments.format.as_deref();
    inspect::each(&arguments.networks, format, find, |text| {
        format!("error: network {} not found\n", human::printable(text))
    })
}

/// Returns the description of a network; `None` if it is not there.
pub(crate) fn look_up(store: Option<&Store>, text: &str) -> Result<Option<Value>> {
    let defined = store.map_or_else(|| Ok(Vec::new()), Store::networks)?;
    let networks = all(defined);
    let Some(network) = find(&networks, text)? else {
        return Ok(None);
    };
    let running = store.map_or_else(|| Ok(Vec::new()), running)?;
    Ok(Some(describe(network, &running, &default_pools(network)?)))
}

fn find<'a>(networks: &'a [View], text: &str) -> Result<Option<&'a View>> {
    if let Some(found) = networks.iter().find(|it| it.name == text) {
        return Ok(Some(found));
    }
    let begins = |it: &&View| !text.is_empty() && it.id.starts_with(text);
    unique(networks.iter().collect(), text, begins)
}

/// Returns the containers that are in networks now, also those of which nobody has noticed yet that they ended.
fn running(store: &Store) -> Result<Vec<Record>> {
    let mut running = Vec::new();
    for record in container::records(store)? {
        if !record.networks.is_empty() && container::is_running(store, &record)? {
            running.push(record);
        }
    }
    Ok(running)
}

/// Returns the addresses of the default network, which are chosen when it is made.
fn default_pools(network: &View) -> Result<Vec<IpNet>> {
    if network.record.is_some() || network.driver != "bridge" {
        return Ok(Vec::new());
    }
    Network::predefined().made()
}

/// Returns Docker's description of a network (Engine API, `NetworkInspect`), in Docker's order.
fn describe(network: &View, running: &[Record], default_pools: &[IpNet]) -> Value {
    let record = network.record.as_ref();
    let pools = record.map(|it| it.pools.as_slice()).unwrap_or_default();
    let defined = pools.iter().map(|pool| {
        let mut config = json!({ "Subnet": pool.subnet });
        if let Some(range) = pool.range {
            config["IPRange"] = json!(range);
        }
        config["Gateway"] = json!(pool.gateway);
        config
    });
    let default = default_pools.iter().map(
        |subnet| json!({ "Subnet": subnet, "Gateway": crate::network::first_address(*subnet) }),
    );
    let config: Vec<Value> = defined.chain(default).collect();
    let is_default = record.is_none() && network.driver == "bridge";
    let has =
        |is_v4: bool| is_default || pools.iter().any(|it| it.subnet.addr().is_ipv4() == is_v4);
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": has(true),
        "EnableIPv6": has(false),
        "IPAM": { "Driver": "default", "Options": {}, "Config": config },
        "Internal": record.is_some_and(|it| it.internal),
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers(network, running),
        "Options": record.map(|it| it.options.clone()).unwrap_or_default(),
        "Labels": record.map(|it| it.labels.clone()).unwrap_or_default(),
    })
}

fn containers(network: &View, running: &[Record]) -> Map<String, Value> {
    let mut members = Map::new();
    for container in running {
        let Some(attachment) = container
            .networks
            .iter()
            .find(|it| it.network == network.name)
        else {
            continue;
        };
        let v6 = attachment.address6.map(|it| it.to_string());
        let member = json!({
            "Name": container.name,
            "EndpointID": endpoint_id(&network.id, &container.id),
            "MacAddress": format_mac(attachment.mac),
            "IPv4Address": attachment.address.to_string(),
            "IPv6Address": v6.unwrap_or_default(),
        });
        members.insert(container.id.clone(), member);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NetworkRecord, Pool};
    use std::collections::BTreeMap;

    #[test]
    fn the_description_is_dockers() {
        let record = NetworkRecord {
            id: "ab".repeat(32),
            name: "front".to_owned(),
            created: "2026-01-01T00:00:00Z".parse().unwrap(),
            pools: vec![Pool {
                subnet: "10.5.0.0/16".parse().unwrap(),
                gateway: "10.5.0.1".parse().unwrap(),
                range: Some("10.5.1.0/24".parse().unwrap()),
            }],
            internal: true,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            options: BTreeMap::new(),
        };
        let networks = all(vec![record]);
        let found = find(&networks, "abab").unwrap().unwrap();
        insta::assert_snapshot!(inspect::render(&[describe(found, &[], &[])]), @r#"
        [
            {
                "Name": "front",
                "Id": "abababababababababababababababababababababababababababababababab",
                "Created": "2026-01-01T00:00:00Z",
                "Scope": "local",
                "Driver": "bridge",
                "EnableIPv4": true,
                "EnableIPv6": false,
                "IPAM": {
                    "Driver": "default",
                    "Options": {},
                    "Config": [
                        {
                            "Subnet": "10.5.0.0/16",
                            "IPRange": "10.5.1.0/24",
                            "Gateway": "10.5.0.1"
                        }
                    ]
                },
                "Internal": true,
                "Attachable": false,
                "Ingress": false,
                "ConfigFrom": {
                    "Network": ""
                },
                "ConfigOnly": false,
                "Containers": {},
                "Options": {},
                "Labels": {
                    "a": "b"
                }
            }
        ]
        "#);
        assert_eq!(find(&networks, "nope").unwrap(), None);
        let default = find(&networks, "bridge").unwrap().unwrap();
        let pools = ["172.29.0.0/16".parse().unwrap()];
        let config = &describe(default, &[], &pools)["IPAM"]["Config"][0];
        assert_eq!(config["Gateway"], "172.29.0.1");
    }
}
