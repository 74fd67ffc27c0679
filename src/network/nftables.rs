//! The table `ddock` of nftables: what each of our networks lets through, and what it hides behind the host's address.
//!
//! Written as the kernel reads it, in one transaction (`linux/netfilter/nf_tables.h`): no `nft` is needed, and nothing of
//! another table is read or touched. Each network has two chains of its own there, so whether a network's rules are
//! there is one question, also after somebody flushed all rules.

use crate::network::netlink::{ACK, APPEND, CREATE, Message, Socket};
use anyhow::Result;
use ipnet::IpNet;
use rustix::io::Errno;

/// Our table, for IPv4 and IPv6.
const TABLE: &str = "ddock";

/// All our bridges are named like this.
const BRIDGES: &str = "ddock";

/// The chain that all networks share.
const PREROUTING: &str = "prerouting";

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u8 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u8 = 0;
const NEWCHAIN: u8 = 3;
const GETCHAIN: u8 = 4;
const NEWRULE: u8 = 6;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// The register that every expression here writes and reads.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;

/// Where a chain hooks in, and when (`NF_INET_*`, `NF_IP_PRI_*`).
#[derive(Clone, Copy)]
struct Hook {
    kind: &'static str,
    number: u32,
    priority: i32,
}

const BEFORE_ROUTING: Hook = Hook {
    kind: "filter",
    number: 0,
    priority: -150,
};
const FORWARDING: Hook = Hook {
    kind: "filter",
    number: 2,
    priority: 0,
};
const SOURCE_NAT: Hook = Hook {
    kind: "nat",
    number: 4,
    priority: 100,
};

/// One step of a rule.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// The packet came in by the link of this name, or not.
    Input(&'a str, Is),
    /// The packet leaves by the link of this name, or not.
    Output(&'a str, Is),
    /// The packet came in by a bridge of ours.
    InputIsOurs,
    /// The packet's source is in this network.
    Source(IpNet),
    /// The packet answers one that was let through, or belongs to it.
    Answers,
    /// The packet is for a socket that speaks with an address not the host's.
    ForTransparentSocket,
    Mark(u32),
    Masquerade,
    Verdict(u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Equal = 0,
    Different = 1,
}

/// What a network's rules depend on.
pub(super) struct Rules<'a> {
    pub(super) bridge: &'a str,
    pub(super) networks: &'a [IpNet],
    /// Nothing leaves the network.
    pub(super) internal: bool,
    /// Marks what is for a socket that speaks with an address not the host's.
    pub(super) mark: u32,
}

impl Rules<'_> {
    fn nat_chain(bridge: &str) -> String {
        format!("{bridge}-nat")
    }

    fn forward_chain(bridge: &str) -> String {
        format!("{bridge}-forward")
    }

    /// Tells whether this network's rules are there.
    pub(super) fn are_there(&self, socket: &mut Socket) -> Result<bool> {
        has_chain(socket, &Self::nat_chain(self.bridge))
    }

    /// Adds this network's rules, which are not there, in one transaction; needs the lock of the networks.
    pub(super) fn add(&self, socket: &mut Socket) -> Result<()> {
        let mut batch = vec![table()];
        if !has_chain(socket, PREROUTING)? {
            batch.push(chain(PREROUTING, BEFORE_ROUTING));
            let steps = [
                Step::InputIsOurs,
                Step::ForTransparentSocket,
                Step::Mark(self.mark),
            ];
            batch.push(rule(PREROUTING, &steps));
        }
        batch.extend(self.forwarding());
        batch.extend(self.source_nat());
        commit(socket, batch)
    }

    /// What reaches the network from outside must answer what it said; its own members may talk.
    fn forwarding(&self) -> Vec<Message> {
        let (bridge, name) = (self.bridge, Self::forward_chain(self.bridge));
        let mut messages = vec![chain(&name, FORWARDING)];
        if self.internal {
            let leaves = [
                Step::Input(bridge, Is::Equal),
                Step::Output(bridge, Is::Different),
                Step::Verdict(VERDICT_DROP),
            ];
            messages.push(rule(&name, &leaves));
        }
        let (elsewhere, own) = (
            Step::Output(bridge, Is::Different),
            Step::Input(bridge, Is::Equal),
        );
        for steps in [
            &[elsewhere, Step::Verdict(VERDICT_ACCEPT)][..],
            &[own, Step::Verdict(VERDICT_ACCEPT)],
            &[Step::Answers, Step::Verdict(VERDICT_ACCEPT)],
            &[Step::Verdict(VERDICT_DROP)],
        ] {
            messages.push(rule(&name, steps));
        }
        messages
    }

    fn source_nat(&self) -> Vec<Message> {
        let name = Self::nat_chain(self.bridge);
        let mut messages = vec![chain(&name, SOURCE_NAT)];
        let networks = self.networks.iter().filter(|_| !self.internal);
        messages.extend(networks.map(|network| {
            let elsewhere = Step::Output(self.bridge, Is::Different);
            rule(
                &name,
                &[Step::Source(*network), elsewhere, Step::Masquerade],
            )
        }));
        messages
    }
}

