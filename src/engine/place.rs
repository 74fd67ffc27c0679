//! Which store a command works on, and as whom.

use crate::container;
use crate::engine::cure;
use crate::note::{Note, Notes};
use crate::store::Store;
use crate::sys::userns::Mapping;
use anyhow::Result;
use std::path::Path;

/// Returns how IDs are mapped for the store at `root`: as it was made, whatever the caller could have by now; as the
/// caller can have them if there is no store, or one that holds nothing yet.
pub(crate) fn mapping(root: &Path) -> Result<Mapping> {
    let own = Mapping::of_caller();
    let recorded = recorded(root, &own)?;
    if recorded == own {
        return Ok(own);
    }
    if Store::open(root, &recorded.to_string())?.adopt(&own.to_string())? {
        return Ok(own);
    }
    match recorded.lacking() {
        Some(lacking) => Err(cure::unavailable(root, &own, lacking).into()),
        None => Ok(recorded),
    }
}

/// As [`mapping`], whether the caller can have it or not: to look at a store one needs no IDs but the own one.
pub(crate) fn recorded(root: &Path, own: &Mapping) -> Result<Mapping> {
    let name = own.to_string();
    let Some(text) = Store::mapping(root)?.filter(|text| !own.is_root() && *text != name) else {
        return Ok(own.clone());
    };
    // Of another user, or none at all: opening it says so.
    let recorded = Mapping::recorded(&text);
    let is_ours = |it: &Mapping| it.own().map(|(uid, _)| uid) == own.own().map(|(uid, _)| uid);
    Ok(recorded.filter(is_ours).unwrap_or_else(|| own.clone()))
}

/// Enters the user namespace that owns the store's files, if there is one, and opens the store at
/// `root`; makes it if it is not there. This process must have one thread still.
pub(crate) fn enter(root: &Path) -> Result<(Store, Mapping)> {
    let mapping = mapping(root)?;
    mapping.enter()?;
    Ok((Store::open(root, &mapping.to_string())?, mapping))
}

/// As [`enter`], but makes no store: `None` if there is none.
pub(crate) fn enter_existing(root: &Path) -> Result<Option<Store>> {
    Ok(enter_existing_mapped(root)?.map(|(store, _)| store))
}

/// Ends or removes what dead monitors left. What cannot be is said, and is no reason not to go on.
pub(crate) fn sweep(store: &Store, notes: Notes<'_>) {
    for left in container::sweep(store) {
        notes(Note(left));
    }
}

/// As [`enter_existing`], and says as whom.
pub(crate) fn enter_existing_mapped(root: &Path) -> Result<Option<(Store, Mapping)>> {
    if Store::exists(root)? {
        enter(root).map(Some)
    } else {
        Ok(None)
    }
}

/// Opens the store at `root` for reading what this user may read; `None` if there is none.
pub(crate) fn existing(root: &Path) -> Result<Option<Store>> {
    if Store::exists(root)? {
        let mapping = recorded(root, &Mapping::of_caller())?;
        Store::open(root, &mapping.to_string()).map(Some)
    } else {
        Ok(None)
    }
}

/// Opens the store, if there is one, without what dead monitors left, and says as whom.
pub(crate) fn enter_swept(root: &Path, notes: Notes<'_>) -> Result<Option<(Store, Mapping)>> {
    let entered = enter_existing_mapped(root)?;
    if let Some((store, _)) = &entered {
        sweep(store, notes);
    }
    Ok(entered)
}
