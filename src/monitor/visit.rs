//! Visits to a container that runs already, through its monitor's door.

use crate::container::log::Stream;
use crate::monitor::attach::{Client, End, ended};
use crate::monitor::relay::Relay;
use crate::monitor::signals::Signals;
use crate::monitor::streams::copy;
use crate::monitor::{Change, DOOR, FromClient, FromMonitor, Outcome, Session, Vanished};
use crate::network::Switch;
use crate::sys::message::Channel;
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// Attaches to the container in `directory` until it ends or the client leaves; `None` if it does not run.
pub(crate) fn attach(
    directory: &Path,
    session: Session,
    notify: &dyn Fn(&str),
) -> Result<Option<End>> {
    let Some(monitor) = knock(directory)? else {
        return Ok(None);
    };
    let mut relays = Vec::new();
    let outputs = [
        (Stream::Stdout, session.stdout, rustix::stdio::stdout()),
        (Stream::Stderr, session.stderr, rustix::stdio::stderr()),
    ];
    for (stream, _, own) in outputs.into_iter().filter(|(_, is_wanted, _)| *is_wanted) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
        relays.push(Relay::output(stream, read, copy(own)?));
        ask(&monitor, &FromClient::Output(stream), Some(write.as_fd()))?;
    }
    ask(&monitor, &FromClient::Attach, None)?;
    let client = Client {
        monitor,
        signals: Signals::take()?,
        relays,
        direct: Vec::new(),
        is_visitor: true,
        session,
        notify,
        narration: None,
    };
    client.attach().map(Some)
}

/// Waits for the end of the container in `directory`; `None` if it does not run. Fails with [`Vanished`] if nobody saw its end.
pub(crate) fn wait(directory: &Path) -> Result<Option<Outcome>> {
    let Some(monitor) = knock(directory)? else {
        return Ok(None);
    };
    loop {
        match monitor.receive().context("hearing from the monitor")? {
            Some((FromMonitor::Failed(error), _)) => bail!(error),
            Some((message, _)) => {
                if let Some(outcome) = ended(&message) {
                    return Ok(Some(outcome));
                }
            }
            None => return Err(Vanished.into()),
        }
    }
}

/// Has the container's monitor send signal `number` to its command, and kill it unless it ends within `grace`, if that
/// has an end; returns when it has ended. False if it does not run.
pub(crate) fn stop(directory: &Path, number: i32, grace: Option<Duration>) -> Result<bool> {
    let Some(monitor) = knock(directory)? else {
        return Ok(false);
    };
    // A monitor that is gone is noticed below.
    monitor.send(&FromClient::Signal(number), None).ok();
    let mut grace = grace;
    loop {
        let mut ends = [PollFd::new(&monitor, PollFlags::IN)];
        let left = grace.and_then(|grace| Timespec::try_from(grace).ok());
        let ready = retry_on_intr(|| poll(&mut ends, left.as_ref()));
        if ready.context("waiting for the container")? == 0 {
            monitor.send(&FromClient::Signal(libc::SIGKILL), None).ok();
            grace = None;
            continue;
        }
        match monitor.receive().context("hearing from the monitor")? {
            Some((FromMonitor::Failed(error), _)) => bail!(error),
            Some((message, _)) if ended(&message).is_some() => return Ok(true),
            Some(_) => {}
            None => return Err(Vanished.into()),
        }
    }
}

/// Has the container's monitor send signal `number` to its command; false if it does not run.
pub(crate) fn signal(directory: &Path, number: i32) -> Result<bool> {
    let Some(monitor) = knock(directory)? else {
        return Ok(false);
    };
    ask(&monitor, &FromClient::Signal(number), None)?;
    // Answered by the end of the connection, once the signal was sent.
    monitor.send(&FromClient::Detach, None).ok();
    match monitor.receive().context("hearing from the monitor")? {
        Some((FromMonitor::Failed(error), _)) => bail!(error),
        _ => Ok(true),
    }
}

/// Has the container's monitor kill its command; false if it does not run.
pub(crate) fn kill(directory: &Path) -> Result<bool> {
    signal(directory, libc::SIGKILL)
}

/// Has the container's monitor change its networks, and returns what the user should know; `None` if it does not run.
pub(crate) fn change(directory: &Path, change: Change) -> Result<Option<Vec<String>>> {
    let Some(monitor) = knock(directory)? else {
        return Ok(None);
    };
    ask(&monitor, &FromClient::Change(change), None)?;
    match monitor.receive().context("hearing from the monitor")? {
        Some((FromMonitor::Changed { notices }, _)) => Ok(Some(notices)),
        Some((FromMonitor::Failed(error), _)) => bail!(error),
        // It ended meanwhile.
        Some(_) | None => Ok(None),
    }
}

/// Returns what holds the networks of the container in `directory`, an ordinary user's; `None` if it runs no more.
pub(crate) fn switch(directory: &Path) -> Result<Option<Switch>> {
    let Some(monitor) = knock(directory)? else {
        return Ok(None);
    };
    ask(&monitor, &FromClient::Switch, None)?;
    match monitor.receive().context("hearing from the monitor")? {
        Some((FromMonitor::Switch, switch)) => Ok(switch.map(Switch::from)),
        _ => Ok(None),
    }
}

/// Asks something of a monitor. One that is gone by now is noticed where it is heard: it may have told how the container
/// ended.
fn ask(monitor: &Channel, wanted: &FromClient, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    match monitor.send(wanted, descriptor) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        sent => sent.context("asking the container's monitor"),
    }
}

fn knock(directory: &Path) -> Result<Option<Channel>> {
    match Channel::connect(directory, DOOR) {
        Ok(channel) => Ok(Some(channel)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).context("reaching the container's monitor"),
    }
}
