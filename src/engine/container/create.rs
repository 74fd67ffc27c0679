//! A container comes to be: its name, its record, and what it keeps of the store.

use crate::container::{self, Container, Record, Status, Volumes};
use crate::engine::container::origin::Origin;
use crate::engine::container::{mounts, names};
use crate::monitor;
use crate::narration::{Step, tell};
use crate::note::Notes;
use crate::options::ContainerOptions;
use crate::store::{NameInUse, NotFound, Store};
use anyhow::{Context, Result, bail};
use chrono::Utc;

/// How many random names are tried before the store is taken to be full of them.
const NAME_ATTEMPTS: usize = 16;

/// How a new container is to be called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naming {
    /// Well formed; a made-up one otherwise.
    pub(crate) name: Option<String>,
    /// Remove the container that has the name, first.
    pub(crate) replaces: bool,
}

/// Makes a container that is to be started; with its maker it goes, until that is done or it is kept.
///
/// Finds the image and makes the container under one lock, so that the image cannot go in between.
pub(super) fn make(
    store: &Store,
    options: &ContainerOptions,
    naming: &Naming,
    notes: Notes<'_>,
) -> Result<(Container, Origin)> {
    let mut asked = options.clone();
    // Now, so that it is the same whenever it is started again.
    asked.files.inherited = mounts::inherit(store, &options.files)?;
    for _ in 0..NAME_ATTEMPTS {
        let shared = store.shared()?;
        let origin = Origin::find(options, store, notes)?;
        let name = naming.name.clone().map_or_else(names::random, Ok)?;
        let record = record(name, &asked, &origin);
        match Container::create(store, shared, origin.image(), record) {
            Err(error) if naming.name.is_none() && error.is::<NameInUse>() => {}
            Err(error) if naming.replaces && error.is::<NameInUse>() => {
                replace(store, naming.name.as_deref())?;
            }
            created => {
                let container = created?;
                tell(|| told(&container, &origin));
                return Ok((container, origin));
            }
        }
    }
    bail!("found no free name for the container; give it one with `--name`")
}

fn record(name: String, options: &ContainerOptions, origin: &Origin) -> Record {
    Record {
        id: container::new_id(),
        name,
        origin: origin.record(&options.root),
        options: Some(container::Asked::now(options.clone())),
        holds: None,
        volumes: Vec::new(),
        command: Vec::new(),
        created: Utc::now(),
        auto_remove: options.remove,
        labels: options.labels.clone(),
        annotations: options.annotations.clone(),
        stop: options.stop.clone(),
        log: options.log.clone(),
        mounts: Vec::new(),
        networks: Vec::new(),
        holds_switch: false,
        ports: Vec::new(),
        exposed: Vec::new(),
        status: Status::Starting,
    }
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
