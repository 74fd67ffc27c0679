//! The processes that serve a container while it runs: each that dies is started again, and that is written down.

use crate::container::Container;
use crate::monitor::change::{Change, way_out};
use crate::monitor::connection::Connected;
use crate::network::{Forwarder, Link, Responder, Servant, Switch, write_down};
use anyhow::{Context, Result};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// The monitor's `oom_score_adj` (proc(5)): killed after everything but what is exempt. It holds little, and the container
/// ends with it.
const OF_MONITOR: &str = "-999";

/// That of any process.
const OF_ANY: &str = "0";

/// A container's connection, as the monitor looks after it.
pub(super) struct Serving<'a> {
    pub(super) connected: &'a mut Connected,
    /// None of a command that only visits one.
    pub(super) container: Option<&'a mut Container>,
}

impl Serving<'_> {
    /// Changes the container's networks, which the switch holds, if any does; returns what the user should know.
    pub(super) fn change(
        &mut self,
        wanted: Change,
        switch: Option<&Switch>,
    ) -> Result<Vec<String>> {
        let container = self.container.as_deref_mut();
        let container = container.context("this command's networks are its container's")?;
        unprotected(|| self.connected.change(wanted, switch, container))
    }

    /// Returns what becomes readable when one has died.
    pub(super) fn ends(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.servants().filter_map(Servant::end)
    }

    /// Tells when one that has died is to be started again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.servants().filter_map(Servant::due).min()
    }

    fn servants(&self) -> impl Iterator<Item = &Servant> {
        let forwarder = self.connected.forwarder.as_ref().map(Forwarder::servant);
        let responder = self.connected.responder.as_ref().map(Responder::servant);
        let link = self.connected.link.iter().flat_map(Link::servants);
        forwarder.into_iter().chain(responder).chain(link)
    }

    /// Buries those that have died, and starts again those whose time it is.
    pub(super) fn look_after(&mut self) {
        let Some(container) = self.container.as_deref_mut() else {
            return;
        };
        let said = unprotected(|| self.connected.look_after(container));
        if !said.is_empty() {
            // On a full disk they are started all the same.
            write_down(&container.directory, &said).ok();
        }
    }
}

impl Connected {
    fn look_after(&mut self, container: &Container) -> Vec<String> {
        let Some(namespace) = &self.namespace else {
            return Vec::new();
        };
        let (listeners, place, mut said) = (&self.listeners, &self.place, Vec::new());
        if let (Some(forwarder), Some(way_out)) =
            (&mut self.forwarder, way_out(&container.record.networks))
        {
            said.extend(forwarder.look_after(listeners, way_out, place));
        }
        if let Some(responder) = &mut self.responder {
            said.extend(responder.look_after(namespace, place));
        }
        if let (Some(link), Some(program)) = (&mut self.link, &self.program) {
            let ports = &container.record.ports;
            let directory = &container.directory;
            said.extend(link.look_after(program, namespace, listeners, ports, directory));
        }
        said
    }
}

/// Has the kernel kill the monitor after all else. Without the right to it, as an ordinary user's, it does without.
///
/// Not inherited by what was started until then.
pub(super) fn protect() {
    fs_err::write("/proc/self/oom_score_adj", OF_MONITOR).ok();
}

/// Does what starts processes that are to be killed as any.
fn unprotected<T>(act: impl FnOnce() -> T) -> T {
    fs_err::write("/proc/self/oom_score_adj", OF_ANY).ok();
    let done = act();
    protect();
    done
}