fn has_chain(socket: &mut Socket, name: &str) -> Result<bool> {
    let what = "looking at the nftables table `ddock`";
    let message = Message::new(kind(GETCHAIN), 0, &header(NFPROTO_INET), what)
        .text(NFTA_CHAIN_TABLE, TABLE)
        .text(NFTA_CHAIN_NAME, name);
    Ok(socket.get(message, Errno::NOENT)?.is_some())
}

fn commit(socket: &mut Socket, messages: Vec<Message>) -> Result<()> {
    let edge = |kind| {
        let header = [0, 0, 0, SUBSYSTEM];
        Message::new(kind, 0, &header, "changing the nftables table `ddock`")
    };
    let batch = [edge(BATCH_BEGIN)]
        .into_iter()
        .chain(messages)
        .chain([edge(BATCH_END)]);
    socket.request(batch.collect())
}

fn kind(message: u8) -> u16 {
    u16::from_be_bytes([SUBSYSTEM, message])
}

/// `struct nfgenmsg`
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

fn change(message: u8, flags: u16, what: impl Into<String>) -> Message {
    Message::new(kind(message), flags | ACK, &header(NFPROTO_INET), what)
}

fn table() -> Message {
    change(NEWTABLE, CREATE, "making the nftables table `ddock`").text(NFTA_TABLE_NAME, TABLE)
}

fn chain(name: &str, hook: Hook) -> Message {
    let what = format!("making the nftables chain `{name}`");
    change(NEWCHAIN, CREATE, what)
        .text(NFTA_CHAIN_TABLE, TABLE)
        .text(NFTA_CHAIN_NAME, name)
        .nest(NFTA_CHAIN_HOOK, |it| {
            it.big(NFTA_HOOK_HOOKNUM, hook.number)
                .big(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned())
        })
        .text(NFTA_CHAIN_TYPE, hook.kind)
}

fn rule(chain: &str, steps: &[Step<'_>]) -> Message {
    let what = format!("adding a rule to the nftables chain `{chain}`");
    change(NEWRULE, CREATE | APPEND, what)
        .text(NFTA_RULE_TABLE, TABLE)
        .text(NFTA_RULE_CHAIN, chain)
        .nest(NFTA_RULE_EXPRESSIONS, |rule| {
            steps.iter().fold(rule, |rule, step| step.put(rule))
        })
}

impl Step<'_> {
    fn put(self, rule: Message) -> Message {
        match self {
            Self::Input(link, is) => compare(meta(rule, META_IIFNAME), is, &name(link)),
            Self::Output(link, is) => compare(meta(rule, META_OIFNAME), is, &name(link)),
            // As many bytes as are compared: the rest may be anything.
            Self::InputIsOurs => compare(meta(rule, META_IIFNAME), Is::Equal, BRIDGES.as_bytes()),
            Self::Source(network) => source(rule, network),
            Self::Answers => answers(rule),
            Self::ForTransparentSocket => {
                let rule = expression(rule, "socket", |it| it.big(1, 0).big(2, REGISTER));
                compare(rule, Is::Equal, &[1])
            }
            Self::Mark(mark) => {
                let value = mark.to_ne_bytes();
                let rule = expression(rule, "immediate", |it| {
                    it.big(1, REGISTER).nest(2, |data| data.put(1, &value))
                });
                expression(rule, "meta", |it| it.big(2, META_MARK).big(3, REGISTER))
            }
            Self::Masquerade => expression(rule, "masq", |it| it),
            Self::Verdict(code) => expression(rule, "immediate", |it| {
                it.big(1, VERDICT_REGISTER)
                    .nest(2, |data| data.nest(2, |verdict| verdict.big(1, code)))
            }),
        }
    }
}

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;

fn expression(rule: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    rule.nest(NFTA_LIST_ELEM, |element| {
        element
            .text(NFTA_EXPR_NAME, name)
            .nest(NFTA_EXPR_DATA, data)
    })
}

/// Loads a fact about the packet.
fn meta(rule: Message, key: u32) -> Message {
    expression(rule, "meta", |it| it.big(1, REGISTER).big(2, key))
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
fn name(link: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(link.bytes()) {
        *to = from;
    }
    name
}

fn source(rule: Message, network: IpNet) -> Message {
    // The place of the source address in the header (RFC 791, RFC 8200).
    let (protocol, offset, mask, address) = match network {
        IpNet::V4(it) => (
            NFPROTO_IPV4,
            12,
            it.netmask().octets().to_vec(),
            it.network().octets().to_vec(),
        ),
        IpNet::V6(it) => (
            NFPROTO_IPV6,
            8,
            it.netmask().octets().to_vec(),
            it.network().octets().to_vec(),
        ),
    };
    let length = u32::try_from(mask.len()).expect("an address is short");
    let rule = compare(meta(rule, META_NFPROTO), Is::Equal, &[protocol]);
    let rule = expression(rule, "payload", |it| {
        it.big(1, REGISTER)
            .big(2, 1) // the network header
            .big(3, offset)
            .big(4, length)
    });
    let rule = masked(rule, &mask);
    compare(rule, Is::Equal, &address)
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
