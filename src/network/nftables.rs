//! The table `ddock` of nftables: what our networks let through, and what they hide behind the host's address.
//!
//! Written as the kernel reads it, in one transaction (`linux/netfilter/nf_tables.h`): no `nft` is needed, and nothing of
//! another table is read or touched. All networks share the chains, whose rules ask sets of the networks' bridges: what
//! a packet of the host's costs does not depend on how many networks there are. Whether a network's rules are there is
//! one question, whether its bridge is in a set, also after somebody flushed all rules.

mod others;
mod redirect;
mod set;
mod step;

pub(super) use others::{Families, Family};
pub(super) use redirect::redirect;

use crate::network::netlink::{ACK, APPEND, CREATE, Message, Socket, lacking};
use anyhow::Result;
use rustix::io::Errno;
use set::{INTERNAL, NETWORKS, WITHIN};
use step::{Is, Step, VERDICT_ACCEPT, VERDICT_DROP};

/// Our table, for IPv4 and IPv6.
const TABLE: &str = "ddock";

/// The chains that all networks share.
const PREROUTING: &str = "prerouting";
const FORWARD: &str = "forward";
const NAT: &str = "nat";

const NFPROTO_INET: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u8 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u8 = 0;
const NEWCHAIN: u8 = 3;
const GETCHAIN: u8 = 4;
const NEWRULE: u8 = 6;
const DELTABLE: u8 = 2;

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
    /// Nothing leaves the network.
    pub(super) internal: bool,
    /// Its members do not reach each other.
    pub(super) isolated: bool,
    /// Marks what is for a socket that speaks with an address not the host's.
    pub(super) mark: u32,
}

impl Rules<'_> {
    /// Tells whether this network's rules are there.
    pub(super) fn are_there(&self, socket: &mut Socket) -> Result<bool> {
        let found = set::has(socket, NETWORKS, self.bridge);
        found.map_err(without_nftables)
    }

    /// Adds this network's rules as far as they are not there, and closes the host to others by `closed`, all in one
    /// transaction; needs the lock of the networks.
    pub(super) fn add(&self, socket: &mut Socket, closed: Families) -> Result<()> {
        let mut batch = vec![table()];
        if !has_chain(socket, FORWARD)? {
            batch.extend(shared(self.mark));
        }
        batch.push(set::add(NETWORKS, self.bridge, None));
        if self.internal {
            batch.push(set::add(INTERNAL, self.bridge, None));
        }
        // Ports that are kept apart could still meet by way of the host.
        let verdict = if self.isolated {
            VERDICT_DROP
        } else {
            VERDICT_ACCEPT
        };
        batch.push(set::add(WITHIN, self.bridge, Some(verdict)));
        batch.extend(others::close(socket, closed)?);
        commit(socket, batch)
    }

    /// Removes this network's rules, as far as they are there, and the table with the last network's, unless it keeps
    /// the host closed to others; needs the lock of the networks.
    pub(super) fn remove(&self, socket: &mut Socket) -> Result<()> {
        let mut batch = Vec::new();
        for set in [NETWORKS, INTERNAL, WITHIN] {
            if set::has(socket, set, self.bridge)? {
                batch.push(set::remove(set, self.bridge));
            }
        }
        if !batch.is_empty() {
            commit(socket, batch)?;
        }
        let is_needed = set::has_any(socket, NETWORKS)? || others::closed(socket)?.any();
        if !is_needed && has_chain(socket, FORWARD)? {
            let what = "removing the nftables table `ddock`";
            let table = change(DELTABLE, 0, what).text(NFTA_TABLE_NAME, TABLE);
            commit(socket, vec![table])?;
        }
        Ok(())
    }
}

/// Returns the families by which the host is closed to others than our networks.
pub(super) fn closed(socket: &mut Socket) -> Result<Families> {
    others::closed(socket)
}

/// The sets, and the chains that ask them.
fn shared(mark: u32) -> Vec<Message> {
    let mut messages: Vec<Message> = set::all().collect();
    messages.push(chain(PREROUTING, BEFORE_ROUTING));
    let steps = [
        Step::InputIsOurs,
        Step::ForTransparentSocket,
        Step::Mark(mark),
    ];
    messages.push(rule(PREROUTING, &steps));
    messages.push(chain(FORWARD, FORWARDING));
    // What reaches a network from outside must answer what the network said; its own members may talk.
    for steps in [
        &[Step::VerdictOn(WITHIN)][..],
        &[
            Step::InputAmong(INTERNAL, Is::Equal),
            Step::Verdict(VERDICT_DROP),
        ],
        &[
            Step::OutputAmong(NETWORKS, Is::Different),
            Step::Verdict(VERDICT_ACCEPT),
        ],
        &[Step::Answers, Step::Verdict(VERDICT_ACCEPT)],
        &[Step::Verdict(VERDICT_DROP)],
    ] {
        messages.push(rule(FORWARD, steps));
    }
    messages.push(chain(NAT, SOURCE_NAT));
    let steps = [
        Step::InputAmong(NETWORKS, Is::Equal),
        Step::OutputAmong(NETWORKS, Is::Different),
        Step::Masquerade,
    ];
    messages.push(rule(NAT, &steps));
    messages
}

fn has_chain(socket: &mut Socket, name: &str) -> Result<bool> {
    let what = "looking at the nftables table `ddock`";
    let message = Message::new(kind(GETCHAIN), 0, &header(NFPROTO_INET), what)
        .text(NFTA_CHAIN_TABLE, TABLE)
        .text(NFTA_CHAIN_NAME, name);
    let found = socket.get(message, Errno::NOENT);
    let found = found.map_err(without_nftables)?;
    Ok(found.is_some())
}

/// Says that the kernel has no nftables if that is why it refused.
fn without_nftables(error: anyhow::Error) -> anyhow::Error {
    lacking(error, "nftables (module `nf_tables`)")
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
