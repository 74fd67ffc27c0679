//! From one file to images in the store, by the same doors as a pull.

use crate::archive::bytes::inflate;
use crate::archive::form::{self, OCI_LAYER};
use crate::archive::parts::{Part, PartReader, Parts};
use crate::archive::plan::{Planned, PlannedLayer, plan};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::image::{self, Fetched, Image, Layer, layer};
use crate::note::{Note, Notes};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Stage, Store};
use crate::unpack::{self, Skipped};
use anyhow::{Context, Result, anyhow, ensure};
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Seek as _};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes of an archive read at a time.
const INPUT_SIZE: usize = 256 << 10;

/// Layers that are unpacked at once, as in a pull.
const UNPACKERS: usize = 3;

/// An image that is in the store now.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) id: Digest,
    pub(crate) names: Vec<Reference>,
}

/// Brings the images of the archive that `input` holds, a file or a pipe, into the store: each whole or not at all.
/// Of an image for several platforms it is the one for `platform`, or this machine.
pub(crate) fn load(
    store: &Store,
    input: fs::File,
    platform: Option<&Platform>,
    unpacking: &unpack::Options,
    notes: Notes<'_>,
) -> Result<Vec<Loaded>> {
    let stage = store.stage()?;
    let parts = read(&stage, input).context("reading the archive")?;
    let images = plan(&parts, platform)?.into_iter().map(describe);
    let images = images.collect::<Result<Vec<_>>>()?;
    // First the lease, then the look at what is there: so nothing that was seen goes meanwhile.
    let _lease = store.lease(&images.iter().flat_map(needs).collect::<Vec<_>>())?;
    let layers = images
        .iter()
        .flat_map(|image| image.planned.layers.iter().zip(&image.layers));
    unpack_missing(store, &stage, layers, unpacking, notes)?;
    images
        .into_iter()
        .map(|image| publish(store, image))
        .collect()
}

/// An image whose documents are settled.
struct Described {
    planned: Planned,
    /// Base first.
    layers: Vec<Layer>,
    manifest: Vec<u8>,
}

/// Settles what the image's record is to say of its layers, and its manifest: the archive's own, or one that says what was found.
fn describe(planned: Planned) -> Result<Described> {
    let mut layers = Vec::with_capacity(planned.layers.len());
    for layer in &planned.layers {
        let is_compressed = inflate(layer.part.reader())?.1;
        let found = if is_compressed {
            format!("{OCI_LAYER}+gzip")
        } else {
            OCI_LAYER.to_owned()
        };
        layers.push(Layer {
            diff_id: layer.diff_id.clone(),
            digest: match &layer.digest {
                Some(digest) => digest.clone(),
                None if is_compressed => hashed(&layer.part, Algorithm::Sha256).finish()?,
                None => layer.diff_id.clone(),
            },
            size: layer.part.size,
            media_type: layer.media_type.clone().unwrap_or(found),
        });
    }
    let manifest = planned
        .manifest
        .clone()
        .unwrap_or_else(|| form::manifest(&planned.id, planned.config.len() as u64, &layers));
    Ok(Described {
        planned,
        layers,
        manifest,
    })
}

/// Finds the files of the archive: where they are if that can be, else in a copy.
fn read(stage: &Stage, mut input: fs::File) -> Result<Parts> {
    let metadata = input.metadata()?;
    // One that was opened before us may stand anywhere.
    let is_at_start = metadata.is_file() && input.stream_position()? == 0;
    let (stream, is_compressed) = inflate(input.try_clone()?)?;
    let stream = BufReader::with_capacity(INPUT_SIZE, stream);
    if is_at_start && !is_compressed {
        return Parts::read(stream, input, false);
    }
    let copy = stage.directory("archive")?.join("parts");
    let copy = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(copy)?;
    Parts::read(stream, copy, true)
}

/// Returns what of the store an image will need.
fn needs(image: &Described) -> Vec<Digest> {
    let layers = image.layers.iter().map(|layer| layer.diff_id.clone());
    layers
        .chain([image.planned.id.clone(), Digest::of(&image.manifest)])
        .collect()
}

