//! Chains: what only one stack of layers needs, under the stack's chain ID (image-spec config.md, "Layer `ChainID`").

use crate::digest::Digest;
use crate::store::lock::Exclusive;
use crate::store::publish::{exchange, is_occupied};
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

    /// Tells whether a chain's fix-ups are here and were not condemned.
    pub(crate) fn has_chain(&self, chain_id: &Digest) -> bool {
        let condemned = layout::chain_condemned(&self.layout.chain(chain_id));
        self.chain_fs(chain_id).is_dir() && !condemned.exists()
    }

    /// Says that a chain's fix-ups are not right: they stay where they are, for what runs on them, and the next pull replaces them.
    pub(crate) fn condemn_chain(&self, _: &Exclusive, chain_id: &Digest) -> Result<()> {
        let chain = self.layout.chain(chain_id);
        if chain.is_dir() {
            fs::write(layout::chain_condemned(&chain), "")?;
        }
        Ok(())
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
                if self.has_chain(&chain.chain_id) {
                    return Ok(());
                }
                exchange(&from, &to)
            }
            other => Ok(other?),
        }
    }
}
