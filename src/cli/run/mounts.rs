//! What the flags of `run` about mounts name in the store: other containers and images.

use crate::cli::run::Run;
use crate::container::{self, Container};
use crate::image;
use crate::spec::{self, MountPoint, Request};
use crate::store::Store;
use anyhow::{Context, Result, bail};

/// Adds to `request` the mounts of other containers and the layers of other images, and makes the container hold these.
pub(super) fn look_up(
    run: &Run,
    store: &Store,
    container: &mut Container,
    request: &mut Request,
) -> Result<()> {
    for text in &run.volumes_from {
        request.files.inherited.extend(mounts_of(store, text)?);
    }
    for name in spec::images(request)? {
        // Under one lock, so that the image cannot go in between.
        let shared = store.shared()?;
        let image = image::find(store, &name)
            .with_context(|| format!("the image of `--mount type=image,source={name}`"))?;
        container.hold(&shared, &image)?;
        let layers = image.lower_directories(store)?;
        request.files.images.insert(name, layers);
    }
    Ok(())
}

/// Returns the volumes and binds of the container that a `--volumes-from` names.
fn mounts_of(store: &Store, text: &str) -> Result<Vec<MountPoint>> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    let mut read_only = None;
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => read_only = Some(true),
            "rw" => read_only = Some(false),
            // Labels, which mean nothing here.
            "z" | "Z" => {}
            _ => bail!("invalid mode: {mode}"),
        }
    }
    let mut mounts = container::find(store, name)
        .with_context(|| format!("the container of `--volumes-from {text}`"))?
        .mounts;
    mounts.retain(|mount| matches!(mount.kind.as_str(), "bind" | "volume"));
    for mount in &mut mounts {
        // What that one may not write to, nobody may by it.
        mount.read_only |= read_only == Some(true);
    }
    Ok(mounts)
}
