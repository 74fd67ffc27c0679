//! Pulls from a registry that the test fills into a real store.

use super::*;
use crate::digest::Digest;
use crate::pull::testing::{Content, HOST, Host, LAYER, gzip, layer_id, tar};
use crate::registry::testing::{Answer, Server};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::json;

mod beside;
mod resume;

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
fn a_pull_is_begun_anew_as_often_as_asked_when_what_was_wrong_may_pass() {
    let content = Content::default();
    let layer = tar("f", b"1");
    content.tag_image("1", &content.image(&[&layer], HOST));
    for (status, times, pulls) in [(429, 1, false), (429, 2, true), (403, 9, false)] {
        let content = content.clone();
        let server = Server::start(move |asked, number| match number {
            // Longer than a pull itself waits.
            0..2 => Answer::status(status).header("Retry-After", "100000"),
            _ => content.answer(asked),
        });
        let mut host = Host::new();
        let delay = Some(Duration::from_millis(20));
        host.retry = Retry { times, delay };
        assert_eq!(host.pull(&server, ":1").is_ok(), pulls, "{status} {times}");
        let events = host.events.borrow();
        let waits = events
            .iter()
            .filter(|event| matches!(event, Event::Waiting { wait, .. } if Some(*wait) == delay));
        let expected = if status == 429 { times } else { 0 };
        assert_eq!(
            u32::try_from(waits.count()),
            Ok(expected),
            "{status} {times}"
        );
    }
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
fn a_layer_that_its_descriptor_brings_along_is_not_asked_for() {
    let content = Content::default();
    let layer = tar("small", b"1");
    let blob = gzip(&layer);
    let mut descriptor = content.add(&blob, LAYER);
    descriptor["data"] = json!(STANDARD.encode(&blob));
    let diff_ids = json!([Digest::of(&layer)]);
    content.tag_image(
        "1",
        &content.image_of(&[descriptor.clone()], &diff_ids, HOST),
    );
    descriptor["data"] = json!(STANDARD.encode(gzip(b"another")));
    content.tag_image("2", &content.image_of(&[descriptor], &diff_ids, HOST));
    let (server, host) = (content.serve(), Host::new());
    assert!(host.refusal(&server, ":2").contains("were promised"));
    host.pull(&server, ":1").unwrap();
    assert_eq!(blobs_asked(&server, &layer_id(&layer)), 0);
    assert!(host.file(&layer, "small").exists());
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
    assert!(!host.directory.path().join("outside").exists());
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
    assert!(host.refusal(&server, ":nope").contains("manifest for"));
    let refusal = format!("{:#}", host.pull(&server, ":1").unwrap_err());
    assert!(refusal.contains("not found in"), "{refusal}");
    // A layer that came waits for the next pull, as what of others did.
    host.store.sweep().unwrap();
    host.check_empty();
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
