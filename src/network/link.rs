//! Links, addresses, routes and rules: one request each (rtnetlink(7)).

use crate::network::netlink::{
    ACK, CREATE, EXCLUSIVE, Message, Socket, attribute, attribute_number,
};
use anyhow::Result;
use ipnet::IpNet;
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const RTM_NEWLINKPROP: u16 = 108;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_HOST: u8 = 254;
const RT_TABLE_MAIN: u8 = 254;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
// linux/ip.h, `IPV4_DEVCONF_*`
const ACCEPT_REDIRECTS: u16 = 4;
const ACCEPT_SOURCE_ROUTE: u16 = 9;
const ROUTE_LOCALNET: u16 = 26;
// linux/if.h
const IFF_UP: u32 = 1;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// The address is ours to give: nobody needs to be asked whether it is taken, which takes a second.
const IFA_F_NODAD: u8 = 2;
// linux/fib_rules.h
const FR_ACT_TO_TBL: u8 = 1;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;

/// `lo` is the first link of every network namespace.
const LOOPBACK: u32 = 1;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Returns a hardware address as everybody writes it.
pub(crate) fn format_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) is_up: bool,
    pub(super) mtu: u32,
    /// `ip link set NAME alias TEXT`
    pub(super) alias: String,
}

/// Looks a link up by its name.
pub(super) fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let what = format!("looking at the link `{name}`");
    let message = Message::new(RTM_GETLINK, 0, &header(0, 0), what).text(IFLA_IFNAME, name);
    let Some(answer) = socket.get(message, Errno::NODEV)? else {
        return Ok(None);
    };
    let word = |at: usize| {
        let bytes = answer.get(at..at + 4).and_then(|it| it.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    };
    let attributes = answer.get(16..).unwrap_or_default();
    let alias = attribute(attributes, IFLA_IFALIAS).unwrap_or_default();
    Ok(Some(Link {
        index: word(4),
        is_up: word(8) & IFF_UP != 0,
        mtu: attribute_number(attributes, IFLA_MTU).unwrap_or_default(),
        alias: String::from_utf8_lossy(alias)
            .trim_end_matches('\0')
            .to_owned(),
    }))
}

/// `struct ifinfomsg`
fn header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    // Which flags are meant.
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

pub(super) fn add_bridge(name: &str, mac: Mac) -> Message {
    let flags = ACK | CREATE | EXCLUSIVE;
    let what = format!("making the bridge `{name}`");
    Message::new(RTM_NEWLINK, flags, &header(0, 0), what)
        .text(IFLA_IFNAME, name)
        .put(IFLA_ADDRESS, &mac)
        .nest(IFLA_LINKINFO, |it| it.text(IFLA_INFO_KIND, "bridge"))
}

pub(super) fn bring_up(index: u32, name: &str) -> Message {
    let what = format!("bringing the link `{name}` up");
    Message::new(RTM_NEWLINK, ACK, &header(index, IFF_UP), what)
}

pub(super) fn bring_up_named(name: &str) -> Message {
    bring_up(0, name).text(IFLA_IFNAME, name)
}

/// Has the host take no redirects by a link, no packets that say themselves how they are routed, and none that are for
/// its loopback, whatever the host says of links in general.
pub(super) fn distrust(name: &str) -> Message {
    let what = format!("keeping containers from the host by the link `{name}`");
    let family = u16::try_from(libc::AF_INET).expect("both families are small numbers");
    let settings = [ACCEPT_REDIRECTS, ACCEPT_SOURCE_ROUTE, ROUTE_LOCALNET];
    let off = |conf: Message| settings.iter().fold(conf, |conf, it| conf.number(*it, 0));
    Message::new(RTM_NEWLINK, ACK, &header(0, 0), what)
        .text(IFLA_IFNAME, name)
        .nest(IFLA_AF_SPEC, |spec| {
            spec.nest(family, |family| family.nest(IFLA_INET_CONF, off))
        })
}

/// Brings a bridge up, and gives it an alias and the size of its packets.
///
/// A size that a bridge is made with is its ports' as soon as one of these goes; one that it is given later stays.
pub(super) fn bring_up_as(index: u32, name: &str, alias: &str, mtu: u32) -> Message {
    bring_up(index, name)
        .put(IFLA_IFALIAS, alias.as_bytes())
        .number(IFLA_MTU, mtu)
}

pub(super) fn delete(name: &str) -> Message {
    let what = format!("removing the link `{name}`");
    Message::new(RTM_DELLINK, ACK, &header(0, 0), what).text(IFLA_IFNAME, name)
}

/// The end of a pair of links that a container has.
pub(super) struct Inside<'a> {
    pub(super) namespace: BorrowedFd<'a>,
    pub(super) name: &'a str,
    pub(super) mac: Mac,
}

