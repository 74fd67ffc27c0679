//! Where everything lies in the store; `cache/README.md` describes the same for people.

use crate::digest::{Algorithm, Digest};
use crate::reference::Reference;
use crate::store::VolumeName;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The version of the format that this ddock reads and writes. A change that an older ddock would
/// misread raises it, so that the two never meet in one directory.
pub(super) const VERSION: u32 = 1;

/// A repository's tags lie in a directory of this name. No component of a repository's name starts
/// with `_`, so the tag `c` of `a/b` and the repository `a/b/c` never meet.
pub(super) const TAGS: &str = "_tags";

/// The paths of one store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    version: PathBuf,
}

impl Layout {
    /// Returns the paths of the store that is, or will be, at `root`.
    pub(super) fn at_root(root: &Path) -> Self {
        Self {
            version: root.join(format!("v{VERSION}")),
        }
    }

    /// Returns the paths of a store in the making, which is all in `directory` and gets its name when complete.
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self {
            version: directory.to_owned(),
        }
    }

    /// The directory that holds all the others; its name is the format's version.
    pub(super) fn version(&self) -> &Path {
        &self.version
    }

    pub(super) fn mapping(&self) -> PathBuf {
        self.version.join("mapping")
    }

    pub(super) fn facts(&self) -> PathBuf {
        self.version.join("facts.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.version.join("lock")
    }

    pub(super) fn leases(&self) -> PathBuf {
        self.version.join("leases")
    }

    pub(super) fn references(&self) -> PathBuf {
        self.version.join("refs")
    }

    /// The file of `reference`'s tag; `None` if it names none.
    pub(super) fn tag(&self, reference: &Reference) -> Option<PathBuf> {
        let mut path = self.references();
        path.push(reference.registry());
        path.push(reference.repository());
        path.push(TAGS);
        path.push(reference.tag()?);
        Some(path)
    }

    pub(super) fn images(&self) -> PathBuf {
        self.version.join("images")
    }

    pub(super) fn image(&self, id: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", id.hex()))
    }

    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.version.join("blobs").join(algorithm.name())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.version.join("layers")
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(super) fn chains(&self) -> PathBuf {
        self.version.join("chains")
    }

    /// The directory of what only the stack of layers with this chain ID needs.
    pub(super) fn chain(&self, chain_id: &Digest) -> PathBuf {
        self.chains().join(chain_id.hex())
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.version.join("partial")
    }

    /// The directory of a layer's compressed bytes while they arrive.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.hex())
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.version.join("containers")
    }

    pub(super) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// The locks of the containers that somebody looks after, each named by its container's ID.
    pub(super) fn owners(&self) -> PathBuf {
        self.version.join("alive")
    }

    pub(super) fn owner(&self, id: &str) -> PathBuf {
        self.owners().join(id)
    }

    /// Links named as containers are, each to its container's ID.
    pub(super) fn names(&self) -> PathBuf {
        self.version.join("names")
    }

    pub(super) fn container_name(&self, name: &str) -> PathBuf {
        self.names().join(name)
    }

    pub(super) fn volumes(&self) -> PathBuf {
        self.version.join("volumes")
    }

    pub(super) fn volume(&self, name: &VolumeName) -> PathBuf {
        self.volumes().join(name.as_str())
    }

    pub(super) fn networks(&self) -> PathBuf {
        self.version.join("networks")
    }

    /// The file of the network `name`, which is known to be one.
    pub(super) fn network(&self, name: &str) -> PathBuf {
        self.networks().join(format!("{name}.json"))
    }

    /// Where the members of the network with this ID are found by name.
    pub(super) fn members(&self, network: &str) -> PathBuf {
        self.networks().join(network)
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.version.join("tmp")
    }

    /// The directories that an empty store has.
    pub(super) fn directories(&self) -> [PathBuf; 15] {
        [
            self.leases(),
            self.references(),
            self.images(),
            self.version.join("blobs"),
            self.blobs(Algorithm::Sha256),
            self.blobs(Algorithm::Sha512),
            self.layers(),
            self.chains(),
            self.partials(),
            self.containers(),
            self.owners(),
            self.names(),
            self.volumes(),
            self.networks(),
            self.temporary(),
        ]
    }

    /// The directories in which files belong to the IDs of the store's mapping, or may soon.
    pub(super) fn owned(&self) -> [PathBuf; 6] {
        [
            self.leases(),
            self.layers(),
            self.chains(),
            self.containers(),
            self.volumes(),
            self.temporary(),
        ]
    }
}

