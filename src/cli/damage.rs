//! What `ddock system check` finds of the store's own records: those that cannot be read.

use crate::cli::failure;
use crate::container;
use crate::store::Store;
use anyhow::{Result, anyhow};

/// Tells of every tag, container, volume and network whose record is damaged; false if there is one.
pub(super) fn check_records(store: &Store) -> Result<bool> {
    let mut damaged = store.damaged_networks()?;
    let tags = store.damaged_tags()?.into_iter();
    damaged.extend(tags.map(|(_, error)| error));
    for record in container::records(store)? {
        let id = record.id.get(..12).unwrap_or(&record.id);
        let unknown = (!record.is_known()).then_some("state.json");
        for file in unknown.into_iter().chain(store.damaged_needs(&record.id)) {
            damaged.push(anyhow!(
                "container `{id}` is damaged: `{file}` cannot be read, and `ddock rm -f {id}` removes it"
            ));
        }
    }
    for (name, _) in store.volumes()? {
        if !store.is_volume_whole(&name) {
            damaged.push(anyhow!(
                "volume `{name}` is damaged: `volume.json` cannot be read, and its labels are lost"
            ));
        }
    }
    damaged.iter().for_each(failure::tell);
    Ok(damaged.is_empty())
}
