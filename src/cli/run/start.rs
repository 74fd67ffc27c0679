//! From the flags of `run` to a container that has ended.

use crate::cli::failure::{self, DDOCK_FAILED};
use crate::cli::run::lifetime::{IdFile, pairs};
use crate::cli::run::origin::Origin;
use crate::cli::run::peers::Peers;
use crate::cli::run::{Company, Run, connect, explain, mounts};
use crate::cli::{names, output};
use crate::container::log::Driver;
use crate::container::{self, Container, Record, Status, Stop, Volumes};
use crate::engine;
use crate::engine::place;
use crate::image::ImageConfig;
use crate::monitor::{self, Connection, End, Job, Leave, Outcome, Session};
use crate::narration::{Narration, Step, tell};
use crate::runtime::{Leftover, Plan, Privilege, apparmor};
use crate::spec::{self, Given, Host, ImageDefaults, Request};
use crate::store::{NameInUse, NotFound, Store};
use crate::sys::program::Protected;
use crate::sys::userns::Mapping;
use crate::sys::{owner, signal};
use anyhow::{Context, Result};
use chrono::Utc;
use nix::sched::CloneFlags;
use rustix::fs::{Gid, Uid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

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
    (company, program): (Company, Protected),
) -> Result<u8> {
    let wish = || format!("cannot run `{}`", run.origin);
    // Before anything looks at what this process has: how many processors, for one.
    let leftover = Leftover::of_caller().with_context(wish)?;
    let narration = run.explain.map(explain::listen).transpose()?;
    place::sweep(store, &failure::note);
    let (mut container, origin) = create(run, store).with_context(wish)?;
    if let Some(mut file) = id_file.filter(|_| !run.request.dry_run) {
        file.write(&container.record.id).with_context(wish)?;
    }
    let Company { donors, peers } = company;
    let prepared = prepare(run, store, mapping, peers, &mut container, origin)
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
    if run.request.dry_run {
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
        log: keeps_log(run).then_some(run.lifetime.log.rotation),
        timeout: run.lifetime.timeout,
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
    run.lifetime.log.driver != Driver::None && (run.session.detached || !run.remove)
}

/// Finds the image and makes the container under one lock, so that the image cannot go in between.
fn create(run: &Run, store: &Store) -> Result<(Container, Origin)> {
    // Before the store is locked: they may come from a pipe.
    let labels = run.lifetime.labels.read()?;
    let annotations = run.lifetime.annotations.iter().map(String::as_str);
    let annotations = pairs("annotation", annotations)?;
    for _ in 0..NAME_ATTEMPTS {
        let shared = store.shared()?;
        let origin = Origin::find(run, store)?;
        let record = Record {
            id: container::new_id(),
            name: run.name.clone().map_or_else(names::random, Ok)?,
            origin: origin.record(&run.origin),
            holds: None,
            volumes: Vec::new(),
            command: Vec::new(),
            created: Utc::now(),
            auto_remove: run.remove,
            labels: labels.clone(),
            annotations: annotations.clone(),
            stop: run.lifetime.stop.clone(),
            log: run.lifetime.log.clone(),
            mounts: Vec::new(),
            networks: Vec::new(),
            holds_switch: false,
            ports: Vec::new(),
            exposed: Vec::new(),
            status: Status::Created,
        };
        match Container::create(store, shared, origin.image(), record) {
            Err(error) if run.name.is_none() && error.is::<NameInUse>() => {}
            Err(error)
                if run.lifetime.replace && !run.request.dry_run && error.is::<NameInUse>() =>
            {
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

/// A container that lacks nothing but to be started.
struct Prepared {
    plan: Plan,
    root: OwnedFd,
    /// The text of its `config.json`.
    config: String,
    connection: Option<Connection>,
}

/// Puts the container's root together and decides everything else.
fn prepare(
    run: &Run,
    store: &Store,
    mapping: &Mapping,
    peers: Option<Peers>,
    container: &mut Container,
    origin: Origin,
) -> Result<Prepared> {
    let config = origin.config(store)?;
    let root_directory = origin.root_directory().map(Path::to_owned);
    let root = origin.assemble(store, mapping, container)?;
    if !(run.request.dry_run && root_directory.is_some()) {
        container::make_init_files(root.as_fd())?;
    }
    let mut request = Request {
        id: container.record.id.clone(),
        directory: container.directory.clone(),
        root: root_directory,
        annotations: container.record.annotations.clone(),
        volumes: store.volumes_directory(),
        ..run.request.clone()
    };
    let (labels, stop) = (&mut container.record.labels, &mut container.record.stop);
    inherit(&config, labels, stop);
    mounts::look_up(run, store, container, &mut request)?;
    let exposed = connect::exposed(&run.publish, &config.config.exposed_ports);
    let publications = connect::publications(&run.publish, &exposed);
    container.record.exposed = exposed;
    let ready = connect::prepare(&request, container, mapping, peers, &publications)?;
    request.names.gateways = ready.gateways();
    let host = Host::detect(spec_mapping(mapping), profile(&request, mapping))?;
    let built = spec::build(&defaults(config), &request, &host, root.as_fd())
        .map_err(|error| engine::of_unmapped(error, mapping, store.root()))?;
    for note in &built.notes {
        output::tell(&format!("ddock: {note}\n"));
    }
    container.write_bundle(&built.config, &built.files)?;
    tell(|| Step::Bundle {
        config: container
            .directory
            .join("config.json")
            .display()
            .to_string(),
    });
    if !request.dry_run {
        container.provide_volumes(&built.volumes)?;
        hand_over(&built.given)?;
    }
    container.record.mounts = built.mount_points;
    let mut plan = Plan::parse(&built.config).context("reading the container's config.json")?;
    // Kept when the command has started.
    let words = plan.process.arguments.iter();
    container.record.command = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(terminal) = &mut plan.process.terminal
        && let Some(size) = monitor::terminal_size()
    {
        *terminal = (size.ws_row, size.ws_col);
    }
    plan.process.has_init = run.lifetime.init && plan.namespaces.contains(CloneFlags::CLONE_NEWPID);
    let connection = ready.connection(built.full_name, &request.names.servers);
    Ok(Prepared {
        plan,
        root,
        config: built.config,
        connection,
    })
}

/// Returns the AppArmor profile that the container has unless it asks for another, and has it loaded. Only root can do that, and
/// where even root cannot, the container does without, which is said.
fn profile(request: &Request, mapping: &Mapping) -> Option<&'static str> {
    if !mapping.is_root() || request.security.privileged {
        return None;
    }
    if request.dry_run {
        return apparmor::is_on().then_some(apparmor::OWN);
    }
    apparmor::provide().unwrap_or_else(|error| {
        output::tell(&format!(
            "ddock: the container has no AppArmor profile: {error:#}\n"
        ));
        None
    })
}

/// Makes files of the host the container's user's.
fn hand_over(given: &[Given]) -> Result<()> {
    for Given { source, uid, gid } in given {
        let (user, group) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        owner::give(source, user, group).with_context(|| {
            let source = source.display();
            format!("making `{source}` the property of user {uid} and group {gid}")
        })?;
    }
    Ok(())
}

/// Takes over from the image what the user left open.
fn inherit(config: &ImageConfig, labels: &mut BTreeMap<String, String>, stop: &mut Stop) {
    for (key, value) in &config.config.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    // What is no signal is an image's mistake, not a reason not to run it.
    let images = config.config.stop_signal.as_ref();
    let images = images.filter(|text| signal::parse(text).is_some());
    stop.signal = stop.signal.take().or_else(|| images.cloned());
}

fn defaults(config: ImageConfig) -> ImageDefaults {
    let config = config.config;
    ImageDefaults {
        user: config.user,
        environment: config.env,
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        working_directory: config.working_dir,
        volumes: config.volumes,
    }
}

fn spec_mapping(mapping: &Mapping) -> Option<spec::Mapping> {
    match mapping {
        Mapping::Root => None,
        // Who is alone is number 0, or the own number and nobody else.
        Mapping::Single { inside, .. } => Some(spec::Mapping {
            users: u32::from(inside.uid == 0),
            groups: u32::from(inside.gid == 0),
            own_user: inside.uid,
            own_group: inside.gid,
        }),
        Mapping::Ranges {
            uids, gids, inside, ..
        } => Some(spec::Mapping {
            users: uids
                .count
                .saturating_add(u32::from(inside.uid <= uids.count)),
            groups: gids
                .count
                .saturating_add(u32::from(inside.gid <= gids.count)),
            own_user: inside.uid,
            own_group: inside.gid,
        }),
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