/// Makes a pair of links: one is a port of the bridge, the other is inside; neither is up.
///
/// Refused with EEXIST if there is a link called `port`.
pub(super) fn add_pair(port: &str, bridge: u32, mtu: u32, inside: &Inside<'_>) -> Message {
    let namespace = inside.namespace.as_raw_fd().cast_unsigned();
    let flags = ACK | CREATE | EXCLUSIVE;
    let what = format!("making the link `{port}` (veth)");
    let peer = |peer: Message| {
        // Not up yet: the kernel brings an end up only when there is another.
        peer.raw(&header(0, 0))
            .text(IFLA_IFNAME, inside.name)
            .put(IFLA_ADDRESS, &inside.mac)
            .number(IFLA_MTU, mtu)
            .number(IFLA_NET_NS_FD, namespace)
    };
    Message::new(RTM_NEWLINK, flags, &header(0, 0), what)
        .text(IFLA_IFNAME, port)
        .number(IFLA_MASTER, bridge)
        .number(IFLA_MTU, mtu)
        .nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth")
                .nest(IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, peer))
        })
}

/// Gives a link a further name. Refused with EEXIST if a link has it.
pub(super) fn name_too(link: &str, name: &str) -> Message {
    let what = format!("naming the link `{link}`");
    let flags = ACK | CREATE | EXCLUSIVE;
    Message::new(RTM_NEWLINKPROP, flags, &header(0, 0), what)
        .text(IFLA_IFNAME, link)
        .nest(IFLA_PROP_LIST, |list| list.text(IFLA_ALT_IFNAME, name))
}

/// Keeps a port of a bridge from the other ports that this is said of.
pub(super) fn isolate(port: &str) -> Message {
    let what = format!("isolating the link `{port}`");
    Message::new(RTM_NEWLINK, ACK, &header(0, 0), what)
        .text(IFLA_IFNAME, port)
        .nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge")
                .nest(IFLA_INFO_SLAVE_DATA, |data| {
                    data.put(IFLA_BRPORT_ISOLATED, &[1])
                })
        })
}

fn family(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    u8::try_from(family).expect("both families are small numbers")
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Gives a link an address, and with it the route to its network.
pub(super) fn add_address(link: u32, address: IpNet) -> Message {
    let mut header = vec![
        family(address.addr()),
        address.prefix_len(),
        IFA_F_NODAD,
        0, // everywhere
    ];
    header.extend(link.to_ne_bytes());
    let what = format!("adding the address {address}");
    let message = Message::new(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &header, what)
        .put(IFA_LOCAL, &bytes(address.addr()))
        .put(IFA_ADDRESS, &bytes(address.addr()));
    match address {
        IpNet::V4(_) => message.put(IFA_BROADCAST, &bytes(address.broadcast())),
        IpNet::V6(_) => message,
    }
}

/// `struct rtmsg`
fn route_header(family: u8, table: u8, scope: u8, kind: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4] = table;
    header[5] = RTPROT_BOOT;
    header[6] = scope;
    header[7] = kind;
    header
}

/// Sends everything that has no nearer route to `gateway`.
pub(super) fn add_default_route(link: u32, gateway: IpAddr) -> Message {
    let header = route_header(family(gateway), RT_TABLE_MAIN, 0, RTN_UNICAST);
    let what = format!("adding the default route through {gateway}");
    Message::new(RTM_NEWROUTE, ACK | CREATE | EXCLUSIVE, &header, what)
        .put(RTA_GATEWAY, &bytes(gateway))
        .number(RTA_OIF, link)
}

/// Takes every address of `any`'s family for the host's own, in the routing table `table`.
pub(super) fn add_local_route(any: IpAddr, table: u8) -> Message {
    let header = route_header(family(any), table, RT_SCOPE_HOST, RTN_LOCAL);
    let what = format!("adding a route to the table {table}");
    Message::new(RTM_NEWROUTE, ACK | CREATE | EXCLUSIVE, &header, what)
        .number(RTA_TABLE, table.into())
        .number(RTA_OIF, LOOPBACK)
}

/// Has packets of `any`'s family that bear `mark` routed by `table`.
pub(super) fn add_rule(any: IpAddr, mark: u32, table: u8) -> Message {
    let mut header = [0; 12];
    header[0] = family(any);
    header[4] = table;
    header[7] = FR_ACT_TO_TBL;
    let what = format!("adding a routing rule for the table {table}");
    Message::new(RTM_NEWRULE, ACK | CREATE | EXCLUSIVE, &header, what)
        .number(FRA_FWMARK, mark)
        .number(FRA_TABLE, table.into())
}
