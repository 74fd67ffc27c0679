//! Chains: what only one stack of layers needs, under the stack's chain ID (image-spec config.md, "Layer `ChainID`").

use crate::digest::Digest;
use crate::store::publish::is_occupied;
use crate::store::stage::Stage;
use crate::store::{Store, layout};
use anyhow::Result;
use fs_err as fs;
use std::io;
use std::path::PathBuf;

/// A directory of fix-ups that was made in a stage.
#[derive(Debug, Clone)]
pub(crate) struct StagedChain {
    /// What it was called in `Stage::layer_directory`.
    pub(crate) name: String,
    pub(crate) chain_id: Digest,
}

impl Store {
    /// Returns the directory that holds a chain's fix-ups, there or not: it lies directly above the stack's top layer.
    pub(crate) fn chain_fs(&self, chain_id: &Digest) -> PathBuf {
        layout::layer_fs(&self.layout.chain(chain_id))
    }

    /// Tells whether containers here have overlayfs keep its attributes under `user.`, as in a user namespace.
    pub(crate) fn has_user_attributes(&self) -> Result<bool> {
        Ok(fs::read(self.layout.mapping())?.trim_ascii_end() != b"root")
    }

    /// Renames a chain to its place. One that is there already is the same, and stays if it is whole.
    pub(super) fn publish_chain(&self, stage: &Stage, chain: &StagedChain) -> Result<()> {
        // A store that was made before there were chains has no directory for them.
        match fs::create_dir(self.layout.chains()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let (from, to) = (stage.path(&chain.name), self.layout.chain(&chain.chain_id));
        match fs::rename(&from, &to) {
            Err(error) if is_occupied(&error) => {
                if !self.chain_fs(&chain.chain_id).is_dir() {
                    fs::rename(&to, stage.path(&format!("{}-damaged", chain.name)))?;
                    fs::rename(&from, &to)?;
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }
}
