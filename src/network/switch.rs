//! The switch of an ordinary user's networks: a network namespace that holds their bridges and nothing else.
//!
//! Root's bridges are the host's, where a user may make none. He may in a network namespace that belongs to the user
//! namespace of his containers. No process is in it: the monitors of the containers that use it hold it, each hands it
//! to the next, and it goes with the last of them, however that ends.

use crate::network::bridge::Bridge;
use crate::network::netlink::Socket;
use crate::network::{Namespace, Network, settings};
use anyhow::Result;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) struct Switch(Namespace);

impl Switch {
    /// Makes one in the user namespace of this process, which has to have one thread.
    pub(crate) fn make() -> Result<Self> {
        Namespace::new(settings::keep_silent).map(Self)
    }

    /// Returns a network's bridge, which is made if it is not there, and what to ask for links to it.
    pub(super) fn bridge(&self, network: &Network) -> Result<(Socket, Bridge)> {
        let mut route = self.route()?;
        let bridge = Bridge::bare(network, &mut route)?;
        Ok((route, bridge))
    }

    /// Returns what to ask for its links.
    pub(super) fn route(&self) -> Result<Socket> {
        let [socket] = self.0.sockets(|| Ok([Socket::route()?.into()]))?;
        Ok(socket.into())
    }
}

impl From<OwnedFd> for Switch {
    fn from(namespace: OwnedFd) -> Self {
        Self(namespace.into())
    }
}

impl AsFd for Switch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
