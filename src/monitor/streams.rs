//! Who gets which end of the command's standard streams.

use crate::container::log::Stream;
use crate::monitor::relay::Relay;
use crate::monitor::supervise::{Ends, Session};
use crate::runtime::{Command, Streams};
use anyhow::{Context, Result};
use rustix::fs::{OFlags, Uid, fchown, fcntl_getfl, fstat, fstatfs};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::CapabilitySet;
use std::os::fd::{BorrowedFd, OwnedFd};

/// `f_type` of a pipe without a name (linux/magic.h).
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

/// The owner that files seem to have whose owner is not mapped into this user namespace (`user_namespaces(7)`).
const UNMAPPED: u32 = 65534;

/// The command's streams: what the client relays of them, and the ends for the monitor and the command.
pub(crate) struct Wiring {
    pub(crate) relays: Vec<Relay>,
    /// Streams of the caller's that are the command's own.
    pub(crate) direct: Vec<Stream>,
    pub(crate) ends: Ends,
}

impl Wiring {
    /// Decides which way the streams go. Foreground output that nobody keeps does not go through the monitor.
    pub(crate) fn new(session: &Session, command: &Command, is_logged: bool) -> Result<Self> {
        let mut wiring = Self {
            relays: Vec::new(),
            direct: Vec::new(),
            ends: Ends {
                streams: Streams {
                    stdin: None,
                    output: None,
                    handed: Vec::new(),
                },
                sources: Vec::new(),
                sinks: Vec::new(),
                input: None,
            },
        };
        if command.terminal.is_some() {
            // All of the command's streams come with that.
            wiring.copy_to_client(session.stdout, Stream::Stdout)?;
            return Ok(wiring);
        }
        wiring.add_input(session, command)?;
        let is_direct = !is_logged
            && !session.detached
            && session.sig_proxy
            && session.stdout
            && session.stderr;
        let output = if is_direct {
            (
                wiring.hand_over(Some(Stream::Stdout), command)?,
                wiring.hand_over(Some(Stream::Stderr), command)?,
            )
        } else {
            (
                wiring.through_monitor(session.stdout, command, Stream::Stdout)?,
                wiring.through_monitor(session.stderr, command, Stream::Stderr)?,
            )
        };
        wiring.ends.streams.output = Some(output);
        Ok(wiring)
    }

    fn add_input(&mut self, session: &Session, command: &Command) -> Result<()> {
        if session.stdin {
            let stdin = self.hand_over(None, command)?;
            self.ends.streams.stdin = Some(stdin);
        } else if session.keeps_stdin {
            let (read, write) = pipe_for(command)?;
            rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
            self.ends.streams.stdin = Some(read);
            self.ends.input = Some(write);
        }
        Ok(())
    }

    /// Returns the command's end of one of the caller's streams: a pipe as it is, so that nothing is copied or lost.
    ///
    /// Anything else is relayed: a container's root could open a file, a directory, a device or a
    /// terminal again through `/proc/self/fd`, for writing too, or change its mode, a named pipe's as well.
    fn hand_over(&mut self, output: Option<Stream>, command: &Command) -> Result<OwnedFd> {
        let own = copy(output.map_or(rustix::stdio::stdin(), own))?;
        if fstatfs(&own)?.f_type == PIPEFS_MAGIC && is_fit(&own, command)? {
            self.direct.extend(output);
            return Ok(own);
        }
        let (read, write) = pipe_for(command)?;
        Ok(if let Some(stream) = output {
            self.relays.push(Relay::output(stream, read, own));
            write
        } else {
            rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
            self.relays.push(Relay::input(own, write));
            read
        })
    }

    /// Returns the command's end of a stream that the monitor reads.
    fn through_monitor(
        &mut self,
        is_attached: bool,
        command: &Command,
        stream: Stream,
    ) -> Result<OwnedFd> {
        let (read, write) = pipe_for(command)?;
        self.ends.sources.push((stream, read));
        self.copy_to_client(is_attached, stream)?;
        Ok(write)
    }

    fn copy_to_client(&mut self, is_attached: bool, stream: Stream) -> Result<()> {
        if is_attached {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
            self.relays
                .push(Relay::output(stream, read, copy(own(stream))?));
            self.ends.sinks.push((stream, write));
        }
        Ok(())
    }
}

/// Returns the caller's stream of that name.
pub(super) fn own(stream: Stream) -> BorrowedFd<'static> {
    match stream {
        Stream::Stdout => rustix::stdio::stdout(),
        Stream::Stderr => rustix::stdio::stderr(),
    }
}

/// Makes a pipe that the command may open again: programs write their logs to `/dev/stdout`, whoever they run as.
fn pipe_for(command: &Command) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    fchown(&write, Some(Uid::from_raw(command.uid)), None)
        .with_context(|| format!("giving user {} a pipe", command.uid))?;
    Ok((read, write))
}

/// Tells whether a pipe of the caller's serves the command as one of ours would.
///
/// One of another's is not made the command's user's: the caller may share it, and whoever opens it again would be kept out.
/// Nor would the command know what to do with one that does not block, or that keeps writes apart.
fn is_fit(pipe: &OwnedFd, command: &Command) -> Result<bool> {
    let flags = fcntl_getfl(pipe)?;
    let owner = fstat(pipe)?.st_uid;
    let may_open_all = command
        .capabilities
        .effective
        .contains(CapabilitySet::DAC_OVERRIDE);
    let may_open = owner != UNMAPPED && (owner == command.uid || may_open_all);
    Ok(may_open && !flags.intersects(OFlags::NONBLOCK | OFlags::DIRECT))
}

/// Copies a descriptor; the copy closes on exec.
pub(crate) fn copy(descriptor: BorrowedFd<'_>) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(descriptor, 3).context("copying a standard stream")
}
