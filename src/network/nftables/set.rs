//! The sets of the table `ddock`: names of links, which rules ask for what they know of a packet.

use crate::network::netlink::{CREATE, Message, Socket, attribute};
use crate::network::nftables::step::name;
use crate::network::nftables::{NFPROTO_INET, TABLE, change, header, kind, without_nftables};
use anyhow::Result;
use rustix::io::Errno;

/// The bridges of all networks.
pub(super) const NETWORKS: &str = "networks";
/// The bridges of those that nothing leaves.
pub(super) const INTERNAL: &str = "internal";
/// A map: what becomes of what comes from a network and goes to the same.
pub(super) const WITHIN: &str = "within";
/// The host's links when its forwarding was turned on.
pub(super) const BEFORE: &str = "before";

const NEWSET: u8 = 9;
const NEWSETELEM: u8 = 12;
const GETSETELEM: u8 = 13;
const DELSETELEM: u8 = 14;

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;

const NFT_SET_MAP: u32 = 8;
/// `NFT_DATA_VERDICT`
const VERDICT: u32 = 0xffff_ff00;
/// What `nft` calls `ifname`, in 16 bytes (`TYPE_IFNAME` of its `datatype.h`): the kernel only keeps it.
const LINK: u32 = 41;
/// What `nft` calls `ifname . ifname`.
const TWO_LINKS: u32 = LINK << 6 | LINK;

/// Makes all sets but [`BEFORE`].
pub(super) fn all() -> impl Iterator<Item = Message> {
    [NETWORKS, INTERNAL, WITHIN].into_iter().map(make)
}

pub(super) fn make(set: &str) -> Message {
    let what = format!("making the nftables set `{set}`");
    let message = change(NEWSET, CREATE, what)
        .text(NFTA_SET_TABLE, TABLE)
        .text(NFTA_SET_NAME, set)
        // The kernel insists on one, by which a transaction could name the set.
        .big(NFTA_SET_ID, 1);
    if set == WITHIN {
        return message
            .big(NFTA_SET_FLAGS, NFT_SET_MAP)
            .big(NFTA_SET_KEY_TYPE, TWO_LINKS)
            .big(NFTA_SET_KEY_LEN, 32)
            .big(NFTA_SET_DATA_TYPE, VERDICT);
    }
    message
        .big(NFTA_SET_FLAGS, 0)
        .big(NFTA_SET_KEY_TYPE, LINK)
        .big(NFTA_SET_KEY_LEN, 16)
}

/// Puts a link into a set, or gives it a verdict in a map; it may be there already.
pub(super) fn add(set: &str, link: &str, verdict: Option<u32>) -> Message {
    let what = format!("adding `{link}` to the nftables set `{set}`");
    elements(change(NEWSETELEM, CREATE, what), set, &[link], verdict)
}

/// Puts many links into a set.
pub(super) fn add_all(set: &str, links: &[String]) -> impl Iterator<Item = Message> {
    // An attribute has at most 64 KiB, and an element takes 28 bytes.
    links.chunks(1000).map(move |links| {
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        let what = format!("adding links to the nftables set `{set}`");
        elements(change(NEWSETELEM, CREATE, what), set, &links, None)
    })
}

/// Takes a link, which is there, out of a set.
pub(super) fn remove(set: &str, link: &str) -> Message {
    let what = format!("removing `{link}` from the nftables set `{set}`");
    elements(change(DELSETELEM, 0, what), set, &[link], None)
}

/// Tells whether a link is in a set; it is not if the set is not there, nor the table.
pub(super) fn has(socket: &mut Socket, set: &str, link: &str) -> Result<bool> {
    let what = format!("looking at the nftables set `{set}`");
    let message = Message::new(kind(GETSETELEM), 0, &header(NFPROTO_INET), what);
    let found = socket.get(elements(message, set, &[link], None), Errno::NOENT);
    let found = found.map_err(without_nftables)?;
    Ok(found.is_some())
}

/// Tells whether a set, if it is there, has any element.
pub(super) fn has_any(socket: &mut Socket, set: &str) -> Result<bool> {
    let what = format!("looking at the nftables set `{set}`");
    let message = Message::new(kind(GETSETELEM), 0, &header(NFPROTO_INET), what)
        .text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .text(NFTA_SET_ELEM_LIST_SET, set);
    let found = socket.dump(message, Errno::NOENT);
    let found = found.map_err(without_nftables)?;
    Ok(found.iter().any(|answer| {
        let attributes = answer.get(4..).unwrap_or_default();
        attribute(attributes, NFTA_SET_ELEM_LIST_ELEMENTS).is_some_and(|it| !it.is_empty())
    }))
}

fn elements(message: Message, set: &str, links: &[&str], verdict: Option<u32>) -> Message {
    let fill = |list: Message, link: &&str| {
        // Of a map the link by which a packet comes in, and the same by which it leaves.
        let key = if set == WITHIN {
            [name(link), name(link)].concat()
        } else {
            name(link).to_vec()
        };
        list.nest(NFTA_LIST_ELEM, |element| {
            let element = element.nest(NFTA_SET_ELEM_KEY, |data| data.put(1, &key));
            match verdict {
                Some(code) => element.nest(NFTA_SET_ELEM_DATA, |data| {
                    data.nest(2, |verdict| verdict.big(1, code))
                }),
                None => element,
            }
        })
    };
    message
        .text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .text(NFTA_SET_ELEM_LIST_SET, set)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            links.iter().fold(list, fill)
        })
}
