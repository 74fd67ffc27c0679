//! What a container's mounts name in the store: other containers and images.

use crate::container::{self, Container};
use crate::image;
use crate::options::{Files, MountOptions, VolumesFrom};
use crate::spec::Subject;
use crate::store::Store;
use anyhow::{Context, Result};

/// Finds the layers of the images that are to be mounted, and makes the container hold them.
pub(super) fn find_images(
    store: &Store,
    container: &mut Container,
    subject: &mut Subject,
) -> Result<()> {
    for name in subject.options.files.images() {
        // Under one lock, so that the image cannot go in between.
        let shared = store.shared()?;
        let image = image::find(store, name)
            .with_context(|| format!("the image of `--mount type=image,source={name}`"))?;
        container.hold(&shared, &image)?;
        let layers = image.lower_directories(store)?;
        subject.images.insert(name.to_owned(), layers);
    }
    Ok(())
}

/// Returns the volumes and binds of the containers that `--volumes-from` names.
pub(super) fn inherit(store: &Store, files: &Files) -> Result<Vec<MountOptions>> {
    let mut all = Vec::new();
    for VolumesFrom {
        container: name,
        read_only,
    } in &files.volumes_from
    {
        let record = container::find(store, name)
            .with_context(|| format!("the container of `--volumes-from {name}`"))?;
        for point in &record.mounts {
            let mount = point.inherited()?;
            // What that one may not write to, nobody may by it.
            all.extend(mount.map(|mount| MountOptions {
                read_only: mount.read_only || *read_only,
                ..mount
            }));
        }
    }
    Ok(all)
}
