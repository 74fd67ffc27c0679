//! From the flags of `run` to a container that has ended.

use crate::cli::failure::{self, DDOCK_FAILED};
use crate::cli::run::id_file::IdFile;
use crate::cli::run::origin::Origin;
use crate::cli::run::prepare::{Facts, Prepared, prepare};
use crate::cli::run::{Company, Run, explain};
use crate::cli::{names, output};
use crate::container::{self, Container, Record, Status, Volumes};
use crate::engine::place;
use crate::monitor::{self, End, Job, Leave, Outcome, Session};
use crate::narration::{Narration, Step, tell};
use crate::options::Driver;
use crate::runtime::{Leftover, Privilege};
use crate::spec::{Host, Settled};
use crate::store::{NameInUse, NotFound, Store};
use crate::sys::program::Protected;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use chrono::Utc;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How many random names are tried before the store is taken to be full of them.
const NAME_ATTEMPTS: usize = 16;

/// Runs the container, from a directory or an image that is in the store; returns the exit code: its own, unless it is left running.
///
/// This process is inside the user namespace that `mapping` describes, if it describes one.
pub(super) fn start(
    run: &Run,
    (session, handed): (Session, Vec<OwnedFd>),
    id_file: Option<IdFile>,
    store: &Store,
    mapping: &Mapping,
    (host, settled): (Host, Settled),
    (company, program): (Company, Protected),
) -> Result<u8> {
    let wish = || format!("cannot run `{}`", run.options.root);
    // Before anything looks at what this process has: how many processors, for one.
    let leftover = Leftover::of_caller().with_context(wish)?;
    let narration = run.explain.map(explain::listen).transpose()?;
    place::sweep(store, &failure::note);
    let (mut container, origin) = create(run, store).with_context(wish)?;
    if let Some(mut file) = id_file.filter(|_| !run.is_dry) {
        file.write(&container.record.id).with_context(wish)?;
    }
    let Company { donors, peers } = company;
    let facts = Facts {
        host,
        settled,
        donors: donors.known.clone(),
        mapping,
    };
    let prepared = prepare(run, store, facts, peers, &mut container, origin)
        .and_then(|prepared| donors.check().map(|()| prepared));
    narration.as_ref().map_or(Ok(()), Narration::pass_on)?;
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
            return Err(error).with_context(wish);
        }
    };
    if run.is_dry {
        container.ended(None).with_context(wish)?;
        output::print(&format!("{config}\n"))?;
        return Ok(0);
    }
    // Or the monitor would have it as long as the container runs.
    drop(config);
    for notice in leftover.notices(plan.process.no_new_privileges) {
        output::tell(&format!("ddock: {notice}\n"));
    }
    let id = container.record.id.clone();
    let job = Job {
        container,
        plan: &plan,
        root,
        privilege: privilege(mapping, program),
        log: keeps_log(run).then_some(run.options.log.rotation),
        timeout: run.options.timeout.map(Duration::from_secs),
        session,
        handed,
        connection,
        notify: &|notice| output::tell(&format!("ddock: {notice}\n")),
        narration: narration.as_ref(),
    };
    conclude(&monitor::run(job).with_context(wish)?, &id)
}

/// Says what is to be said at the end of a session, and returns the exit code.
fn conclude(end: &End, id: &str) -> Result<u8> {
    match *end {
        End::Detached(Leave::Done) => output::print(&format!("{id}\n")).map(|()| 0),
        ref end => Ok(code_of(end)),
    }
}

/// Says how a client's time with a container ended, and returns the exit code.
pub(crate) fn code_of(end: &End) -> u8 {
    match *end {
        End::Ended(outcome) => {
            tell_of_end(outcome);
            outcome.status.code()
        }
        End::Incomplete => 1,
        // Docker's words, and its code.
        End::Cut(cut) => {
            output::tell(&format!("{cut}\n"));
            1
        }
        End::HungUp => left(Leave::Signal(libc::SIGHUP)),
        End::Detached(leave) => left(leave),
    }
}

/// Says why a client left a container running, if it was a person, and returns the exit code.
fn left(leave: Leave) -> u8 {
    match leave {
        Leave::Done => 0,
        Leave::Keys => {
            output::tell("read escape sequence\n");
            0
        }
        Leave::Signal(number) => u8::try_from(128 + number).unwrap_or(DDOCK_FAILED),
    }
}

/// Whoever sees the output of a container that leaves nothing needs no log of it.
fn keeps_log(run: &Run) -> bool {
    run.options.log.driver != Driver::None && (run.session.detached || !run.options.remove)
}

/// Finds the image and makes the container under one lock, so that the image cannot go in between.
fn create(run: &Run, store: &Store) -> Result<(Container, Origin)> {
    for _ in 0..NAME_ATTEMPTS {
        let shared = store.shared()?;
        let origin = Origin::find(&run.options, store)?;
        let record = Record {
            id: container::new_id(),
            name: run.name.clone().map_or_else(names::random, Ok)?,
            origin: origin.record(&run.options.root),
            holds: None,
            volumes: Vec::new(),
            command: Vec::new(),
            created: Utc::now(),
            auto_remove: run.options.remove,
            labels: run.options.labels.clone(),
            annotations: run.options.annotations.clone(),
            stop: run.options.stop.clone(),
            log: run.options.log.clone(),
            mounts: Vec::new(),
            networks: Vec::new(),
            holds_switch: false,
            ports: Vec::new(),
            exposed: Vec::new(),
            status: Status::Created,
        };
        match Container::create(store, shared, origin.image(), record) {
            Err(error) if run.name.is_none() && error.is::<NameInUse>() => {}
            Err(error) if run.replace && !run.is_dry && error.is::<NameInUse>() => {
                replace(store, run.name.as_deref())?;
            }
            created => {
                let container = created?;
                tell(|| told(&container, &origin));
                return Ok((container, origin));
            }
        }
    }
    anyhow::bail!("found no free name for the container; give it one with `--name`")
}

fn told(container: &Container, origin: &Origin) -> Step {
    let upper = container.upper();
    let changes = origin.root_directory().unwrap_or(&upper);
    Step::Container {
        id: container.record.id.clone(),
        directory: changes.display().to_string(),
    }
}

/// Removes the container that has the name, running or not; that it is gone is no error.
fn replace(store: &Store, name: Option<&str>) -> Result<()> {
    let Some(id) = name.map_or(Ok(None), |name| store.named_container(name))? else {
        return Ok(());
    };
    // As podman's: volumes without a name stay.
    let remove = |record| container::remove(store, &record, Some(monitor::kill), Volumes::Kept);
    match container::find(store, &id).and_then(remove) {
        Err(error) if error.is::<NotFound>() => Ok(()),
        removed => removed.context("replacing the container that has the name"),
    }
}

fn privilege(mapping: &Mapping, program: Protected) -> Privilege {
    Privilege {
        program,
        in_user_namespace: !mapping.is_root(),
        can_set_groups: !mapping.is_single(),
    }
}

/// Says what ended a container, if it was not its command.
fn tell_of_end(outcome: Outcome) {
    if outcome.is_overdue {
        output::tell(
            "ddock: the container was killed because its time was over (see `--timeout`)\n",
        );
    }
    if outcome.out_of_memory {
        output::tell(
            "ddock: a process of the container was killed because its memory limit was reached (see `--memory`)\n",
        );
    }
}
