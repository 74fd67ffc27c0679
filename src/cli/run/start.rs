//! From the flags of `run` to a container that has ended.

use crate::cli::run::donors::Donors;
use crate::cli::run::{Run, explain};
use crate::cli::{names, output};
use crate::container::{self, Container, Record, Status};
use crate::image::{self, Image, ImageConfig};
use crate::monitor::{self, Job, Outcome};
use crate::narration::{Narration, Step, tell};
use crate::platform::Platform;
use crate::runtime::{Plan, Privilege, Rootfs};
use crate::spec::{self, Host, ImageDefaults, Request};
use crate::store::{NameInUse, Store};
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use chrono::Utc;
use std::os::fd::{AsFd, OwnedFd};

/// How many random names are tried before the store is taken to be full of them.
const NAME_ATTEMPTS: usize = 16;

/// Runs the container in the foreground, from an image that is in the store; returns its exit code.
///
/// This process is inside the user namespace that `mapping` describes, if it describes one.
pub(super) fn start(run: &Run, store: &Store, mapping: &Mapping, donors: &Donors) -> Result<u8> {
    let wish = || format!("cannot run `{}`", run.image);
    let narration = run.explain.map(explain::listen).transpose()?;
    container::sweep(store).with_context(wish)?;
    let (mut container, image) = create(run, store).with_context(wish)?;
    let prepared = prepare(run, store, mapping, &mut container, &image)
        .and_then(|prepared| donors.check().map(|()| prepared));
    narration.as_ref().map_or(Ok(()), Narration::pass_on)?;
    let (plan, root, config) = match prepared {
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
    let job = Job {
        container,
        plan: &plan,
        root,
        privilege: privilege(mapping),
        interactive: run.interactive,
        notify: &|notice| output::tell(&format!("ddock: {notice}\n")),
        narration: narration.as_ref(),
    };
    let outcome = monitor::run(job).with_context(wish)?;
    tell_of_memory(outcome);
    Ok(outcome.status.code())
}

/// Finds the image and makes the container under one lock, so that the image cannot go in between.
fn create(run: &Run, store: &Store) -> Result<(Container, Image)> {
    for _ in 0..NAME_ATTEMPTS {
        let shared = store.shared()?;
        let image = image::find(store, &run.image)?;
        check_platform(run, &image)?;
        tell(|| Step::Image {
            name: run.image.clone(),
            id: image.id.short().to_string(),
            layers: image.record.layers.len(),
        });
        let record = Record {
            id: container::new_id(),
            name: run.name.clone().map_or_else(names::random, Ok)?,
            image: image.id.clone(),
            image_name: run.image.clone(),
            command: Vec::new(),
            created: Utc::now(),
            auto_remove: run.remove,
            status: Status::Created,
        };
        match Container::create(store, shared, &image, record) {
            Err(error) if run.name.is_none() && error.is::<NameInUse>() => {}
            created => {
                let container = created?;
                tell(|| Step::Container {
                    id: container.record.id.clone(),
                    directory: container.upper().display().to_string(),
                });
                return Ok((container, image));
            }
        }
    }
    anyhow::bail!("found no free name for the container; give it one with `--name`")
}

/// An image for another platform is refused if this one was asked for, and may run by emulation if not.
fn check_platform(run: &Run, image: &Image) -> Result<()> {
    let found = &image.record.platform;
    if let Some(wanted) = &run.platform {
        anyhow::ensure!(
            wanted.rank(found).is_some(),
            "image with reference {} was found but its platform ({found}) does not match the specified platform ({wanted})",
            run.image
        );
    } else if Platform::host().rank(found).is_none() {
        output::tell(&format!(
            "WARNING: The requested image's platform ({found}) does not match the detected host platform ({}) \
             and no specific platform was requested\n",
            Platform::host()
        ));
    }
    Ok(())
}

/// Puts the container's root together and decides everything else.
fn prepare(
    run: &Run,
    store: &Store,
    mapping: &Mapping,
    container: &mut Container,
    image: &Image,
) -> Result<(Plan, OwnedFd, String)> {
    let root = assemble(store, mapping, container, image)?;
    let config = image.config(store)?;
    let request = Request {
        id: container.record.id.clone(),
        directory: container.directory.clone(),
        ..run.request.clone()
    };
    let host = Host::detect(spec_mapping(mapping))?;
    let built = spec::build(&defaults(config), &request, &host, root.as_fd())?;
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
    // Kept when the command has started.
    let process = built.spec.process().as_ref();
    let words = process.and_then(|process| process.args().clone());
    container.record.command = words.unwrap_or_default();
    let mut plan = Plan::from_spec(&built.spec)?;
    if let (Some(terminal), Some(size)) = (&mut plan.process.terminal, monitor::terminal_size()) {
        *terminal = (size.ws_row, size.ws_col);
    }
    Ok((plan, root, built.config))
}

fn assemble(
    store: &Store,
    mapping: &Mapping,
    container: &Container,
    image: &Image,
) -> Result<OwnedFd> {
    let lower = image.lower_directories(store)?;
    let layers = lower.len();
    let rootfs = Rootfs {
        lower,
        upper: container.upper(),
        work: container.work(),
        discarded: container.record.auto_remove,
        user_attributes: !mapping.is_root(),
    };
    // The upper directory is what the container sees as its root.
    if let Some(directory) = image.root_directory(store) {
        rootfs.adopt_root(&directory)?;
    }
    let root = rootfs.assemble(store.directory())?;
    tell(|| Step::Root { layers });
    Ok(root)
}

fn defaults(config: ImageConfig) -> ImageDefaults {
    let config = config.config;
    ImageDefaults {
        user: config.user,
        environment: config.env,
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        working_directory: config.working_dir,
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

fn privilege(mapping: &Mapping) -> Privilege {
    Privilege {
        in_user_namespace: !mapping.is_root(),
        can_set_groups: !mapping.is_single(),
    }
}

fn tell_of_memory(outcome: Outcome) {
    if outcome.out_of_memory {
        output::tell(
            "ddock: a process of the container was killed because its memory limit was reached (see `--memory`)\n",
        );
    }
}
