//! Which addresses a network has: chosen where the host has none, counted from the start, the first is the host's.

use crate::network::link::Mac;
use anyhow::{Context, Result, ensure};
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many addresses of a network are given away at most: as many as four hexadecimal digits tell apart.
const MOST: u32 = 0xfffe;

/// The default network of containers: a unique local prefix (RFC 4193) that spells `ddock0`.
pub(super) fn default6() -> Ipv6Net {
    let address = Ipv6Addr::new(0xfd64, 0x646f, 0x636b, 0x0030, 0, 0, 0, 0);
    Ipv6Net::new(address, 64).expect("64 is a prefix length")
}

/// Private networks (RFC 1918) that few use, in the order in which they are tried.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let net = |a, b, c, prefix| {
        Ipv4Net::new(Ipv4Addr::new(a, b, c, 0), prefix).expect("the prefix is at most 32")
    };
    let first = [29, 28, 30, 27, 26, 25, 24, 23, 22, 21, 20];
    let first = first.into_iter().map(move |b| net(172, b, 0, 16));
    let second = (200..=255).map(move |b| net(10, b, 0, 16));
    let third = (200..=255).map(move |c| net(192, 168, c, 24));
    first.chain(second).chain(third)
}

/// Chooses a network that overlaps none to which the routing table `routes` (`/proc/net/route`) has a way of its own.
pub(crate) fn choose(routes: &str) -> Result<Ipv4Net> {
    choose_besides(routes, &[])
}

/// Chooses a network as [`choose`] does, and none of `taken`.
pub(crate) fn choose_besides(routes: &str, taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    let mut used: Vec<Ipv4Net> = routes.lines().filter_map(destination).collect();
    used.extend(taken);
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    candidates()
        .find(|candidate| !used.iter().any(|used| overlaps(used, candidate)))
        .context("found no private network that this host does not use already")
}

/// Returns where a line of `/proc/net/route` leads, unless it leads everywhere.
fn destination(line: &str) -> Option<Ipv4Net> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // In hexadecimal digits, in the machine's own order (proc(5)).
    let address = |at: usize| {
        let number = u32::from_str_radix(fields.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(u32::from_be(number)))
    };
    let net = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
    (net.prefix_len() > 0).then_some(net)
}

/// Returns the name of the link that the routing table's default route leaves by.
pub(super) fn uplink(routes: &str) -> Option<&str> {
    routes.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"))
            .then(|| fields[0])
    })
}

/// Returns the first address in `/proc/net/fib_trie` that is neither loopback nor reaches all.
pub(super) fn own_address(table: &str) -> Option<Ipv4Addr> {
    let lines = table.lines().zip(table.lines().skip(1));
    let own = lines.filter(|(_, next)| next.trim() == "/32 host LOCAL");
    let mut addresses = own.filter_map(|(line, _)| line.trim().strip_prefix("|-- ")?.parse().ok());
    addresses.find(|address: &Ipv4Addr| !address.is_loopback())
}

/// Returns the host's own address in a network.
pub(crate) fn gateway(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + 1)
}

/// Returns the host's own address in a network.
pub(crate) fn gateway6(net: Ipv6Net) -> Ipv6Addr {
    nth6(net, 1)
}

/// Returns how many addresses the network has for containers, counted from 2.
pub(super) fn room(net: Ipv4Net) -> u32 {
    let hosts = 1_u32.checked_shl(32 - u32::from(net.prefix_len()));
    // The first is the network itself, the second the host's, the last reaches all.
    hosts.map_or(MOST, |hosts| hosts.saturating_sub(3).min(MOST - 1))
}

/// Returns the address number `n` of a network.
pub(super) fn nth(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + n)
}

/// Returns the address number `n` of a network.
pub(super) fn nth6(net: Ipv6Net, n: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()) + u128::from(n))
}

/// Returns the number of an address that was asked for.
pub(super) fn number(net: Ipv4Net, address: Ipv4Addr) -> Result<u32> {
    ensure!(
        net.contains(&address),
        "the address {address} is not in the network {net}"
    );
    let number = u32::from(address) - u32::from(net.network());
    ensure!(
        (2..2 + room(net)).contains(&number),
        "the address {address} of the network {net} is not for containers"
    );
    Ok(number)
}

/// Returns the hardware address that belongs to an address: whoever has the one later has the other too, and
/// nobody's memory of it is wrong.
pub(crate) fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    // The first bit of 2 says that no maker gave it out.
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        vpn0\t00001DAC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn a_network_that_the_host_knows_is_not_chosen() {
        assert_eq!(choose("").unwrap().to_string(), "172.29.0.0/16");
        // 172.29 has a route of its own; the default route does not count.
        assert_eq!(choose(ROUTES).unwrap().to_string(), "172.28.0.0/16");
        let all = "vpn0\t000010AC\t0\t0001\t0\t0\t0\t0000F0FF\n".to_owned();
        assert_eq!(choose(&all).unwrap().to_string(), "10.200.0.0/16");
        let taken = ["172.29.4.0/24".parse().unwrap()];
        assert_eq!(
            choose_besides("", &taken).unwrap().to_string(),
            "172.28.0.0/16"
        );
        assert_eq!(uplink(ROUTES), Some("eth0"));
        assert_eq!(uplink(""), None);
    }

    #[test]
    fn addresses_are_counted_from_the_hosts_own() {
        let net: Ipv4Net = "10.1.2.0/29".parse().unwrap();
        assert_eq!(gateway(net), Ipv4Addr::new(10, 1, 2, 1));
        assert_eq!(room(net), 5);
        assert_eq!(number(net, Ipv4Addr::new(10, 1, 2, 6)).unwrap(), 6);
        for bad in ["10.1.2.0", "10.1.2.1", "10.1.2.7", "10.1.3.2"] {
            assert!(number(net, bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert_eq!(room("10.0.0.0/8".parse().unwrap()), 0xfffd);
        assert_eq!(room("10.0.0.0/31".parse().unwrap()), 0);
        assert_eq!(gateway6(default6()).to_string(), "fd64:646f:636b:30::1");
        assert_eq!(mac(Ipv4Addr::new(172, 29, 0, 2)), [2, 0x42, 172, 29, 0, 2]);
    }
}
