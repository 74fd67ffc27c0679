//! `ddock network create`.

use crate::cli::failure::Refusal;
use crate::cli::networks::PREDEFINED;
use crate::cli::output;
use crate::container::{self, ICC, MTU};
use crate::engine::place;
use crate::network::{self, Network};
use crate::options::Pair;
use crate::store::{NetworkRecord, Pool};
use anyhow::{Context, Result, bail, ensure};
use chrono::Utc;
use clap::Args;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// Where the default network is made, if it can be: no other network is put there unasked.
const DEFAULT_NETWORKS: &str = "172.29.0.0/16";

/// The name of a bridge is always made from the network's ID, so that it fits and nobody else has it.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Options of Docker's that have one value here.
const FIXED: [(&str, &str); 2] = [
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
];

/// The smallest packets that IPv4 and IPv6 promise to let through (RFC 791, RFC 8200), and the largest.
const LEAST_MTU: u32 = 68;
const LEAST_MTU6: u32 = 1280;
const MOST_MTU: u32 = 65535;

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Which driver makes it: `bridge`
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Its addresses, one range of IPv4 and one of IPv6 at most [default: a free private one of IPv4]
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
    /// The host's own address in a subnet [default: the first]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// The part of a subnet that containers get addresses of unasked [default: all of it]
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Give it addresses of IPv6 too
    #[arg(long)]
    ipv6: bool,
    /// Let nothing out of it and nothing in
    #[arg(long)]
    internal: bool,
    /// Let every container join, which is so anyway
    #[arg(long)]
    attachable: bool,
    /// Give it a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Pair>,
    /// Set an option: `com.docker.network.driver.mtu=BYTES` or `com.docker.network.bridge.enable_icc=false`
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Makes a network and prints its ID.
pub(crate) fn create(arguments: &CreateArguments, root: &Path) -> Result<()> {
    let context = || format!("cannot create the network `{}`", arguments.name);
    check(arguments)?;
    let pools = given(arguments).with_context(context)?;
    let has_ipv6 = arguments.ipv6 || pools.iter().any(|pool| pool.subnet.addr().is_ipv6());
    let options = options(&arguments.option, has_ipv6).with_context(context)?;
    let (store, _) = place::enter(root).with_context(context)?;
    let plan = |others: &[NetworkRecord]| {
        let id = new_id(others);
        Ok(NetworkRecord {
            pools: complete(pools.clone(), arguments.ipv6, &id, others)?,
            id,
            name: arguments.name.clone(),
            created: Utc::now(),
            internal: arguments.internal,
            labels: arguments.label.iter().cloned().map(Pair::into).collect(),
            options: options.clone(),
        })
    };
    let record = store
        .create_network(&arguments.name, plan)
        .with_context(context)?;
    output::print(&format!("{}\n", record.id))
}

/// Refuses what is no network of a user's. Docker's words.
fn check(arguments: &CreateArguments) -> Result<(), Refusal> {
    let (name, driver) = (arguments.name.as_str(), arguments.driver.as_str());
    let refuse = |message: String| Err(Refusal::new(message).code(1));
    if name == "default" || PREDEFINED.iter().any(|(it, _)| *it == name) {
        return refuse(format!(
            "operation is not permitted on predefined {name} network"
        ));
    }
    match driver {
        "bridge" => Ok(()),
        "host" | "null" => refuse(format!(
            "only one instance of \"{driver}\" network is allowed"
        )),
        "macvlan" | "ipvlan" | "overlay" => refuse(format!(
            "the network driver `{driver}` is not there yet; `bridge` is"
        )),
        _ => refuse(format!("plugin {driver:?} not found")),
    }
}

fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

fn options(texts: &[String], has_ipv6: bool) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for (key, value) in pairs(texts) {
        // Podman's word.
        let key = if key == "mtu" { MTU.to_owned() } else { key };
        let least = if has_ipv6 { LEAST_MTU6 } else { LEAST_MTU };
        match key.as_str() {
            MTU => ensure!(
                value
                    .parse()
                    .is_ok_and(|mtu| (least..=MOST_MTU).contains(&mtu)),
                "the option `{key}` is a number of bytes from {least} to {MOST_MTU}"
            ),
            ICC => ensure!(
                matches!(value.as_str(), "true" | "false"),
                "the option `{key}` is `true` or `false`"
            ),
            BRIDGE_NAME => bail!(
                "the option `{key}` is not there: ddock makes the bridge's name from the network's ID"
            ),
            other => {
                let fixed = FIXED.iter().find(|(name, _)| *name == other);
                let (_, only) = fixed.with_context(|| {
                    format!("there is no option `{other}` of networks; `{MTU}` and `{ICC}` are")
                })?;
                ensure!(value == *only, "the option `{other}` can only be `{only}`");
            }
        }
        options.insert(key, value);
    }
    Ok(options)
}

