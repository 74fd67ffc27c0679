//! Pulls from a server that the test makes up into a real store.

use super::*;
use crate::digest::Digest;
use crate::registry::testing::{Answer, Asked, Server};
use crate::unpack::{Limits, OverlayAttributes, Owners};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a registry holds: its answers by the last part of the path.
#[derive(Default, Clone)]
struct Content(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Content {
    fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
    }

    /// Keeps `bytes` under their digest and returns a descriptor.
    fn add(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.put(&digest, bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let name = asked.path.rsplit('/').next().unwrap();
        match self.0.lock().unwrap().get(name) {
            Some(bytes) => {
                let digest = Digest::of(bytes).to_string();
                Answer::ok(bytes).header("Docker-Content-Digest", &digest)
            }
            None => Answer::status(404),
        }
    }

    fn serve(&self) -> Server {
        let content = self.clone();
        Server::start(move |asked, _| content.answer(asked))
    }

    /// Adds an image of these tars and returns its manifest's descriptor.
    fn image(&self, tars: &[&[u8]], architecture: &str) -> Value {
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let layers: Vec<_> = tars.iter().map(|tar| self.add(&gzip(tar), LAYER)).collect();
        self.image_of(&layers, &json!(diff_ids), architecture)
    }

    fn image_of(&self, layers: &[Value], diff_ids: &Value, architecture: &str) -> Value {
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
    fn tag(&self, tag: &str, images: &[(&str, Value)]) {
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
    fn tag_image(&self, tag: &str, image: &Value) {
        let manifest = self.0.lock().unwrap()[image["digest"].as_str().unwrap()].clone();
        self.put(tag, manifest);
    }

    /// Puts other bytes where those of `tar`'s layer are.
    fn spoil(&self, tar: &[u8]) {
        let mut bytes = gzip(tar);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.put(&layer_id(tar).to_string(), bytes);
    }
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const HOST: &str = std::env::consts::ARCH;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn layer_id(tar: &[u8]) -> LayerId {
    Digest::of(&gzip(tar))
}

fn tar(name: &str, content: &[u8]) -> Vec<u8> {
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
struct Host {
    directory: tempfile::TempDir,
    store: Store,
    events: RefCell<Vec<Event>>,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "root").unwrap();
        let events = RefCell::default();
        Self {
            directory,
            store,
            events,
        }
    }

    fn pull_for(&self, server: &Server, tag: &str, platform: Option<&str>) -> Result<Pulled> {
        let reference = format!("{}/lib/x{tag}", server.address()).parse().unwrap();
        let platform = platform.map(|platform| platform.parse().unwrap());
        let unpacking = unpack::Options {
            owners: Owners::Kept,
            overlay: OverlayAttributes::Trusted,
            limits: Limits::default(),
        };
        self.events.borrow_mut().clear();
        let tell = |event| self.events.borrow_mut().push(event);
        pull(
            &self.store,
            &reference,
            platform.as_ref(),
            &unpacking,
            &tell,
        )
    }

    fn pull(&self, server: &Server, tag: &str) -> Result<Pulled> {
        self.pull_for(server, tag, None)
    }

    fn refusal(&self, server: &Server, tag: &str) -> String {
        let error = format!("{:#}", self.pull(server, tag).unwrap_err());
        self.check_empty();
        error
    }

    /// Checks that the store is as it was when new.
    fn check_empty(&self) {
        for name in ["tmp", "layers", "images", "refs", "blobs/sha256", "leases"] {
            let left: Vec<PathBuf> = fs_err::read_dir(self.directory.path().join("v1").join(name))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
    }

    fn file(&self, tar: &[u8], name: &str) -> PathBuf {
        self.store.layer_fs(&Digest::of(tar)).join(name)
    }

    /// The states that one layer went through, downloads once each.
    fn states(&self, id: &LayerId) -> Vec<LayerState> {
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

fn paths(server: &Server) -> Vec<String> {
    let asked = server.asked().into_iter();
    asked
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .collect()
}

fn blobs_asked(server: &Server, id: &LayerId) -> usize {
    let name = id.to_string();
    paths(server)
        .iter()
        .filter(|path| path.ends_with(&name))
        .count()
}

#[test]
fn an_image_arrives_whole_and_pulling_again_asks_one_question() {
    let content = Content::default();
    let (base, top) = (tar("base", b"first"), tar("top", &vec![7; 1 << 20]));
    let other = content.image(&[&tar("x", b"")], "s390x");
    let wanted = content.image(&[&base, &top], HOST);
    content.tag("1", &[("s390x", other), (HOST, wanted)]);
    let (server, host) = (content.serve(), Host::new());

    let pulled = host.pull(&server, ":1").unwrap();
    assert!(pulled.newer);
    assert_eq!(pulled.digest, Digest::of(&content.0.lock().unwrap()["1"]));
    assert_eq!(fs_err::read(host.file(&base, "base")).unwrap(), b"first");
    assert_eq!(
        fs_err::read(host.file(&top, "top")).unwrap(),
        vec![7; 1 << 20]
    );
    assert_eq!(
        host.store.tag(&pulled.reference).unwrap(),
        Some(pulled.image.clone())
    );
    let size = gzip(&top).len() as u64;
    assert_eq!(
        host.states(&layer_id(&top)),
        [
            LayerState::Waiting { size },
            LayerState::Downloading {
                received: size,
                size
            },
            LayerState::DownloadComplete,
            LayerState::PullComplete,
        ]
    );
    let started = host.events.borrow()[0].clone();
    assert!(
        matches!(started, Event::Started { layers, .. } if layers == [layer_id(&base), layer_id(&top)])
    );

    let before = server.asked().len();
    let again = host.pull(&server, ":1").unwrap();
    assert!(!again.newer && again.image == pulled.image && again.digest == pulled.digest);
    assert_eq!(paths(&server)[before..], ["HEAD /v2/lib/x/manifests/1"]);
    assert!(host.events.borrow().is_empty());

    let by_digest = host.pull(&server, &format!("@{}", pulled.digest)).unwrap();
    assert!(!by_digest.newer && by_digest.image == pulled.image);
}

#[test]
fn what_another_image_brought_is_not_fetched_again() {
    let content = Content::default();
    let (base, top) = (tar("base", b"1"), tar("top", b"2"));
    content.tag_image("1", &content.image(&[&base], HOST));
    content.tag_image("2", &content.image(&[&base, &top], HOST));
    let (server, host) = (content.serve(), Host::new());
    host.pull(&server, ":1").unwrap();
    host.pull(&server, ":2").unwrap();
    assert_eq!(host.states(&layer_id(&base)), [LayerState::AlreadyExists]);
    assert_eq!(blobs_asked(&server, &layer_id(&base)), 1);
}

#[test]
fn a_tag_that_moved_is_followed_and_a_removed_layer_comes_back() {
    let content = Content::default();
    let (one, two) = (tar("one", b"1"), tar("two", b"2"));
    content.tag_image("1", &content.image(&[&one], HOST));
    let (server, host) = (content.serve(), Host::new());
    let first = host.pull(&server, ":1").unwrap();
    content.tag_image("1", &content.image(&[&two], HOST));
    let second = host.pull(&server, ":1").unwrap();
    assert!(second.newer && second.image != first.image);
    assert_eq!(
        host.store.tag(&second.reference).unwrap(),
        Some(second.image)
    );

    fs_err::remove_dir_all(host.file(&two, "").parent().unwrap()).unwrap();
    assert!(host.pull(&server, ":1").unwrap().newer);
    assert!(host.file(&two, "two").exists());
}

#[test]
fn a_layer_listed_twice_is_fetched_once() {
    let content = Content::default();
    let (a, b) = (tar("a", b"1"), tar("b", b"2"));
    content.tag_image("1", &content.image(&[&a, &b, &a], HOST));
    let (server, host) = (content.serve(), Host::new());
    host.pull(&server, ":1").unwrap();
    assert_eq!(blobs_asked(&server, &layer_id(&a)), 1);
    assert_eq!(
        host.states(&layer_id(&a)).last(),
        Some(&LayerState::PullComplete)
    );
}

#[test]
fn an_image_without_layers_is_an_image() {
    let content = Content::default();
    content.tag_image("1", &content.image(&[], HOST));
    assert!(Host::new().pull(&content.serve(), ":1").unwrap().newer);
}

#[test]
fn a_blob_with_other_bytes_is_tried_once_more_and_leaves_nothing() {
    let content = Content::default();
    let (good, bad) = (
        tar("good", b"1"),
        tar("bad", &(0..=255).collect::<Vec<u8>>()),
    );
    content.tag_image("1", &content.image(&[&good, &bad], HOST));
    content.spoil(&bad);
    let (server, host) = (content.serve(), Host::new());
    let refusal = host.refusal(&server, ":1");
    let id = layer_id(&bad);
    assert!(
        refusal.starts_with(&format!("layer `{}`: the registry sent ", id.short())),
        "{refusal}"
    );
    assert_eq!(blobs_asked(&server, &id), 2);
}

#[test]
fn a_blob_that_was_damaged_on_its_way_is_put_right_by_the_second_try() {
    let content = Content::default();
    let layer = tar("layer", &(0..=255).collect::<Vec<u8>>());
    content.tag_image("1", &content.image(&[&layer], HOST));
    content.spoil(&layer);
    let registry = content.clone();
    let server = Server::start(move |asked, _| {
        let answer = registry.answer(asked);
        if asked.path.ends_with(layer_id(&layer).hex()) {
            registry.put(&layer_id(&layer).to_string(), gzip(&layer));
        }
        answer
    });
    Host::new().pull(&server, ":1").unwrap();
}

#[test]
fn claims_of_the_config_that_are_not_true_are_refused() {
    let content = Content::default();
    let (victim, mine) = (tar("etc/passwd", b"root"), tar("mine", b"mine"));
    let layer = content.add(&gzip(&mine), LAYER);
    content.tag_image(
        "1",
        &content.image_of(
            std::slice::from_ref(&layer),
            &json!([Digest::of(&victim)]),
            HOST,
        ),
    );
    content.tag_image(
        "2",
        &content.image_of(std::slice::from_ref(&layer), &json!([]), HOST),
    );
    let long = format!("sha512:{}", "0".repeat(128));
    content.tag_image("3", &content.image_of(&[layer], &json!([long]), HOST));
    let (server, host) = (content.serve(), Host::new());
    assert!(
        host.refusal(&server, ":1")
            .contains("the image's config says")
    );
    assert!(
        host.refusal(&server, ":2")
            .contains("the manifest has 1 layers, the config 0")
    );
    assert!(host.refusal(&server, ":3").contains("by sha512"));
}

#[test]
fn a_layer_that_would_leave_its_directory_fails_the_pull_and_is_named() {
    let content = Content::default();
    content.tag_image("1", &content.image(&[&tar("../../outside", b"x")], HOST));
    let (server, host) = (content.serve(), Host::new());
    let refusal = host.refusal(&server, ":1");
    assert!(refusal.contains("../../outside"), "{refusal}");
    assert!(!Path::new(host.directory.path()).join("outside").exists());
}

#[test]
fn a_registry_that_dies_in_the_middle_leaves_the_store_as_it_was() {
    let content = Content::default();
    let (good, lost) = (tar("good", b"1"), tar("lost", b"2"));
    content.tag_image("1", &content.image(&[&good, &lost], HOST));
    let (server, host) = (content.serve(), Host::new());
    content
        .0
        .lock()
        .unwrap()
        .remove(&layer_id(&lost).to_string());
    let refusal = host.refusal(&server, ":1");
    assert!(refusal.contains("not found in"), "{refusal}");
    assert!(host.refusal(&server, ":nope").contains("manifest for"));
}

#[test]
fn the_platform_is_chosen_and_a_wrong_one_refused() {
    let content = Content::default();
    let foreign = content.image(&[&tar("x", b"1")], "s390x");
    let own = content.image(&[&tar("y", b"2")], HOST);
    content.tag("both", &[(HOST, own), ("s390x", foreign.clone())]);
    content.tag("one", &[("s390x", foreign.clone())]);
    content.tag_image("single", &foreign);
    let (server, host) = (content.serve(), Host::new());
    assert!(
        host.refusal(&server, ":one")
            .contains("there is linux/s390x")
    );
    let mismatch = host
        .pull_for(&server, ":single", Some("linux/riscv64"))
        .unwrap_err();
    assert!(
        mismatch
            .to_string()
            .contains("its platform (linux/s390x) does not match"),
        "{mismatch}"
    );
    host.check_empty();
    // Without a wish, an image that has no index is taken as it is.
    host.pull(&server, ":single").unwrap();

    let native = host.pull(&server, ":both").unwrap();
    let other = host
        .pull_for(&server, ":both", Some("linux/s390x"))
        .unwrap();
    assert!(other.newer && other.image != native.image && other.digest == native.digest);
    assert_eq!(host.pull(&server, ":both").unwrap().image, native.image);
}
