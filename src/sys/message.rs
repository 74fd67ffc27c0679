//! Messages between processes of ddock: connected sockets that can carry a descriptor.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, connect, listen, recv, recvmsg, sendmsg, shutdown, socket_with, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a process that has no descriptor left lacks to take a connection.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

/// Connections that may wait to be accepted; whoever comes then waits itself.
const BACKLOG: i32 = 16;

/// One end of a connection that keeps messages apart and closes on exec (unix(7), `SOCK_SEQPACKET`).
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Returns two connected ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Makes [`Channel::receive`] return `WouldBlock` where it would wait.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, true)?)
    }

    /// Connects to the socket `name` in `directory`.
    pub(crate) fn connect(directory: &Path, name: &str) -> io::Result<Self> {
        let place = Place::open(directory)?;
        let socket = new_socket()?;
        rustix::io::retry_on_intr(|| connect(&socket, &place.address(name)?))?;
        Ok(Self(socket))
    }

    /// Sends `message`, and `descriptor` with it.
    pub(crate) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(
                &self.0,
                &[IoSlice::new(&bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        })?;
        Ok(())
    }

    /// Waits for a message; `None` when the other end is closed.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        // The length first: a buffer for any message would be sixteen fresh pages a message.
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        let look = || rustix::io::retry_on_intr(|| recv(&self.0, &mut [0; 0][..], flags));
        let length = match look() {
            // The other end closed with unread messages of ours, which is told once, and before its own last words.
            Err(Errno::CONNRESET) => look()?.1,
            other => other?.1,
        };
        let mut bytes = vec![0; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut take = || {
            rustix::io::retry_on_intr(|| {
                recvmsg(
                    &self.0,
                    &mut [IoSliceMut::new(&mut bytes)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )
            })
        };
        let received = match take() {
            Err(Errno::CONNRESET) => take()?,
            other => other?,
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next();
            }
        }
        let message = serde_json::from_slice(&bytes[..received.bytes])?;
        Ok(Some((message, descriptor)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that others connect to.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// Makes the socket `name` in `directory`.
    pub(crate) fn bind(directory: &Path, name: &str) -> io::Result<Self> {
        let place = Place::open(directory)?;
        let socket = new_socket()?;
        bind(&socket, &place.address(name)?)?;
        listen(&socket, BACKLOG)?;
        Ok(Self(socket))
    }

    /// Refuses connections from now on; those that wait already can be accepted still.
    pub(crate) fn refuse_others(&self) -> io::Result<()> {
        // Undocumented, and so in Linux from 2.2 on: connect(2) asks whether the listener still reads.
        Ok(shutdown(&self.0, Shutdown::Read)?)
    }

    /// Returns a connection that waits; `None` if whoever it was has left.
    pub(crate) fn accept(&self) -> io::Result<Option<Channel>> {
        match accept_with(&self.0, SocketFlags::CLOEXEC) {
            Ok(socket) => Ok(Some(Channel(socket))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A directory whose path may be longer than an address, which ends at 108 bytes (unix(7)).
struct Place(OwnedFd);

impl Place {
    fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(directory, flags, Mode::empty())?))
    }

    fn address(&self, name: &str) -> rustix::io::Result<SocketAddrUnix> {
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn a_message_carries_a_descriptor_and_the_end_is_seen() {
        let (one, other) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        one.send(&("hello", 7), Some(file.as_fd())).unwrap();
        drop(one);
        let (message, descriptor): ((String, i32), _) = other.receive().unwrap().unwrap();
        assert_eq!(message, ("hello".to_owned(), 7));
        let mut text = String::new();
        let mut received = fs_err::File::from_parts(descriptor.unwrap().into(), "received");
        received.read_to_string(&mut text).unwrap();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!((text.as_str(), rest.len()), ("content", 0));
        assert!(other.receive::<i32>().unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_though_not_all_was_that_was_said_before() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&1, None).unwrap();
        other.send(&2, None).unwrap();
        // The kernel tells of the message that was not read, and before the one that was sent.
        drop(other);
        assert_eq!(one.receive::<i32>().unwrap().unwrap().0, 2);
        assert!(one.receive::<i32>().unwrap().is_none());
    }

    #[test]
    fn who_came_before_others_were_refused_is_let_in() {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::bind(directory.path(), "socket").unwrap();
        let connect = || Channel::connect(directory.path(), "socket");
        let _early = connect().unwrap();
        listener.refuse_others().unwrap();
        let error = connect().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(listener.accept().unwrap().is_some());
        // Nobody is waited for.
        assert!(listener.accept().is_err());
    }

    #[test]
    fn a_socket_is_reached_by_a_path_of_any_length() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        fs_err::create_dir(&deep).unwrap();
        let listener = Listener::bind(&deep, "socket").unwrap();
        let one = Channel::connect(&deep, "socket").unwrap();
        let other = listener.accept().unwrap().unwrap();
        one.send(&1, None).unwrap();
        assert_eq!(other.receive::<i32>().unwrap().unwrap().0, 1);
        drop(listener);
        let error = Channel::connect(&deep, "socket").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
