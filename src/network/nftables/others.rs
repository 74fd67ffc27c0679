//! What keeps the host closed to others where ddock had it forward: without it every network that the host is in would
//! reach every other through it.
//!
//! A chain for each family, so that its presence says for which ddock turned forwarding on; whoever empties it opens the
//! host, and it is not filled again. A bridge that comes later is somebody's who forwards by rules of his own (Docker,
//! libvirt): he found forwarding turned on, and cannot know that it was not meant for him.

use crate::network::netlink::{Message, Socket};
use crate::network::nftables::set::{self, BEFORE};
use crate::network::nftables::step::{
    Is, NFPROTO_IPV4, NFPROTO_IPV6, Step, VERDICT_ACCEPT, VERDICT_DROP,
};
use crate::network::nftables::{FORWARDING, chain, has_chain, rule};
use anyhow::Result;
use fs_err as fs;

/// Every link of this network namespace has a directory there.
const LINKS: &str = "/proc/sys/net/ipv4/conf";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::network) enum Family {
    V4,
    V6,
}

/// A set of families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::network) struct Families {
    pub(in crate::network) v4: bool,
    pub(in crate::network) v6: bool,
}

impl Families {
    pub(in crate::network) fn any(self) -> bool {
        self.v4 || self.v6
    }

    pub(in crate::network) fn or(self, other: Self) -> Self {
        Self {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }

    /// Returns those that are in it, in order.
    pub(in crate::network) fn each(self) -> impl Iterator<Item = Family> {
        let v4 = self.v4.then_some(Family::V4);
        v4.into_iter().chain(self.v6.then_some(Family::V6))
    }
}

impl Family {
    /// Returns the name of the chain that closes the host.
    fn chain(self) -> &'static str {
        match self {
            Self::V4 => "others-ipv4",
            Self::V6 => "others-ipv6",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V4 => NFPROTO_IPV4,
            Self::V6 => NFPROTO_IPV6,
        }
    }
}

/// Returns the families by which the host is closed to others.
pub(super) fn closed(socket: &mut Socket) -> Result<Families> {
    Ok(Families {
        v4: has_chain(socket, Family::V4.chain())?,
        v6: has_chain(socket, Family::V6.chain())?,
    })
}

/// Returns what closes the host by these families, as far as that is not there.
pub(super) fn close(socket: &mut Socket, families: Families) -> Result<Vec<Message>> {
    let there = closed(socket)?;
    let mut messages = Vec::new();
    if families.any() && !there.any() {
        messages.push(set::make(BEFORE));
        messages.extend(set::add_all(BEFORE, &links()?));
    }
    let missing = Families {
        v4: families.v4 && !there.v4,
        v6: families.v6 && !there.v6,
    };
    messages.extend(missing.each().flat_map(close_one));
    Ok(messages)
}

/// Returns the names of all links.
fn links() -> Result<Vec<String>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(LINKS)? {
        links.extend(entry?.file_name().into_string());
    }
    links.retain(|name| !["all", "default"].contains(&name.as_str()));
    Ok(links)
}

fn close_one(family: Family) -> Vec<Message> {
    let accept = Step::Verdict(VERDICT_ACCEPT);
    let rules = [
        &[Step::Family(family.number(), Is::Different), accept][..],
        &[Step::InputIsOurs, accept],
        &[Step::OutputIsOurs, accept],
        &[
            Step::InputIsBridge,
            Step::InputAmong(BEFORE, Is::Different),
            accept,
        ],
        &[
            Step::OutputIsBridge,
            Step::OutputAmong(BEFORE, Is::Different),
            accept,
        ],
        &[Step::Verdict(VERDICT_DROP)],
    ];
    let chain = chain(family.chain(), FORWARDING);
    let rules = rules.map(|steps| rule(family.chain(), steps));
    [chain].into_iter().chain(rules).collect()
}
