//! The steps of a rule of nftables, as the kernel's expressions.

use crate::network::netlink::Message;
use std::net::SocketAddrV4;

/// All our bridges are named like this.
const BRIDGES: &str = "ddock";

pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// The register that every expression here writes and reads: 16 bytes.
const REGISTER: u32 = 1;
/// The one behind it: a key of two links' names fills both.
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
pub(super) const VERDICT_DROP: u32 = 0;
pub(super) const VERDICT_ACCEPT: u32 = 1;

/// One step of a rule.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    /// The packet came in by a link whose name is in this set, or not.
    InputAmong(&'a str, Is),
    /// The packet leaves by a link whose name is in this set, or not.
    OutputAmong(&'a str, Is),
    /// The packet came in by a bridge of ours.
    InputIsOurs,
    /// The packet leaves by a bridge of ours.
    OutputIsOurs,
    /// The packet came in by a bridge.
    InputIsBridge,
    /// The packet leaves by a bridge.
    OutputIsBridge,
    /// The packet is of this family (`NFPROTO_*`), or not.
    Family(u8, Is),
    /// The packet is sent there by this protocol.
    Destination(u8, SocketAddrV4),
    /// The packet answers one that was let through, or belongs to it.
    Answers,
    /// The packet is for a socket that speaks with an address not the host's.
    ForTransparentSocket,
    Mark(u32),
    Masquerade,
    /// The packet goes to this port instead, at the same address of IPv4.
    RedirectTo(u16),
    Verdict(u32),
    /// What this map says of the links by which the packet came in and leaves, if it says something.
    VerdictOn(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Equal = 0,
    Different = 1,
}

impl Step<'_> {
    pub(super) fn put(self, rule: Message) -> Message {
        match self {
            Self::InputAmong(set, is) => among(meta(rule, META_IIFNAME), set, is),
            Self::OutputAmong(set, is) => among(meta(rule, META_OIFNAME), set, is),
            // As many bytes as are compared: the rest may be anything.
            Self::InputIsOurs => compare(meta(rule, META_IIFNAME), Is::Equal, BRIDGES.as_bytes()),
            Self::OutputIsOurs => compare(meta(rule, META_OIFNAME), Is::Equal, BRIDGES.as_bytes()),
            Self::InputIsBridge => compare(meta(rule, META_IIFKIND), Is::Equal, &name("bridge")),
            Self::OutputIsBridge => compare(meta(rule, META_OIFKIND), Is::Equal, &name("bridge")),
            Self::Family(family, is) => compare(meta(rule, META_NFPROTO), is, &[family]),
            Self::Destination(protocol, address) => destination(rule, protocol, address),
            Self::Answers => answers(rule),
            Self::ForTransparentSocket => {
                let rule = expression(rule, "socket", |it| it.big(1, 0).big(2, REGISTER));
                compare(rule, Is::Equal, &[1])
            }
            Self::Mark(mark) => {
                let rule = immediate(rule, &mark.to_ne_bytes());
                expression(rule, "meta", |it| it.big(2, META_MARK).big(3, REGISTER))
            }
            Self::Masquerade => expression(rule, "masq", |it| it),
            Self::RedirectTo(port) => {
                let rule = immediate(rule, &port.to_be_bytes());
                let family = NFPROTO_IPV4.into();
                expression(rule, "nat", |it| {
                    it.big(1, NFT_NAT_DNAT).big(2, family).big(5, REGISTER)
                })
            }
            Self::Verdict(code) => expression(rule, "immediate", |it| {
                it.big(1, VERDICT_REGISTER)
                    .nest(2, |data| data.nest(2, |verdict| verdict.big(1, code)))
            }),
            Self::VerdictOn(map) => {
                let rule = load(meta(rule, META_IIFNAME), META_OIFNAME, SECOND_REGISTER);
                expression(rule, "lookup", |it| {
                    it.text(1, map).big(2, REGISTER).big(3, VERDICT_REGISTER)
                })
            }
        }
    }
}

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_IIFKIND: u32 = 26;
const META_OIFKIND: u32 = 27;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const NFT_NAT_DNAT: u32 = 1;

/// `IPPROTO_UDP`
pub(super) const UDP: u8 = 17;
/// `IPPROTO_TCP`
pub(super) const TCP: u8 = 6;

fn expression(rule: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    rule.nest(NFTA_LIST_ELEM, |element| {
        element
            .text(NFTA_EXPR_NAME, name)
            .nest(NFTA_EXPR_DATA, data)
    })
}

/// Loads a fact about the packet.
fn meta(rule: Message, key: u32) -> Message {
    load(rule, key, REGISTER)
}

fn load(rule: Message, key: u32, register: u32) -> Message {
    expression(rule, "meta", |it| it.big(1, register).big(2, key))
}

/// Goes on only if what was loaded is, or is not, in a set.
fn among(rule: Message, set: &str, is: Is) -> Message {
    expression(rule, "lookup", |it| {
        it.text(1, set).big(2, REGISTER).big(5, is as u32)
    })
}

/// Goes on only if what was loaded is, or is not, `value`.
fn compare(rule: Message, is: Is, value: &[u8]) -> Message {
    expression(rule, "cmp", |it| {
        it.big(1, REGISTER)
            .big(2, is as u32)
            .nest(3, |data| data.put(1, value))
    })
}

/// A link's name as the kernel compares it: all 16 bytes.
pub(super) fn name(link: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(link.bytes()) {
        *to = from;
    }
    name
}

fn destination(rule: Message, protocol: u8, address: SocketAddrV4) -> Message {
    let rule = compare(meta(rule, META_NFPROTO), Is::Equal, &[NFPROTO_IPV4]);
    let rule = compare(meta(rule, META_L4PROTO), Is::Equal, &[protocol]);
    // The destination's places in the headers (RFC 791, RFC 768, RFC 9293).
    let rule = payload(rule, NETWORK_HEADER, 16, 4);
    let rule = compare(rule, Is::Equal, &address.ip().octets());
    let rule = payload(rule, TRANSPORT_HEADER, 2, 2);
    compare(rule, Is::Equal, &address.port().to_be_bytes())
}

/// Loads a part of the packet.
fn payload(rule: Message, header: u32, offset: u32, length: u32) -> Message {
    expression(rule, "payload", |it| {
        it.big(1, REGISTER)
            .big(2, header)
            .big(3, offset)
            .big(4, length)
    })
}

/// Loads a value.
fn immediate(rule: Message, value: &[u8]) -> Message {
    expression(rule, "immediate", |it| {
        it.big(1, REGISTER).nest(2, |data| data.put(1, value))
    })
}

/// Keeps the bits of `mask` of what was loaded.
fn masked(rule: Message, mask: &[u8]) -> Message {
    let length = u32::try_from(mask.len()).expect("an address is short");
    let zero = vec![0; mask.len()];
    expression(rule, "bitwise", |it| {
        it.big(1, REGISTER)
            .big(2, REGISTER)
            .big(3, length)
            .nest(4, |data| data.put(1, mask))
            .nest(5, |data| data.put(1, &zero))
    })
}

fn answers(rule: Message) -> Message {
    // `ct state`, in the machine's own order: bit 1 is established, bit 2 related.
    let rule = expression(rule, "ct", |it| it.big(1, REGISTER).big(2, 0));
    let rule = masked(rule, &0b110_u32.to_ne_bytes());
    compare(rule, Is::Different, &[0; 4])
}
