//! What a container lacks before it can be started: its root, its spec, its networks and volumes.

use crate::cli::output;
use crate::cli::run::origin::Origin;
use crate::cli::run::peers::Peers;
use crate::cli::run::{Run, connect, mounts};
use crate::container::{self, Container, Record};
use crate::engine;
use crate::image::ImageConfig;
use crate::monitor::{self, Connection};
use crate::narration::{Step, tell};
use crate::options::{ContainerOptions, Publish};
use crate::runtime::{Plan, apparmor};
use crate::spec::{self, Built, Donors, Given, Host, ImageDefaults, Settled, Subject};
use crate::store::Store;
use crate::sys::userns::Mapping;
use crate::sys::{owner, signal};
use anyhow::{Context, Result};
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

/// What is known before the container is made.
pub(super) struct Facts<'a> {
    pub(super) host: Host,
    pub(super) settled: Settled,
    pub(super) donors: Donors,
    pub(super) mapping: &'a Mapping,
}

/// Puts the container's root together and decides everything else.
pub(super) fn prepare(
    run: &Run,
    store: &Store,
    facts: Facts<'_>,
    peers: Option<Peers>,
    container: &mut Container,
    origin: Origin,
) -> Result<Prepared> {
    let mapping = facts.mapping;
    let config = origin.config(store)?;
    let root_directory = origin.root_directory().map(Path::to_owned);
    let root = origin.assemble(store, mapping, container)?;
    if !(run.is_dry && root_directory.is_some()) {
        container::make_init_files(root.as_fd())?;
    }
    let mut subject = Subject {
        options: run.options.clone(),
        id: container.record.id.clone(),
        directory: container.directory.clone(),
        root: root_directory,
        volumes: store.volumes_directory(),
        dry_run: run.is_dry,
        donors: facts.donors,
        ..Subject::default()
    };
    let files = &mut subject.options.files;
    files.inherited = mounts::inherit(store, files)?;
    mounts::find_images(store, container, &mut subject)?;
    inherit(&config, &subject.options.publish, &mut container.record);
    let ready = connect::prepare(&subject, container, mapping, peers)?;
    subject.gateways = ready.gateways();
    let host = Host {
        // An ordinary user may be another inside than was known at first.
        mapping: spec_mapping(mapping),
        profile: profile(&subject, mapping),
        ..facts.host
    };
    let built = spec::build(
        &defaults(config),
        &subject,
        facts.settled,
        &host,
        root.as_fd(),
    )
    .map_err(|error| engine::of_unmapped(error, mapping, store.root()))?;
    keep(&built, &subject, container)?;
    let plan = plan(&built.config, &subject.options)?;
    // Kept when the command has started.
    let words = plan.process.arguments.iter();
    container.record.command = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let servers = &subject.options.names.servers;
    let connection = ready.connection(built.full_name, servers);
    Ok(Prepared {
        plan,
        root,
        config: built.config,
        connection,
    })
}

/// Writes down what was decided, and sees to it that volumes are there.
fn keep(built: &Built, subject: &Subject, container: &mut Container) -> Result<()> {
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
fn profile(subject: &Subject, mapping: &Mapping) -> Option<&'static str> {
    if !mapping.is_root() || subject.options.security.privileged {
        return None;
    }
    if subject.dry_run {
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
fn inherit(config: &ImageConfig, publish: &Publish, record: &mut Record) {
    for (key, value) in &config.config.labels {
        let label = record.labels.entry(key.clone());
        label.or_insert_with(|| value.clone());
    }
    // What is no signal is an image's mistake, not a reason not to run it.
    let images = config.config.stop_signal.as_ref();
    let images = images.filter(|text| signal::parse(text).is_some());
    let stop = &mut record.stop;
    stop.signal = stop.signal.take().or_else(|| images.cloned());
    record.exposed = connect::exposed(publish, &config.config.exposed_ports);
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
