//! Which addresses a network has: chosen where the host has none, counted from the start, the first is the host's.

use crate::network::link::Mac;
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

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

/// Chooses a network that overlaps none to which this host has a way of its own, and none of `taken`.
pub(crate) fn choose(taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    choose_besides(&fs::read_to_string("/proc/net/route")?, taken)
}

fn choose_besides(routes: &str, taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    let mut used: Vec<Ipv4Net> = routes.lines().filter_map(destination).collect();
    used.extend(taken);
    candidates()
        .find(|candidate| !used.iter().any(|used| overlap(*used, *candidate)))
        .context("found no private network that this host does not use already")
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Tells whether this host has a way of its own to somewhere in the network.
pub(super) fn overlaps_a_route(net: IpNet) -> Result<bool> {
    Ok(match net {
        IpNet::V4(net) => fs::read_to_string("/proc/net/route")?
            .lines()
            .filter_map(destination)
            .any(|it| overlap(it, net)),
        // Without the file there is no IPv6.
        IpNet::V6(net) => fs::read_to_string("/proc/net/ipv6_route")
            .unwrap_or_default()
            .lines()
            .filter_map(destination6)
            .any(|it| it.contains(&net) || net.contains(&it)),
    })
}

/// Tells whether a network of containers cannot have these addresses: this host has a way of its own there, or they are
/// for the default network.
pub(crate) fn is_taken(net: IpNet) -> Result<bool> {
    let default = IpNet::V6(default6());
    Ok(default.contains(&net) || net.contains(&default) || overlaps_a_route(net)?)
}

/// Returns a unique local network (RFC 4193) for the network with this ID, whose digits are random.
pub(crate) fn unique_local(id: &str) -> Ipv6Net {
    let digits = id.get(..14).unwrap_or_default();
    let number = u128::from_str_radix(digits, 16).unwrap_or_default();
    let address = Ipv6Addr::from(0xfd << 120 | number << 64);
    Ipv6Net::new(address, 64).expect("64 is a prefix length")
}

/// Refuses a subnet that cannot serve as a network of containers.
pub(crate) fn check(subnet: IpNet, range: Option<IpNet>) -> Result<()> {
    // Addresses of IPv6 end as those of IPv4, in up to four hexadecimal digits.
    let least = if subnet.addr().is_ipv4() { 2 } else { 16 };
    ensure!(
        subnet.max_prefix_len() - subnet.prefix_len() >= least,
        "the subnet {subnet} is too small for a network of containers"
    );
    if let (IpNet::V4(subnet), Some(IpNet::V4(range))) = (subnet, range) {
        ensure!(
            places(subnet, Some(range)).next().is_some(),
            "the range {range} is not among the first {MOST} addresses of {subnet}, which are those that containers are given"
        );
    }
    Ok(())
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

/// Returns where a line of `/proc/net/ipv6_route` leads, unless it leads everywhere or to all links' own networks.
fn destination6(line: &str) -> Option<Ipv6Net> {
    let mut fields = line.split_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let prefix = u8::from_str_radix(fields.next()?, 16).ok()?;
    let net = Ipv6Net::new(address.into(), prefix).ok()?;
    (prefix > 0 && !net.addr().is_multicast()).then_some(net)
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

/// Returns the host's own address in a network, unless it is given another.
pub(crate) fn first(net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => gateway(net).into(),
        IpNet::V6(net) => gateway6(net).into(),
    }
}

/// Returns the host's own address in a network.
pub(crate) fn gateway(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + 1)
}

/// Returns the host's own address in a network.
pub(crate) fn gateway6(net: Ipv6Net) -> Ipv6Addr {
    nth6(net, 1)
}

/// Returns the numbers of the addresses that containers are given, in the whole network or in `range`.
pub(super) fn places(net: Ipv4Net, range: Option<Ipv4Net>) -> RangeInclusive<u32> {
    let number = |address: Ipv4Addr| u32::from(address).saturating_sub(net.network().into());
    // The first is the network itself, and the second usually the host's; the last reaches all.
    let last = number(net.broadcast()).saturating_sub(1).min(MOST);
    match range {
        None => 2..=last,
        Some(range) => number(range.network()).max(1)..=number(range.broadcast()).min(last),
    }
}

/// Returns the address number `n` of a network.
pub(super) fn nth(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + n)
}

/// Returns the address number `n` of a network.
pub(super) fn nth6(net: Ipv6Net, n: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()) + u128::from(n))
}

/// Returns the number of an address that was asked for. The words are Docker's.
pub(super) fn number(net: Ipv4Net, address: Ipv4Addr) -> Result<u32> {
    ensure!(net.contains(&address), elsewhere(address.into()));
    ensure!(
        address != net.network() && address != net.broadcast(),
        "Address already in use: {address}"
    );
    let number = u32::from(address) - u32::from(net.network());
    ensure!(
        number <= MOST,
        "the address {address} is not among the first {MOST} of {net}, which are those that containers can have"
    );
    Ok(number)
}

/// Refuses an address that was asked for and is not in the network.
pub(super) fn check6(net: Option<Ipv6Net>, address: Ipv6Addr) -> Result<()> {
    let is_in = net.is_some_and(|net| net.contains(&address) && net.network() != address);
    ensure!(is_in, elsewhere(address.into()));
    Ok(())
}

/// Docker's words.
fn elsewhere(address: IpAddr) -> String {
    format!("Invalid address {address}: It does not belong to any of this network's subnets")
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
        assert_eq!(
            choose_besides("", &[]).unwrap().to_string(),
            "172.29.0.0/16"
        );
        // 172.29 has a route of its own; the default route does not count.
        assert_eq!(
            choose_besides(ROUTES, &[]).unwrap().to_string(),
            "172.28.0.0/16"
        );
        let all = "vpn0\t000010AC\t0\t0001\t0\t0\t0\t0000F0FF\n".to_owned();
        assert_eq!(
            choose_besides(&all, &[]).unwrap().to_string(),
            "10.200.0.0/16"
        );
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
        assert_eq!(places(net, None), 2..=6);
        assert_eq!(number(net, Ipv4Addr::new(10, 1, 2, 6)).unwrap(), 6);
        for bad in ["10.1.2.0", "10.1.2.7", "10.1.3.2"] {
            assert!(number(net, bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert_eq!(places("10.0.0.0/8".parse().unwrap(), None), 2..=MOST);
        for (net, range, expected) in [
            ("10.0.0.0/16", "10.0.1.0/24", 256..=511),
            ("10.0.0.0/24", "10.0.0.0/25", 1..=127),
            ("10.0.0.0/24", "10.0.0.128/25", 128..=254),
        ] {
            let places = places(net.parse().unwrap(), Some(range.parse().unwrap()));
            assert_eq!(places, expected, "{net} {range}");
        }
        assert!(places("10.0.0.0/31".parse().unwrap(), None).is_empty());
        assert_eq!(gateway6(default6()).to_string(), "fd64:646f:636b:30::1");
        let id = "0123456789abcdef";
        assert_eq!(unique_local(id).to_string(), "fd01:2345:6789:abcd::/64");
        assert_eq!(mac(Ipv4Addr::new(172, 29, 0, 2)), [2, 0x42, 172, 29, 0, 2]);
    }
}
