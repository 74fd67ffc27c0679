//! A process in another network namespace that opens sockets there for this one, which may not go there any more.

use crate::network::Namespace;
use crate::network::helper::{Helper, Place, keep_only};
use crate::network::published::open;
use crate::sys::message::Channel;
use crate::sys::rights::{Needs, give_up_rights};
use anyhow::{Context, Result, bail};
use nix::libc;
use rustix::net::SocketType;
use rustix::thread::CapabilitySet;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

pub(super) struct Opener {
    channel: Channel,
    process: Helper,
}

/// What a socket is to be like: as an address of this kind has it, and for a connection or datagrams.
type Wanted = (IpAddr, bool);

impl Opener {
    /// Starts it. Needs a process with one thread.
    pub(super) fn start(namespace: &Namespace) -> Result<Self> {
        let (here, there) = Channel::pair().context("making a channel to a child")?;
        let process = Helper::start(&Place::default(), || {
            namespace.enter()?;
            keep_only(&[there.as_fd().as_raw_fd()])?;
            give_up_rights(&NEEDS)?;
            serve(&there)
        })?;
        Ok(Self {
            channel: here,
            process,
        })
    }

    /// Returns what becomes readable when it has ended.
    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    pub(super) fn open(&self, address: IpAddr, kind: SocketType) -> Result<OwnedFd> {
        let wanted: Wanted = (address, kind == SocketType::STREAM);
        self.channel.send(&wanted, None)?;
        match self.channel.receive::<bool>()? {
            Some((true, Some(socket))) => Ok(socket),
            _ => bail!("no socket in the container's network namespace"),
        }
    }
}

/// Sockets are opened, and passed on.
const NEEDS: Needs = Needs {
    capabilities: CapabilitySet::empty(),
    calls: &[
        libc::SYS_socket,
        libc::SYS_setsockopt,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
    ],
    reads_files: false,
};

fn serve(channel: &Channel) -> Result<()> {
    while let Some(((address, is_stream), _)) = channel.receive::<Wanted>()? {
        let kind = if is_stream {
            SocketType::STREAM
        } else {
            SocketType::DGRAM
        };
        let socket = open(address, kind).ok();
        channel.send(&socket.is_some(), socket.as_ref().map(|it| it.as_fd()))?;
    }
    Ok(())
}