/// The files of a layer or chain, in its directory: an overlayfs lowerdir.
pub(super) fn layer_fs(layer: &Path) -> PathBuf {
    layer.join("fs")
}

/// The recipe of a layer, from which and its files the tar is made again, in that layer's directory.
pub(super) fn layer_recipe(layer: &Path) -> PathBuf {
    layer.join("recipe")
}

/// What later entries of a layer replaced, kept for the recipe, in that layer's directory; usually absent.
pub(super) fn layer_kept(layer: &Path) -> PathBuf {
    layer.join("kept")
}

/// The damaged layer that this one replaced, in this one's directory, while a container may run on it.
pub(super) fn layer_replaced(layer: &Path) -> PathBuf {
    layer.join("replaced")
}

/// What says that a chain is not right, in that chain's directory; usually absent.
pub(super) fn chain_condemned(chain: &Path) -> PathBuf {
    chain.join("condemned")
}

/// What is known of a layer, in that layer's directory.
pub(super) fn layer_meta(layer: &Path) -> PathBuf {
    layer.join("meta.json")
}

/// What a container needs of the store, in that container's directory: one digest a line.
pub(super) fn container_holds(container: &Path) -> PathBuf {
    container.join("holds")
}

/// The lock of whoever looks after a container, in that container's directory: the file that [`Layout::owner`] names too.
pub(super) fn container_alive(container: &Path) -> PathBuf {
    container.join("alive")
}

/// Where a container's changes go, in that container's directory.
pub(crate) fn container_upper(container: &Path) -> PathBuf {
    container.join("upper")
}

/// A container's record, in that container's directory.
pub(crate) fn container_state(container: &Path) -> PathBuf {
    container.join("state.json")
}

/// A container as an OCI runtime spec, in that container's directory: what has none was never about to run.
pub(crate) fn container_config(container: &Path) -> PathBuf {
    container.join("config.json")
}

/// The volumes that a container uses, in that container's directory: one a line, `named` or `anonymous` before it.
pub(super) fn container_volumes(container: &Path) -> PathBuf {
    container.join("volumes")
}

/// The networks that a container is in while it runs, in that container's directory: one ID a line.
pub(super) fn container_networks(container: &Path) -> PathBuf {
    container.join("networks")
}

/// By what others find a container in its networks, in that container's directory: a network's ID, `/` and a word's
/// file, one a line.
pub(super) fn container_words(container: &Path) -> PathBuf {
    container.join("words")
}

/// Where the content of a volume lies below the directory of all volumes.
pub(crate) fn volume_data(volumes: &Path, name: &VolumeName) -> PathBuf {
    data_of_volume(&volumes.join(name.as_str()))
}

/// The content of a volume, in that volume's directory. Docker's name: tools look for it.
pub(super) fn data_of_volume(volume: &Path) -> PathBuf {
    volume.join("_data")
}

/// What is known of a volume, in that volume's directory.
pub(super) fn volume_record(volume: &Path) -> PathBuf {
    volume.join("volume.json")
}

/// A complete copy of what an image has at the volume's place, while it is moved into the volume.
pub(super) fn volume_arrived(volume: &Path) -> PathBuf {
    volume.join("arrived")
}

/// Returns the digest whose hex digits are `name`: their number tells the hash function.
pub(super) fn digest_named(name: &OsStr) -> Option<Digest> {
    let hex = name.to_str()?;
    let algorithm = match hex.len() {
        64 => Algorithm::Sha256,
        128 => Algorithm::Sha512,
        _ => return None,
    };
    format!("{}:{hex}", algorithm.name()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_and_a_repository_never_share_a_path() {
        let layout = Layout::at_root(Path::new("/s"));
        let path = |text: &str| layout.tag(&text.parse().unwrap()).unwrap();
        assert_eq!(
            path("ubuntu"),
            Path::new("/s/v1/refs/docker.io/library/ubuntu/_tags/latest")
        );
        assert_eq!(
            path("[::1]:5000/a/b:c"),
            Path::new("/s/v1/refs/[::1]:5000/a/b/_tags/c")
        );
        assert_eq!(
            path("localhost/a/b/c:d"),
            Path::new("/s/v1/refs/localhost/a/b/c/_tags/d")
        );
    }

    #[test]
    fn names_of_files_are_digests_or_nothing_of_ours() {
        let digest = Digest::of(b"x");
        assert_eq!(digest_named(OsStr::new(digest.hex())), Some(digest));
        assert_eq!(digest_named(OsStr::new("lost+found")), None);
        assert_eq!(digest_named(OsStr::new(&"Z".repeat(64))), None);
    }
}
