//! Netlink: requests to the kernel as bytes, and a blocking socket that sends many at once (netlink(7)).

use anyhow::{Context, Result};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::os::fd::OwnedFd;

pub(super) const ACK: u16 = 0x4;
pub(super) const REQUEST: u16 = 0x1;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP`
const DUMP: u16 = 0x300;

/// `NLMSG_ERROR`: also what an acknowledgement is, with error 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the last message of an answer of many.
const DONE: u16 = 3;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Messages and attributes start at multiples of this.
const ALIGNMENT: usize = 4;
/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// The kernel never sends more at once (netlink(7), `NLMSG_GOODSIZE`).
const LARGEST: usize = 32 << 10;

/// One request: a header of the family's own, then attributes.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
    /// What it does, for the error.
    what: String,
}

impl Message {
    pub(super) fn new(kind: u16, flags: u16, header: &[u8], what: impl Into<String>) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(header);
        let mut message = Self {
            bytes,
            what: what.into(),
        };
        message.pad();
        message
    }

    /// Appends an attribute.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    /// Appends a text that ends in NUL.
    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    pub(super) fn number(self, kind: u16, number: u32) -> Self {
        self.put(kind, &number.to_ne_bytes())
    }

    /// Appends a number in network order, as nftables has all of them.
    pub(super) fn big(self, kind: u16, number: u32) -> Self {
        self.put(kind, &number.to_be_bytes())
    }

    /// Appends an attribute that holds what `fill` appends.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind | NESTED);
        let mut filled = fill(self);
        filled.close(start);
        filled
    }

    /// Appends bytes that are no attribute: a family's header inside of another's.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length =
            u16::try_from(self.bytes.len() - start).expect("an attribute of ours is short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
    }

    fn finish(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).expect("a message of ours is short");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn wants_answer(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & ACK != 0
    }
}

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Refused {
    what: String,
    /// The kernel's reason.
    pub(super) errno: Errno,
    source: std::io::Error,
}

/// A socket of the network namespace in which it was opened, wherever this process goes afterwards.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.socket
    }
}

/// One that was opened elsewhere, and has asked for nothing yet.
impl From<OwnedFd> for Socket {
    fn from(socket: OwnedFd) -> Self {
        Self {
            socket,
            sequence: 0,
        }
    }
}

impl Socket {
    /// Opens a socket for links, addresses and routes (rtnetlink(7)).
    pub(super) fn route() -> Result<Self> {
        Self::open(None)
    }

    /// Opens a socket for nftables.
    pub(super) fn netfilter() -> Result<Self> {
        let opened = Self::open(Some(rustix::net::netlink::NETFILTER));
        opened.map_err(|error| lacking(error, "nftables (modules `nfnetlink` and `nf_tables`)"))
    }

    fn open(protocol: Option<Protocol>) -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .context("opening a netlink socket")?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends all of `messages` in one go and waits for what the kernel says of each; the first refusal is the error.
    pub(super) fn request(&mut self, messages: Vec<Message>) -> Result<()> {
        let mut refused = None;
        for (what, errno) in self.exchange(messages)? {
            if let Some(errno) = errno
                && refused.is_none()
            {
                let source = errno.into();
                refused = Some(Refused {
                    what,
                    errno,
                    source,
                });
            }
        }
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Sends `messages` one by one, of which each may be refused for a reason that is `harmless`.
    pub(super) fn request_unless(
        &mut self,
        harmless: &[Errno],
        messages: Vec<Message>,
    ) -> Result<()> {
        for message in messages {
            match self.request(vec![message]) {
                Err(error) if harmless.iter().any(|errno| is_refusal(&error, *errno)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn exchange(&mut self, mut messages: Vec<Message>) -> Result<Vec<(String, Option<Errno>)>> {
        let first = self.sequence + 1;
        let mut all = Vec::new();
        for message in &mut messages {
            self.sequence += 1;
            message.finish(self.sequence);
            all.extend_from_slice(&message.bytes);
        }
        retry_on_intr(|| send(&self.socket, &all, SendFlags::empty()))
            .context("asking the kernel by netlink")?;
        let mut open = messages.iter().filter(|it| it.wants_answer()).count();
        let mut answers = Vec::new();
        while open > 0 {
            for (kind, sequence, body) in parse(&self.receive()?) {
                let Some(message) = sequence
                    .checked_sub(first)
                    .and_then(|at| messages.get(at as usize))
                else {
                    continue;
                };
                if kind != ERROR {
                    continue;
                }
                let code = i32::from_ne_bytes(body[..4].try_into().unwrap_or_default());
                let errno = (code != 0).then(|| Errno::from_raw_os_error(-code));
                // A batch that is refused as a whole is answered by its first message, which asks for no answer.
                if !message.wants_answer() && errno.is_some() {
                    open = 0;
                }
                open = open.saturating_sub(1);
                answers.push((message.what.clone(), errno));
            }
        }
        Ok(answers)
    }

    /// Asks for one object and returns its header and attributes; `None` if it is not there.
    pub(super) fn get(&mut self, mut message: Message, missing: Errno) -> Result<Option<Vec<u8>>> {
        self.sequence += 1;
        message.finish(self.sequence);
        retry_on_intr(|| send(&self.socket, &message.bytes, SendFlags::empty()))
            .context("asking the kernel by netlink")?;
        loop {
            for (kind, sequence, body) in parse(&self.receive()?) {
                if sequence != self.sequence {
                    continue;
                }
                if kind != ERROR {
                    return Ok(Some(body.to_vec()));
                }
                let code = i32::from_ne_bytes(body[..4].try_into().unwrap_or_default());
                let errno = Errno::from_raw_os_error(-code);
                if errno == missing {
                    return Ok(None);
                }
                return Err(Refused {
                    what: message.what,
                    errno,
                    source: errno.into(),
                }
                .into());
            }
        }
    }

    /// Asks for all that there are and returns header and attributes of each message; none if what they are in is not there.
    pub(super) fn dump(&mut self, mut message: Message, missing: Errno) -> Result<Vec<Vec<u8>>> {
        let flags = REQUEST | DUMP;
        message.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.sequence += 1;
        message.finish(self.sequence);
        retry_on_intr(|| send(&self.socket, &message.bytes, SendFlags::empty()))
            .context("asking the kernel by netlink")?;
        let mut answers = Vec::new();
        loop {
            for (kind, sequence, body) in parse(&self.receive()?) {
                if sequence != self.sequence {
                    continue;
                }
                let code = body.get(..4).and_then(|it| it.try_into().ok());
                let errno = match (kind, code.map_or(0, i32::from_ne_bytes)) {
                    (DONE, 0) => return Ok(answers),
                    (ERROR | DONE, code) => Errno::from_raw_os_error(-code),
                    _ => {
                        answers.push(body.to_vec());
                        continue;
                    }
                };
                if errno == missing {
                    return Ok(answers);
                }
                return Err(Refused {
                    what: message.what,
                    errno,
                    source: errno.into(),
                }
                .into());
            }
        }
    }

    fn receive(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; LARGEST];
        let (read, _) = retry_on_intr(|| recv(&self.socket, &mut bytes[..], RecvFlags::empty()))
            .context("hearing from the kernel by netlink")?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// The kernel has not what is needed. It would have loaded a module: there is none, or it is kept from being loaded.
#[derive(Debug, thiserror::Error)]
#[error("this machine's kernel has no {0}")]
pub(super) struct Lacking(&'static str);

/// Says what the kernel lacks if that is why it refused.
pub(super) fn lacking(error: anyhow::Error, what: &'static str) -> anyhow::Error {
    let refused = error.downcast_ref::<Refused>().map(|it| it.errno);
    let errno = refused.or(error.downcast_ref::<Errno>().copied());
    match errno {
        // That of a subsystem of netfilter that is not there is EINVAL.
        Some(Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::NOENT | Errno::INVAL) => {
            error.context(Lacking(what))
        }
        _ => error,
    }
}

/// Tells whether the kernel refused a request for this reason.
pub(super) fn is_refusal(error: &anyhow::Error, errno: Errno) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.errno == errno)
}

/// Returns kind, sequence number and body of each message in `bytes`.
fn parse(bytes: &[u8]) -> Vec<(u16, u32, &[u8])> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Some(header) = rest.get(..HEADER) {
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let length = u32::from_ne_bytes(word(0)) as usize;
        let Some(body) = rest.get(HEADER..length) else {
            break;
        };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        messages.push((kind, u32::from_ne_bytes(word(8)), body));
        rest = rest
            .get(length.next_multiple_of(ALIGNMENT)..)
            .unwrap_or_default();
    }
    messages
}

/// Returns the attribute `kind` of `attributes`.
pub(super) fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some(head) = attributes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([head[2], head[3]]) & !NESTED == kind {
            return Some(value);
        }
        attributes = attributes
            .get(length.next_multiple_of(ALIGNMENT)..)
            .unwrap_or_default();
    }
    None
}

/// Returns an attribute that is a number.
pub(super) fn attribute_number(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(
        attribute(attributes, kind)?.get(..4)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let mut message = Message::new(16, ACK, &[9; 3], "test")
            .text(1, "abcd")
            .nest(2, |inner| inner.number(7, 42));
        message.finish(5);
        let parsed = parse(&message.bytes);
        let (kind, sequence, body) = parsed[0];
        assert_eq!((parsed.len(), kind, sequence), (1, 16, 5));
        let attributes = &body[4..];
        assert_eq!(attribute(attributes, 1), Some(&b"abcd\0"[..]));
        let nested = attribute(attributes, 2).unwrap();
        assert_eq!(attribute_number(nested, 7), Some(42));
        assert_eq!(attribute(attributes, 3), None);
    }

    #[test]
    fn cut_off_answers_are_not_read_past_their_end() {
        assert!(parse(&[0; 7]).is_empty());
        let mut short = vec![0; 16];
        short[0] = 200;
        assert!(parse(&short).is_empty());
        assert_eq!(attribute(&[200, 0, 1, 0, 5], 1), None);
        // A length below the header's own must not loop for ever.
        assert_eq!(attribute(&[0, 0, 2, 0], 1), None);
    }

    #[test]
    fn the_kernel_answers_and_refuses() {
        let mut socket = Socket::route().unwrap();
        // RTM_GETLINK of an index that no link has.
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let missing = Message::new(18, 0, &header, "looking at a link");
        assert!(socket.get(missing, Errno::NODEV).unwrap().is_none());
    }
}