/// Unpacks and publishes the layers that are not here, several at once, each once. The first failure ends all.
fn unpack_missing<'a>(
    store: &Store,
    stage: &Stage,
    layers: impl Iterator<Item = (&'a PlannedLayer, &'a Layer)>,
    unpacking: &unpack::Options,
    notes: Notes<'_>,
) -> Result<()> {
    let mut missing = BTreeMap::new();
    for (planned, layer) in layers {
        if store.layer(&layer.diff_id)?.is_none() {
            missing
                .entry(&layer.diff_id)
                .or_insert((&planned.part, layer));
        }
    }
    let left = Mutex::new(missing.into_values().enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<Note>> {
        let mut told = Vec::new();
        while let Some((number, (part, layer))) = next() {
            let short = layer.diff_id.short();
            let skipped = unpack_one(store, stage, number.to_string(), part, layer, unpacking)
                .with_context(|| format!("layer `{short}`"))?;
            told.extend(
                skipped
                    .iter()
                    .map(|it| format!("layer {short}: left out: {it}")),
            );
        }
        Ok(told.into_iter().map(|text| Note(anyhow!(text))).collect())
    };
    let ended = thread::scope(|scope| {
        let workers: Vec<_> = (0..UNPACKERS).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.collect::<Vec<_>>()
    });
    for told in ended {
        told?.into_iter().for_each(notes);
    }
    Ok(())
}

fn unpack_one(
    store: &Store,
    stage: &Stage,
    name: String,
    part: &Part,
    layer: &Layer,
    unpacking: &unpack::Options,
) -> Result<BTreeSet<Skipped>> {
    let Layer {
        diff_id, digest, ..
    } = layer;
    let options = unpack::Options {
        limits: unpacking.limits.of_compressed(part.size),
        ..unpacking.clone()
    };
    let unpacked = if digest == diff_id {
        // The diff ID is the proof.
        layer::unpack(stage, &name, &mut part.reader(), &options)?
    } else {
        let mut bytes = hashed(part, digest.algorithm());
        let unpacked = layer::unpack(stage, &name, &mut bytes, &options);
        let found = bytes.finish()?;
        ensure!(
            found == *digest,
            "the archive has {found} where {digest} is named"
        );
        unpacked?
    };
    layer::publish(store, stage, name, diff_id.clone(), unpacked, digest)
}

fn hashed(part: &Part, algorithm: Algorithm) -> Hashed {
    Hashed {
        stream: part.reader(),
        hasher: Hasher::new(algorithm),
    }
}

/// Hashes what is read.
struct Hashed {
    stream: PartReader,
    hasher: Hasher,
}

impl Hashed {
    /// Reads what is left and returns the digest of all.
    fn finish(mut self) -> io::Result<Digest> {
        let mut rest = vec![0; 64 << 10];
        while self.read(&mut rest)? > 0 {}
        Ok(self.hasher.finish())
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

fn publish(store: &Store, image: Described) -> Result<Loaded> {
    let Described {
        planned,
        layers,
        manifest,
    } = image;
    let mut names = planned.names;
    names.dedup();
    let fetched = Fetched {
        origin: None,
        tag: names.first().cloned(),
        manifest: Digest::of(&manifest),
        indexes: Vec::new(),
        image: planned.id.clone(),
        config: planned.parsed,
        layers,
        blobs: vec![
            (Digest::of(&manifest), manifest),
            (planned.id.clone(), planned.config),
        ],
    };
    image::publish(store, store.stage()?, fetched, &|| Ok(()))?;
    let id = planned.id;
    if names.len() > 1 {
        let image = Image::open(store, id.clone())?;
        let image = image.with_context(|| format!("image `{}` was removed at once", id.short()))?;
        for name in &names[1..] {
            image::tag(store, &image, name)?;
        }
    }
    Ok(Loaded { id, names })
}
