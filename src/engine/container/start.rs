//! A container starts, for the first time or again.

use crate::container::{self, Container, Record, Status};
use crate::engine::container::create::{Naming, make};
use crate::engine::container::enter::{Entered, Groundwork};
use crate::engine::container::origin::Origin;
use crate::engine::container::prepare::{Prepared, inherit, prepare};
use crate::engine::place;
use crate::fault::{Fault, Kind};
use crate::monitor::{self, End, Job, Session};
use crate::narration::Narration;
use crate::note::{Note, Notes};
use crate::options::{ContainerOptions, Driver};
use crate::runtime::{Leftover, Privilege};
use crate::store::{NotFound, Store};
use crate::sys::program::Protected;
use crate::sys::userns::Mapping;
use anyhow::{Result, anyhow};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Who starts a container, and what comes of that to him.
pub(crate) struct Starter<'a> {
    pub(crate) session: Session,
    /// Descriptors of the caller that are the command's too, from 3 on.
    pub(crate) handed: Vec<OwnedFd>,
    /// A process of this program becomes the command.
    pub(crate) program: Protected,
    /// Where the steps arrive, if somebody wants to hear them.
    pub(crate) narration: Option<&'a Narration>,
    pub(crate) notes: Notes<'a>,
}

/// Makes a container and starts it. `made` hears of its ID before it starts.
pub(crate) fn run(
    entered: Entered,
    options: &ContainerOptions,
    naming: &Naming,
    starter: Starter<'_>,
    made: impl FnOnce(&str) -> Result<()>,
) -> Result<(String, End)> {
    let leftover = Leftover::of_caller()?;
    place::sweep(&entered.store, starter.notes);
    let (container, origin) = make(&entered.store, options, naming, starter.notes)?;
    made(&container.record.id)?;
    start(entered, container, origin, leftover, starter)
}

/// Returns the `config.json` of a container that nobody makes.
pub(crate) fn preview(
    entered: Entered,
    options: &ContainerOptions,
    narration: Option<&Narration>,
    notes: Notes<'_>,
) -> Result<String> {
    Leftover::of_caller()?;
    place::sweep(&entered.store, notes);
    let (mut container, origin) = make(&entered.store, options, &Naming::default(), notes)?;
    let asked = asked(&container.record)?;
    let prepared = prepare(entered, &asked, &mut container, origin, true, notes);
    narration.map_or(Ok(()), Narration::pass_on)?;
    let removed = container.ended(None);
    let Prepared { config, .. } = prepared?;
    removed.map(|()| config)
}

/// Makes a container that is started another time, and returns its ID.
pub(crate) fn create(
    groundwork: &Groundwork,
    root: &Path,
    options: &ContainerOptions,
    naming: &Naming,
    notes: Notes<'_>,
) -> Result<String> {
    // Whom it joins is looked for when it starts.
    groundwork.mapping.enter()?;
    let store = Store::open(root, &groundwork.mapping.to_string())?;
    place::sweep(&store, notes);
    let (mut container, origin) = make(&store, options, naming, notes)?;
    inherit(&origin.config(&store)?, options, &mut container.record)?;
    container.created()?;
    Ok(container.record.id.clone())
}

/// Starts a container that somebody made, or that has ended; none if it runs already. `session` says what the starter and the
/// container are to have to do with each other.
pub(crate) fn start_again(
    root: &Path,
    name: &str,
    session: impl FnOnce(&ContainerOptions) -> Result<Session>,
    program: Protected,
    notes: Notes<'_>,
) -> Result<Option<End>> {
    let store = place::existing(root)?.ok_or_else(|| NotFound::container(name))?;
    let mut record = container::find(&store, name)?;
    while container::is_running(&store, &record)? {
        if matches!(record.status, Status::Running { .. }) {
            return Ok(None);
        }
        // It is about to start, or ends just now.
        store.wait_for_owner(&record.id)?;
        record = container::find(&store, name)?;
    }
    let options = asked(&record)?;
    let starter = Starter {
        session: session(&options)?,
        handed: Vec::new(),
        program,
        narration: None,
        notes,
    };
    let groundwork = Groundwork::lay(&options, root)?;
    let entered = groundwork.enter(&options, root, None, false)?;
    let leftover = Leftover::of_caller()?;
    place::sweep(&entered.store, starter.notes);
    let Some(container) = Container::own(&entered.store, &record.id)? else {
        return Ok(None);
    };
    let origin = Origin::again(&container.record, &options, &entered.store)?;
    start(entered, container, origin, leftover, starter).map(|(_, end)| Some(end))
}

/// Returns what a container was asked to be.
pub(super) fn asked(record: &Record) -> Result<ContainerOptions> {
    let asked = record.options.as_ref().map(container::Asked::options);
    asked.flatten().cloned().ok_or_else(|| {
        let message = format!(
            "container {} cannot be started again: what it was asked to be is not known",
            record.name
        );
        Fault::new(Kind::Conflict, message)
            .hint("it was made by another version of ddock; `ddock run` makes a new one")
            .into()
    })
}

fn start(
    entered: Entered,
    mut container: Container,
    origin: Origin,
    leftover: Leftover,
    starter: Starter<'_>,
) -> Result<(String, End)> {
    let notes = starter.notes;
    let options = asked(&container.record)?;
    let privilege = privilege(&entered.mapping, starter.program);
    let prepared = prepare(entered, &options, &mut container, origin, false, notes);
    starter.narration.map_or(Ok(()), Narration::pass_on)?;
    let Prepared {
        plan,
        root,
        config,
        connection,
    } = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // The first error is the one to tell.
            container.ended(None).ok();
            return Err(error);
        }
    };
    // Or the monitor would have it as long as the container runs.
    drop(config);
    for notice in leftover.notices(plan.process.no_new_privileges) {
        notes(Note(anyhow!(notice)));
    }
    let id = container.record.id.clone();
    let log = options.log.rotation;
    let job = Job {
        container,
        plan: &plan,
        root,
        privilege,
        log: keeps_log(&options, &starter.session).then_some(log),
        timeout: options.timeout.map(Duration::from_secs),
        session: starter.session,
        handed: starter.handed,
        connection,
        notify: &|notice| notes(Note(anyhow!(notice.to_owned()))),
        narration: starter.narration,
    };
    drop(options);
    Ok((id, monitor::run(job)?))
}

/// Whoever sees the output of a container that leaves nothing needs no log of it.
fn keeps_log(options: &ContainerOptions, session: &Session) -> bool {
    options.log.driver != Driver::None && (session.detached || !options.remove)
}

fn privilege(mapping: &Mapping, program: Protected) -> Privilege {
    Privilege {
        program,
        in_user_namespace: !mapping.is_root(),
        can_set_groups: !mapping.is_single(),
    }
}
