//! A command in a container that runs: a process of its own that holds its terminal and waits for it, as the monitor does for
//! the container.
//!
//! It is not the monitor's matter: what visits a container may be much, and costs that nothing.

use crate::monitor::attach::End;
use crate::monitor::connection::Connected;
use crate::monitor::servants::Serving;
use crate::monitor::streams::{Wiring, copy};
use crate::monitor::supervise::{Ends, Outcome, Party, Session, connect, launch, say_end};
use crate::monitor::watch::{Input, Watch};
use crate::options::Stop;
use crate::runtime::{self, Donor, Privilege, Visit};
use crate::sys::words;
use anyhow::{Context, Result};

/// A command that is to run in a container.
pub(crate) struct Errand<'a> {
    /// The container's ID.
    pub(crate) id: &'a str,
    pub(crate) visit: &'a Visit,
    /// The container's first process.
    pub(crate) host: &'a Donor,
    pub(crate) privilege: Privilege,
    pub(crate) session: Session,
    /// Tells the user something that is not the command's.
    pub(crate) notify: &'a dyn Fn(&str),
}

/// Runs a command in a container, from a process of its own, and attaches to that until both are gone or the client leaves.
///
/// Needs a process with one thread, in the container's user namespace.
pub(crate) fn exec(errand: &Errand<'_>) -> Result<End> {
    let wiring = Wiring::new(&errand.session, &errand.visit.command, false)?;
    let party = Party {
        session: errand.session.clone(),
        notify: errand.notify,
        narration: None,
    };
    launch(wiring, party, |ends, channel| {
        let mut watch = Watch::new(channel, !errand.session.detached, Stop::default());
        let end = run(errand, ends, &mut watch);
        say_end(end.map(|outcome| (outcome, Vec::new())), &mut watch);
    })
}

fn run(errand: &Errand<'_>, ends: Ends, watch: &mut Watch) -> Result<Outcome> {
    // Away from the caller's terminal: a ^C there is the client's to pass on.
    rustix::process::setsid().context("starting a session")?;
    words::replace(&format!("ddock: exec in {}", &errand.id[..12]))
        .context("taking the caller's words away")?;
    for (stream, from) in ends.sources {
        watch.hub.add_source(stream, from)?;
    }
    watch.input = ends.input.map(|to| Input {
        to,
        is_terminal: false,
    });
    let (visit, host, privilege) = (errand.visit, errand.host, errand.privilege);
    let mut running = runtime::enter(visit, host, privilege, ends.streams)?;
    watch.host = Some(copy(host.end())?);
    if connect(&mut running, ends.sinks, errand.session.detached, watch).is_err() {
        // The client is dead.
        running.signal(libc::SIGKILL)?;
    }
    let mut serving = Serving {
        connected: &mut Connected::default(),
        container: None,
    };
    watch.until_end(&running, &mut serving)?;
    let (status, out_of_memory) = running.finish()?;
    // Who reads it is told the end with what arrived.
    watch.hub.end().ok();
    Ok(Outcome {
        status,
        out_of_memory,
        is_overdue: false,
    })
}