/// Returns what was asked for of addresses. Docker's words for what does not fit together.
fn given(arguments: &CreateArguments) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for text in &arguments.subnet {
        let subnet: IpNet = text
            .parse()
            .with_context(|| format!("Invalid subnet {text} : invalid CIDR address: {text}"))?;
        let subnet = subnet.trunc();
        let is_same = |pool: &Pool| pool.subnet.addr().is_ipv4() == subnet.addr().is_ipv4();
        ensure!(
            !pools.iter().any(is_same),
            "bridge driver doesn't support multiple subnets"
        );
        pools.push(Pool {
            subnet,
            gateway: network::first_address(subnet),
            range: None,
        });
    }
    ensure!(
        !pools.is_empty() || (arguments.gateway.is_empty() && arguments.ip_range.is_empty()),
        "every ip-range or gateway must have a corresponding subnet"
    );
    for text in &arguments.ip_range {
        let range: IpNet = text
            .parse()
            .with_context(|| format!("invalid ip-range {text}"))?;
        let range = range.trunc();
        ensure!(
            range.addr().is_ipv4(),
            "an `--ip-range` of IPv6 is not there yet: addresses of IPv6 end as those of IPv4"
        );
        let pool = pools.iter_mut().find(|pool| pool.subnet.contains(&range));
        let pool = pool.with_context(|| format!("no matching subnet for range {range}"))?;
        pool.range = Some(range);
    }
    for text in &arguments.gateway {
        let gateway: IpAddr = text
            .parse()
            .with_context(|| format!("invalid gateway {text}"))?;
        let pool = pools.iter_mut().find(|pool| pool.subnet.contains(&gateway));
        let pool = pool.with_context(|| format!("no matching subnet for gateway {gateway}"))?;
        ensure!(
            pool.subnet.network() != gateway && pool.subnet.broadcast() != gateway,
            "the gateway {gateway} is not an address of one host in {}",
            pool.subnet
        );
        pool.gateway = gateway;
    }
    for pool in &pools {
        network::check_subnet(pool.subnet, pool.range)?;
    }
    // IPv4 first, as everywhere.
    pools.sort_by_key(|pool| pool.subnet.addr().is_ipv6());
    Ok(pools)
}

/// Returns a new ID whose bridge no other network has.
fn new_id(others: &[NetworkRecord]) -> String {
    loop {
        let id = container::new_id();
        let bridge = Network::bridge_of(&id);
        if others
            .iter()
            .all(|other| Network::bridge_of(&other.id) != bridge)
        {
            return id;
        }
    }
}

/// Adds what was left open, and refuses what others have.
fn complete(
    mut pools: Vec<Pool>,
    ipv6: bool,
    id: &str,
    others: &[NetworkRecord],
) -> Result<Vec<Pool>> {
    let others: Vec<IpNet> = others
        .iter()
        .flat_map(|it| &it.pools)
        .map(|it| it.subnet)
        .collect();
    for Pool { subnet, .. } in &pools {
        let overlaps = |other: &IpNet| other.contains(subnet) || subnet.contains(other);
        ensure!(
            !others.iter().any(overlaps) && !network::is_taken(*subnet)?,
            "Pool overlaps with other one on this address space: {subnet}"
        );
    }
    let pool = |subnet: IpNet| Pool {
        subnet,
        gateway: network::first_address(subnet),
        range: None,
    };
    if !pools.iter().any(|pool| pool.subnet.addr().is_ipv4()) {
        let default: Ipv4Net = DEFAULT_NETWORKS.parse().expect("this is a network");
        let taken = others.iter().filter_map(|it| match it {
            IpNet::V4(it) => Some(*it),
            IpNet::V6(_) => None,
        });
        let taken: Vec<Ipv4Net> = taken.chain([default]).collect();
        pools.insert(0, pool(network::choose_subnet(&taken)?.into()));
    }
    if ipv6 && !pools.iter().any(|pool| pool.subnet.addr().is_ipv6()) {
        pools.push(pool(network::unique_local(id).into()));
    }
    Ok(pools)
}
