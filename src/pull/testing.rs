//! What tests of pulling stand on: a registry that they fill, and a real store.

use crate::digest::Digest;
use crate::pull::{Event, LayerId, LayerState, Pulled, Request, Retry, pull};
use crate::registry::Access;
use crate::registry::testing::{Answer, Asked, Server};
use crate::store::Store;
use crate::unpack::{self, Limits, OverlayAttributes, Owners};
use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What a registry holds: its answers by the last part of the path.
#[derive(Default, Clone)]
pub(crate) struct Content(pub(crate) Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Content {
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
    }

    /// Keeps `bytes` under their digest and returns a descriptor.
    pub(crate) fn add(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.put(&digest, bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        let name = asked.path.rsplit('/').next().unwrap();
        match self.0.lock().unwrap().get(name) {
            Some(bytes) => {
                let digest = Digest::of(bytes).to_string();
                Answer::ok(bytes).header("Docker-Content-Digest", &digest)
            }
            None => Answer::status(404),
        }
    }

    pub(crate) fn serve(&self) -> Server {
        let content = self.clone();
        Server::start(move |asked, _| content.answer(asked))
    }

    /// Adds an image of these tars and returns its manifest's descriptor.
    pub(crate) fn image(&self, tars: &[&[u8]], architecture: &str) -> Value {
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let layers: Vec<_> = tars.iter().map(|tar| self.add(&gzip(tar), LAYER)).collect();
        self.image_of(&layers, &json!(diff_ids), architecture)
    }

    pub(crate) fn image_of(&self, layers: &[Value], diff_ids: &Value, architecture: &str) -> Value {
        let config = json!({"os": "linux", "architecture": architecture,
                            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.add(
            config.to_string().as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.add(
            manifest.to_string().as_bytes(),
            "application/vnd.oci.image.manifest.v1+json",
        )
    }

    /// Lets `tag` name an index with an image for each of the architectures.
    pub(crate) fn tag(&self, tag: &str, images: &[(&str, Value)]) {
        let entries: Vec<_> = images
            .iter()
            .map(|(architecture, image)| {
                let mut entry = image.clone();
                entry["platform"] = json!({"os": "linux", "architecture": architecture});
                entry
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": entries});
        self.add(index.to_string().as_bytes(), "");
        self.put(tag, index.to_string().into_bytes());
    }

    /// Lets `tag` name an image without an index.
    pub(crate) fn tag_image(&self, tag: &str, image: &Value) {
        let manifest = self.0.lock().unwrap()[image["digest"].as_str().unwrap()].clone();
        self.put(tag, manifest);
    }

    /// Puts other bytes where those of `tar`'s layer are.
    pub(crate) fn spoil(&self, tar: &[u8]) {
        let mut bytes = gzip(tar);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.put(&layer_id(tar).to_string(), bytes);
    }
}

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const HOST: &str = std::env::consts::ARCH;

/// Serves `content` as registries do: with parts where they are asked for, if `parts`; each blob is cut off after
/// the bytes that `cut` gives for how often it was asked for before.
pub(crate) fn serve_parts(
    content: &Content,
    parts: bool,
    cut: impl Fn(&Asked) -> usize + Send + Sync + 'static,
) -> Server {
    let content = content.clone();
    Server::start(move |asked, _| {
        let name = asked.path.rsplit('/').next().unwrap();
        let found = content.0.lock().unwrap().get(name).cloned();
        let Some(bytes) = found.filter(|_| asked.path.contains("/blobs/")) else {
            return content.answer(asked);
        };
        let answer = match asked.part().filter(|_| parts) {
            None => Answer::ok(&bytes),
            Some((start, end)) => {
                let end = end.min(bytes.len());
                let range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
                Answer::status(206)
                    .body(&bytes[start..end])
                    .header("Content-Range", &range)
            }
        };
        answer.cut(cut(asked))
    })
}

/// Bytes that no compression makes smaller, different for each `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn layer_id(tar: &[u8]) -> LayerId {
    Digest::of(&gzip(tar))
}

pub(crate) fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    // Names that the crate would refuse are part of the tests.
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}

/// A store of its own, and what a pull into it told.
pub(crate) struct Host {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) events: RefCell<Vec<Event>>,
    pub(crate) jobs: usize,
    pub(crate) retry: Retry,
}

impl Host {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "root").unwrap();
        let events = RefCell::default();
        Self {
            directory,
            store,
            events,
            jobs: 4,
            retry: Retry::default(),
        }
    }

    pub(crate) fn pull_for(
        &self,
        server: &Server,
        tag: &str,
        platform: Option<&str>,
    ) -> Result<Pulled> {
        let reference = format!("{}/lib/x{tag}", server.address()).parse().unwrap();
        let platform = platform.map(|platform| platform.parse().unwrap());
        let unpacking = unpack::Options {
            owners: Owners::Kept,
            overlay: OverlayAttributes::Trusted,
            limits: Limits::default(),
        };
        self.events.borrow_mut().clear();
        let tell = |event| self.events.borrow_mut().push(event);
        let request = Request {
            reference: &reference,
            platform: platform.as_ref(),
            access: &Access::default(),
            unpacking: &unpacking,
            jobs: self.jobs,
            retry: self.retry,
        };
        pull(&self.store, &request, &tell)
    }

    pub(crate) fn pull(&self, server: &Server, tag: &str) -> Result<Pulled> {
        self.pull_for(server, tag, None)
    }

    pub(crate) fn refusal(&self, server: &Server, tag: &str) -> String {
        let error = format!("{:#}", self.pull(server, tag).unwrap_err());
        self.check_empty();
        error
    }

    /// Checks that the store is as it was when new.
    pub(crate) fn check_empty(&self) {
        for name in ["tmp", "layers", "images", "refs", "blobs/sha256", "leases"] {
            let left: Vec<PathBuf> = fs_err::read_dir(self.directory.path().join("v1").join(name))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
    }

    pub(crate) fn file(&self, tar: &[u8], name: &str) -> PathBuf {
        self.store.layer_fs(&Digest::of(tar)).join(name)
    }

    /// The states that one layer went through, downloads once each.
    pub(crate) fn states(&self, id: &LayerId) -> Vec<LayerState> {
        let events = self.events.borrow();
        let mut states: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Layer { id: found, state } if found == id => Some(*state),
                _ => None,
            })
            .collect();
        // Of a download the last state is kept.
        states.reverse();
        states.dedup_by_key(|state| std::mem::discriminant(state));
        states.reverse();
        states
    }
}
