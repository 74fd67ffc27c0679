//! The plan: which of an image's layers are here, and which are to be fetched.

use crate::image::Layer;
use crate::pull::LayerId;
use crate::store::Store;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// What there is to do for an image's layers.
pub(crate) struct Plan {
    /// All layers, once each, base first.
    pub(crate) all: Vec<LayerId>,
    /// Those whose content is here already, from this image or another.
    pub(crate) present: Vec<LayerId>,
    /// What must be fetched; of layers with the same content one.
    pub(crate) missing: Vec<Layer>,
}

/// Looks which layers are here. The caller holds a lease on them.
pub(crate) fn plan(store: &Store, layers: &[Layer]) -> Result<Plan> {
    let (mut all, mut present, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut counted) = (BTreeSet::new(), BTreeSet::new());
    for layer in layers {
        let id = &layer.digest;
        let is_first = counted.insert(id);
        if is_first {
            all.push(id.clone());
        }
        // The diff ID is the content's own name: whoever claims it gets exactly that content.
        if !seen.insert(&layer.diff_id) || store.layer(&layer.diff_id)?.is_some() {
            if is_first {
                present.push(id.clone());
            }
        } else {
            ensure!(
                is_first,
                "the image has layer `{}` twice, with two diff IDs",
                id.short()
            );
            missing.push(layer.clone());
        }
    }
    Ok(Plan {
        all,
        present,
        missing,
    })
}
