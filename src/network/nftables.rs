//! The table `ddock` of nftables: what each of our networks lets through, and what it hides behind the host's address.
//!
//! Written as the kernel reads it, in one transaction (`linux/netfilter/nf_tables.h`): no `nft` is needed, and nothing of
//! another table is read or touched. Each network has two chains of its own there, so whether a network's rules are
//! there is one question, also after somebody flushed all rules.

mod redirect;
mod step;

pub(super) use redirect::redirect;

use crate::network::netlink::{ACK, APPEND, CREATE, Message, Socket, attribute_number, lacking};
use anyhow::Result;
use ipnet::IpNet;
use rustix::io::Errno;
use step::{Is, Step, VERDICT_ACCEPT, VERDICT_DROP};

/// Our table, for IPv4 and IPv6.
const TABLE: &str = "ddock";

/// The chain that all networks share.
const PREROUTING: &str = "prerouting";

const NFPROTO_INET: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u8 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u8 = 0;
const NEWCHAIN: u8 = 3;
const GETCHAIN: u8 = 4;
const NEWRULE: u8 = 6;
const GETTABLE: u8 = 1;
const DELTABLE: u8 = 2;
const DELCHAIN: u8 = 5;
const DELRULE: u8 = 8;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USE: u16 = 3;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;

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

/// What a network's rules depend on.
pub(super) struct Rules<'a> {
    pub(super) bridge: &'a str,
    pub(super) networks: &'a [IpNet],
    /// Nothing leaves the network.
    pub(super) internal: bool,
    /// Its members do not reach each other.
    pub(super) isolated: bool,
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

    /// Removes this network's rules, as far as they are there, and the table with the last network's; needs the lock of
    /// the networks.
    pub(super) fn remove(&self, socket: &mut Socket) -> Result<()> {
        let mut batch = Vec::new();
        for name in [
            Self::nat_chain(self.bridge),
            Self::forward_chain(self.bridge),
        ] {
            if has_chain(socket, &name)? {
                batch.extend(without_chain(&name));
            }
        }
        if !batch.is_empty() {
            commit(socket, batch)?;
        }
        // What all networks share is left.
        if chains(socket)? == Some(1) && has_chain(socket, PREROUTING)? {
            let what = "removing the nftables table `ddock`";
            let table = change(DELTABLE, 0, what).text(NFTA_TABLE_NAME, TABLE);
            commit(socket, vec![table])?;
        }
        Ok(())
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
        // Ports that are kept apart could still meet by way of the host.
        let to_own = if self.isolated {
            VERDICT_DROP
        } else {
            VERDICT_ACCEPT
        };
        for steps in [
            &[elsewhere, Step::Verdict(VERDICT_ACCEPT)][..],
            &[own, Step::Verdict(to_own)],
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
    let found = socket.get(message, Errno::NOENT);
    let found = found.map_err(|error| lacking(error, "nftables (module `nf_tables`)"))?;
    Ok(found.is_some())
}

/// Returns how many chains our table has; `None` if it is not there.
fn chains(socket: &mut Socket) -> Result<Option<u32>> {
    let what = "looking at the nftables table `ddock`";
    let message =
        Message::new(kind(GETTABLE), 0, &header(NFPROTO_INET), what).text(NFTA_TABLE_NAME, TABLE);
    let Some(found) = socket.get(message, Errno::NOENT)? else {
        return Ok(None);
    };
    let attributes = found.get(4..).unwrap_or_default();
    Ok(attribute_number(attributes, NFTA_TABLE_USE).map(u32::from_be))
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

/// Removes a chain's rules, then the chain.
fn without_chain(name: &str) -> [Message; 2] {
    let what = format!("removing the nftables chain `{name}`");
    [
        change(DELRULE, 0, &*what)
            .text(NFTA_RULE_TABLE, TABLE)
            .text(NFTA_RULE_CHAIN, name),
        change(DELCHAIN, 0, &*what)
            .text(NFTA_CHAIN_TABLE, TABLE)
            .text(NFTA_CHAIN_NAME, name),
    ]
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
