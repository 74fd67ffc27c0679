//! What a container lacks before it can be started: its root, its spec, its networks and volumes.

use crate::container::{self, Container, Record};
use crate::engine;
use crate::engine::container::enter::Entered;
use crate::engine::container::origin::Origin;
use crate::engine::container::{connect, mounts};
use crate::image::ImageConfig;
use crate::monitor::{self, Connection};
use crate::narration::{Step, tell};
use crate::note::{Note, Notes};
use crate::options::ContainerOptions;
use crate::runtime::{Plan, apparmor};
use crate::spec::{self, Built, Given, Host, ImageDefaults, Subject};
use crate::store::Store;
use crate::sys::userns::Mapping;
use crate::sys::{owner, signal};
use anyhow::{Context, Result, anyhow};
use nix::sched::CloneFlags;
use rustix::fs::{Gid, Uid};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A container that lacks nothing but to be started.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) root: OwnedFd,
    /// The text of its `config.json`.
    pub(super) config: String,
    pub(super) connection: Option<Connection>,
}

/// Puts the container's root together and decides everything else. With `is_dry` nothing is changed on the host.
pub(super) fn prepare(
    entered: Entered,
    options: &ContainerOptions,
    container: &mut Container,
    origin: Origin,
    is_dry: bool,
    notes: Notes<'_>,
) -> Result<Prepared> {
    let Entered {
        ref store,
        ref mapping,
        ..
    } = entered;
    let config = origin.config(store)?;
    let root_directory = origin.root_directory().map(Path::to_owned);
    let root = origin.assemble(store, mapping, container)?;
    if !(is_dry && root_directory.is_some()) {
        container::make_init_files(root.as_fd())?;
    }
    let mut subject = subject(options, store, container, is_dry);
    subject.root = root_directory;
    subject.donors = entered.donors.known.clone();
    if subject.options.user.is_none() {
        subject.options.user = entered.default_user;
    }
    mounts::find_images(store, container, &mut subject)?;
    inherit(&config, options, &mut container.record)?;
    let ready = connect::prepare(&subject, container, mapping, entered.peers, notes)?;
    subject.gateways = ready.gateways();
    let host = Host {
        // An ordinary user may be another inside than was known at first.
        mapping: spec_mapping(mapping),
        profile: profile(&subject, mapping, notes),
        ..entered.host
    };
    let defaults = defaults(&config);
    let built = spec::build(&defaults, &subject, entered.settled, &host, root.as_fd())
        .map_err(|error| engine::of_unmapped(error, mapping, store.root()))?;
    keep(&built, &subject, container, notes)?;
    let plan = plan(&built.config, &subject.options)?;
    let connection = ready.connection(built.full_name, &subject.options.names.servers);
    entered.donors.check()?;
    Ok(Prepared {
        plan,
        root,
        config: built.config,
        connection,
    })
}

fn subject(
    options: &ContainerOptions,
    store: &Store,
    container: &Container,
    is_dry: bool,
) -> Subject {
    Subject {
        options: options.clone(),
        id: container.record.id.clone(),
        directory: container.directory.clone(),
        volumes: store.volumes_directory(),
        dry_run: is_dry,
        mounted: container.record.mounts.clone(),
        ..Subject::default()
    }
}

/// Writes down what was decided, and sees to it that volumes are there.
fn keep(
    built: &Built,
    subject: &Subject,
    container: &mut Container,
    notes: Notes<'_>,
) -> Result<()> {
    for note in &built.notes {
        notes(Note(anyhow!(note.clone())));
    }
    container.write_bundle(&built.config, &built.files)?;
    tell(|| Step::Bundle {
        config: container
            .directory
            .join("config.json")
            .display()
            .to_string(),
    });
    if !subject.dry_run {
        container.provide_volumes(&built.volumes)?;
        hand_over(&built.given)?;
    }
    container.record.mounts.clone_from(&built.mount_points);
    Ok(())
}

/// Returns what the runtime is to do.
fn plan(config: &str, options: &ContainerOptions) -> Result<Plan> {
    let mut plan = Plan::parse(config).context("reading the container's config.json")?;
    if let Some(terminal) = &mut plan.process.terminal
        && let Some(size) = monitor::terminal_size()
    {
        *terminal = (size.ws_row, size.ws_col);
    }
    plan.process.has_init = options.init && plan.namespaces.contains(CloneFlags::CLONE_NEWPID);
    Ok(plan)
}

/// Returns the AppArmor profile that the container has unless it asks for another, and has it loaded. Only root can do that, and
/// where even root cannot, the container does without, which is said.
fn profile(subject: &Subject, mapping: &Mapping, notes: Notes<'_>) -> Option<&'static str> {
    if !mapping.is_root() || subject.options.security.privileged {
        return None;
    }
    if subject.dry_run {
        return apparmor::is_on().then_some(apparmor::OWN);
    }
    apparmor::provide().unwrap_or_else(|error| {
        notes(Note(error.context("the container has no AppArmor profile")));
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
pub(super) fn inherit(
    config: &ImageConfig,
    options: &ContainerOptions,
    record: &mut Record,
) -> Result<()> {
    for (key, value) in &config.config.labels {
        let label = record.labels.entry(key.clone());
        label.or_insert_with(|| value.clone());
    }
    // What is no signal is an image's mistake, not a reason not to run it.
    let images = config.config.stop_signal.as_ref();
    let images = images.filter(|text| signal::parse(text).is_some());
    let stop = &mut record.stop;
    stop.signal = stop.signal.take().or_else(|| images.cloned());
    record.exposed = connect::exposed(&options.publish, &config.config.exposed_ports);
    // Kept when the command has started.
    record.command = spec::arguments(&defaults(config), options)?;
    Ok(())
}

fn defaults(config: &ImageConfig) -> ImageDefaults {
    let config = config.config.clone();
    ImageDefaults {
        user: config.user,
        environment: config.env,
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        working_directory: config.working_dir,
        volumes: config.volumes,
    }
}

pub(super) fn spec_mapping(mapping: &Mapping) -> Option<spec::Mapping> {
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
