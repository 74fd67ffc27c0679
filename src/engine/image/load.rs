//! Images read from one file.

use crate::archive::{self, Loaded};
use crate::engine::place;
use crate::note::Notes;
use crate::platform::Platform;
use crate::sys::userns::Mapping;
use crate::unpack;
use anyhow::Result;
use std::path::Path;

/// Brings the images of the archive that `input` holds into the store. What may be demanded of layers is asked of
/// `unpacking`. From here on the process has several threads.
pub(crate) fn load(
    root: &Path,
    input: fs_err::File,
    platform: Option<&Platform>,
    unpacking: &dyn Fn(&Mapping) -> Result<unpack::Options>,
    notes: Notes<'_>,
) -> Result<Vec<Loaded>> {
    let (store, mapping) = place::enter(root)?;
    archive::load(&store, input, platform, &unpacking(&mapping)?, notes)
}
