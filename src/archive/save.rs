//! From images in the store to one file.

use crate::archive::form::{
    self, DOCKER_MANIFEST, Descriptor, DockerImage, Document, INDEX, LAYOUT, LAYOUT_VERSION, NAME,
    OCI_LAYER, PlatformWords, TAG,
};
use crate::digest::{Digest, Hasher};
use crate::image::{Image, Layer};
use crate::reference::Reference;
use crate::store::{Damaged, Store};
use crate::unpack::{Rebuild, Recipe};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};

/// An image to save, and the names that it is to have in the archive.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) image: Image,
    pub(crate) names: Vec<Reference>,
}

/// What an image has in an archive.
struct Part {
    config: (Digest, Vec<u8>),
    manifest: Vec<u8>,
    /// Base first; uncompressed, so that both names of a layer are the same.
    layers: Vec<Layer>,
}

/// Writes images to `out`: the same images give the same bytes, always. What they need is kept meanwhile.
pub(crate) fn save(store: &Store, images: &[Saved], out: &mut dyn Write) -> Result<()> {
    let needed = images.iter().flat_map(|saved| needs(&saved.image));
    // First the lease, then the look at what is there.
    let _lease = store.lease(&needed.collect::<Vec<_>>())?;
    let parts = images.iter().map(|saved| part(store, &saved.image));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let mut archive = Builder::new(out);
    // The small files first: who reads from a pipe knows from the start what is to come.
    add(&mut archive, LAYOUT, LAYOUT_VERSION)?;
    add(&mut archive, INDEX, &form::json(&index(images, &parts)))?;
    add(
        &mut archive,
        DOCKER_MANIFEST,
        &form::json(&docker(images, &parts)),
    )?;
    let mut written = BTreeSet::new();
    for part in &parts {
        let (digest, config) = &part.config;
        for (digest, bytes) in [
            (digest.clone(), config),
            (Digest::of(&part.manifest), &part.manifest),
        ] {
            if written.insert(digest.clone()) {
                add(&mut archive, &form::blob(&digest), bytes)?;
            }
        }
    }
    for layer in parts.iter().flat_map(|part| &part.layers) {
        if written.insert(layer.diff_id.clone()) {
            add_layer(&mut archive, store, layer)
                .with_context(|| format!("layer `{}`", layer.diff_id.short()))?;
        }
    }
    Ok(archive.into_inner().and_then(Write::flush)?)
}

/// Returns what of the store the image needs.
fn needs(image: &Image) -> Vec<Digest> {
    let layers = image.record.layers.iter().map(|layer| &layer.diff_id);
    layers.chain([&image.id]).cloned().collect()
}

fn part(store: &Store, image: &Image) -> Result<Part> {
    let config = store.blob(&image.id)?.with_context(|| {
        Damaged(format!(
            "the config of image `{}` is not there",
            image.id.short()
        ))
    })?;
    let mut layers = Vec::new();
    for Layer { diff_id, .. } in &image.record.layers {
        let meta = store.layer(diff_id)?;
        let meta = meta.with_context(|| Damaged(format!("layer `{diff_id}` is not there")))?;
        layers.push(Layer {
            diff_id: diff_id.clone(),
            digest: diff_id.clone(),
            size: meta.tar_size,
            media_type: OCI_LAYER.to_owned(),
        });
    }
    let manifest = form::manifest(&image.id, config.len() as u64, &layers);
    let config = (image.id.clone(), config);
    Ok(Part {
        config,
        manifest,
        layers,
    })
}

/// Returns `index.json`, where an image with several names is there once for each.
fn index(images: &[Saved], parts: &[Part]) -> Document {
    let mut manifests = Vec::new();
    for (Saved { image, names }, part) in images.iter().zip(parts) {
        let mut descriptor = Descriptor::of_manifest(&part.manifest);
        descriptor.platform = Some(PlatformWords::of(&image.record.platform));
        if names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in names {
            let mut named = descriptor.clone();
            let mut annotate = |key: &str, value: String| {
                named.annotations.insert(key.to_owned(), value);
            };
            annotate(NAME, name.to_string());
            annotate(TAG, name.tag().unwrap_or_default().to_owned());
            manifests.push(named);
        }
    }
    Document {
        schema_version: 2,
        media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()),
        manifests: Some(manifests),
        config: None,
        layers: None,
    }
}

fn docker(images: &[Saved], parts: &[Part]) -> Vec<DockerImage> {
    let image = |(saved, part): (&Saved, &Part)| DockerImage {
        config: form::blob(&part.config.0),
        repo_tags: (!saved.names.is_empty())
            .then(|| saved.names.iter().map(Reference::familiar).collect()),
        layers: part
            .layers
            .iter()
            .map(|layer| form::blob(&layer.diff_id))
            .collect(),
    };
    images.iter().zip(parts).map(image).collect()
}

fn add(archive: &mut Builder<&mut dyn Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), name, bytes)
}

/// Returns a header that says nothing of who writes it, and when.
fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Makes a layer's tar again and adds it, if it is what it was.
fn add_layer(archive: &mut Builder<&mut dyn Write>, store: &Store, layer: &Layer) -> Result<()> {
    let paths = store.layer_paths(&layer.diff_id);
    let recipe = Recipe {
        file: &paths.recipe,
        kept: &paths.kept,
    };
    let mut tar = Counted {
        tar: Rebuild::open(&paths.fs, recipe)?,
        hasher: Hasher::new(layer.diff_id.algorithm()),
        left: layer.size,
    };
    let name = form::blob(&layer.diff_id);
    archive.append_data(&mut header(layer.size), name, &mut tar)?;
    let found = tar.hasher.finish();
    ensure!(
        found == layer.diff_id,
        Damaged(format!("its files changed: its tar is {found} now"))
    );
    Ok(())
}

/// A layer's tar on its way: as many bytes as were said, whatever there is, or the archive's other entries would be lost.
struct Counted {
    tar: Rebuild,
    hasher: Hasher,
    left: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.tar.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(io::Error::other("its tar is shorter than it was"));
        }
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
