//! Room: whether an image can fit, asked before its first byte moves.

use crate::human;
use crate::image::Layer;
use crate::pull::Event;
use crate::store::Store;
use anyhow::{Result, ensure};
use std::time::Duration;

/// Unpacked bytes for a compressed one: 2.2 to 3.1 in distributions' images compressed by gzip, up to 4 by zstd.
const USUAL_RATIO: u64 = 3;

/// Refuses a pull that cannot fit, and warns of one that most likely does not. What pulls that were given up left
/// behind goes first.
pub(crate) fn check(store: &Store, missing: &[Layer], events: &dyn Fn(Event)) -> Result<()> {
    // A manifest may claim any size, and has room for many layers.
    let mut download: u64 = 0;
    for layer in missing {
        let progress = store.progress(&layer.digest)?;
        let arrived = progress.map_or(0, |progress| progress.bytes);
        download = download.saturating_add(layer.size.saturating_sub(arrived));
    }
    let sizes = missing.iter().map(|layer| layer.size);
    let compressed = sizes.fold(0, u64::saturating_add);
    // What cannot be compressed is as large unpacked.
    let least = download.saturating_add(compressed);
    let Some(mut free) = store.free_space()? else {
        return Ok(());
    };
    if free < least {
        store.sweep_partials(Duration::ZERO)?;
        store.sweep()?;
        free = store.free_space()?.unwrap_or(free);
    }
    let size = |bytes| human::size(bytes, 3);
    let place = store.directory().display();
    ensure!(
        free >= least,
        "the image needs at least {} in `{place}`, and {} are free: nothing was downloaded; remove images (`ddock rmi`) \
         or use another --root",
        size(least),
        size(free)
    );
    let usual = download.saturating_add(compressed.saturating_mul(USUAL_RATIO));
    if free < usual {
        events(Event::Note(format!(
            "the image may not fit: {} are free in `{place}`, and it will need about {}",
            size(free),
            size(usual)
        )));
    }
    Ok(())
}
