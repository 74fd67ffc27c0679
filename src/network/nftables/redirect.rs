//! The table `ddock` in a container's own network namespace: what is sent to one address and port arrives at another
//! port there, and the answers seem to come from where it was sent.

use crate::network::netlink::Socket;
use crate::network::nftables::step::{Step, TCP, UDP};
use crate::network::nftables::{Hook, chain, commit, rule, table};
use anyhow::Result;
use std::net::SocketAddrV4;

const CHAIN: &str = "names";

/// What processes of this namespace send.
const SENDING: Hook = Hook {
    kind: "nat",
    number: 3,
    priority: -100,
};

/// Redirects what is sent to `from`: datagrams to one port of that address, connections to another.
///
/// In the network namespace in which `socket` was opened, which has no such table yet.
pub(in crate::network) fn redirect(
    socket: &mut Socket,
    from: SocketAddrV4,
    datagrams: u16,
    connections: u16,
) -> Result<()> {
    let mut batch = vec![table(), chain(CHAIN, SENDING)];
    for (protocol, port) in [(UDP, datagrams), (TCP, connections)] {
        let steps = [Step::Destination(protocol, from), Step::RedirectTo(port)];
        batch.push(rule(CHAIN, &steps));
    }
    commit(socket, batch)
}
