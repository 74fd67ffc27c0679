//! The host's forwarding: turned on for containers where it is off, which is to open the host to nobody else.
//!
//! What closes it to others is there before (`nftables::others`). A host that forwarded already goes on as it did.

use crate::network::nftables::{Families, Family};
use crate::network::{settings, subnet};
use anyhow::Result;
use fs_err as fs;
use std::net::Ipv6Addr;

const ROUTES6: &str = "/proc/net/ipv6_route";
/// Flags of a default route that an advertisement told of: `RTF_ADDRCONF | RTF_DEFAULT` (`linux/ipv6_route.h`).
const LEARNT: u32 = 0x0005_0000;

fn file(family: Family) -> &'static str {
    match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

/// Returns the families that the host does not forward, and has to for a network with or without IPv6.
pub(super) fn lacking(v6: bool) -> Result<Families> {
    let is_off = |family| Ok::<_, anyhow::Error>(fs::read_to_string(file(family))?.trim() == "0");
    Ok(Families {
        v4: is_off(Family::V4)?,
        v6: v6 && has_default_route6()? && is_off(Family::V6)?,
    })
}

/// Has the host forward these families, and says so. It is closed to others.
pub(super) fn turn_on(families: Families, notes: &mut Vec<String>) -> Result<()> {
    if families.v6 {
        keep_learnt_routes()?;
    }
    for family in families.each() {
        let path = file(family);
        settings::write(path, "1")?;
        let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
        notes.push(format!(
            "this host forwards packets from now on, those from and to containers only (`{name}` was 0)"
        ));
    }
    Ok(())
}

/// Has the host go on listening to the routers that told it of its way out: one that forwards stops to, and forgets
/// what it heard, unless told otherwise for the link (ip-sysctl.rst, `accept_ra`).
fn keep_learnt_routes() -> Result<()> {
    let table = fs::read_to_string(ROUTES6)?;
    for route in default_routes(&table).filter(|route| route.flags & LEARNT == LEARNT) {
        let accepts = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", route.link);
        if fs::read_to_string(&accepts)?.trim() == "1" {
            settings::write(&accepts, "2")?;
        }
    }
    Ok(())
}

/// Tells whether links have IPv6 here.
pub(super) fn has_ipv6() -> bool {
    // Without the file there is no IPv6 at all.
    fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        .is_ok_and(|text| text.trim() == "0")
}

/// Tells whether this host has a way out itself.
pub(crate) fn has_way_out() -> Result<bool> {
    let table = fs::read_to_string("/proc/net/route")?;
    Ok(subnet::uplink(&table).is_some() || has_ipv6() && has_default_route6()?)
}

fn has_default_route6() -> Result<bool> {
    let table = fs::read_to_string(ROUTES6)?;
    Ok(default_routes(&table).next().is_some())
}

struct Route<'a> {
    link: &'a str,
    flags: u32,
}

/// Returns the default routes of a table like `/proc/net/ipv6_route`.
fn default_routes(table: &str) -> impl Iterator<Item = Route<'_>> {
    // Destination and prefix length are zero; routes of `lo` only say that there is none.
    let any = Ipv6Addr::UNSPECIFIED.octets();
    let any = any.map(|byte| format!("{byte:02x}")).concat();
    table.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, .., flags, link] = fields[..] else {
            return None;
        };
        let is_way_out = destination == any && length == "00" && link != "lo";
        let flags = u32::from_str_radix(flags, 16).ok()?;
        is_way_out.then_some(Route { link, flags })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others_and_learnt_ones_from_given_ones() {
        let zero = "0".repeat(32);
        let via = "fe800000000000000000000000000001";
        let line = |destination: &str, length: &str, flags: &str, link: &str| {
            format!(
                "{destination} {length} {zero} 00 {via} 00000400 00000001 00000000 {flags} {link}\n"
            )
        };
        let table = [
            line(via, "40", "00000001", "eth0"),
            line(&zero, "00", "00450003", "eth0"),
            line(&zero, "00", "00000003", "eth1"),
            line(&zero, "00", "00200200", "lo"),
            "cut off\n".to_owned(),
        ]
        .concat();
        let found: Vec<_> = default_routes(&table)
            .map(|route| (route.link, route.flags & LEARNT == LEARNT))
            .collect();
        assert_eq!(found, [("eth0", true), ("eth1", false)]);
    }
}
