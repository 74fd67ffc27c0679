//! What arrived stays, and is not fetched again.

use super::*;
use crate::pull::testing::{noise, serve_parts};
use crate::registry::testing::Asked;
use std::sync::atomic::AtomicUsize;
use std::thread;

/// An image of one layer that is `length` bytes long, uncompressed; its blob is its tar.
fn image(content: &Content, length: usize) -> Vec<u8> {
    let layer = tar("noise", &noise(length as u64, length));
    let descriptor = content.add(&layer, "application/vnd.oci.image.layer.v1.tar");
    let image = content.image_of(&[descriptor], &json!([Digest::of(&layer)]), HOST);
    content.tag_image("1", &image);
    layer
}

fn parts(server: &Server, blob: &[u8]) -> Vec<Option<(usize, usize)>> {
    let name = Digest::of(blob).to_string();
    let asked = server.asked().into_iter();
    asked
        .filter(|asked| asked.path.ends_with(&name))
        .map(|asked| asked.part())
        .collect()
}

fn partial(host: &Host, blob: &[u8]) -> std::path::PathBuf {
    let hex = Digest::of(blob).hex().to_owned();
    host.directory.path().join("v1/partial").join(hex)
}

fn check(host: &Host, layer: &[u8], length: usize) {
    let file = fs_err::read(host.file(layer, "noise")).unwrap();
    assert!(file == noise(length as u64, length));
    assert!(!partial(host, layer).exists());
}

/// Ends a pull of the image after `length` bytes of its layer, by an answer that no retry mends.
fn stop_after(content: &Content, host: &Host, layer: &[u8], length: usize) {
    let (registry, name) = (content.clone(), Digest::of(layer).to_string());
    let server = serve_parts(content, true, move |asked: &Asked| {
        if !asked.path.ends_with(&name) {
            return usize::MAX;
        }
        // From now on it is "not found".
        registry.0.lock().unwrap().remove(&name);
        length
    });
    host.pull(&server, ":1").unwrap_err();
}

#[test]
fn a_pull_that_failed_is_taken_up_where_it_stopped() {
    let (content, host) = (Content::default(), Host::new());
    let layer = image(&content, 1 << 20);
    stop_after(&content, &host, &layer, 300_000);
    assert_eq!(
        fs_err::metadata(partial(&host, &layer).join("0"))
            .unwrap()
            .len(),
        300_000
    );
    content.add(&layer, "");
    let server = serve_parts(&content, true, |_| usize::MAX);
    host.pull(&server, ":1").unwrap();
    assert_eq!(parts(&server, &layer), [Some((300_000, layer.len()))]);
    check(&host, &layer, 1 << 20);
    let first = host.states(&Digest::of(&layer))[1];
    assert!(matches!(first, LayerState::Downloading { .. }), "{first:?}");
}

#[test]
fn all_of_it_there_needs_no_byte_more() {
    let (content, host) = (Content::default(), Host::new());
    let layer = image(&content, 1 << 20);
    let partial = host.store.partial(&Digest::of(&layer)).unwrap().unwrap();
    std::io::Write::write_all(&mut partial.append(0).unwrap(), &layer).unwrap();
    drop(partial);
    let server = serve_parts(&content, true, |_| usize::MAX);
    host.pull(&server, ":1").unwrap();
    assert_eq!(parts(&server, &layer), []);
    check(&host, &layer, 1 << 20);
}

#[test]
fn what_is_there_and_wrong_costs_the_blob_once_more() {
    for damage in ["flipped", "longer", "foreign", "overlapping"] {
        let (content, host) = (Content::default(), Host::new());
        let layer = image(&content, 1 << 20);
        let partial = host.store.partial(&Digest::of(&layer)).unwrap().unwrap();
        let mut bytes = layer[..500_000].to_vec();
        let write = |start, bytes: &[u8]| {
            std::io::Write::write_all(&mut partial.append(start).unwrap(), bytes).unwrap();
        };
        match damage {
            "flipped" => bytes[1000] ^= 1,
            "longer" => bytes = noise(1, 2 << 20),
            "foreign" => write(3_000_000, b"beyond the end"),
            _ => write(200_000, &layer[200_000..200_100]),
        }
        write(0, &bytes);
        drop(partial);
        let server = serve_parts(&content, true, |_| usize::MAX);
        host.pull(&server, ":1").unwrap();
        let asked = parts(&server, &layer);
        let again = asked.contains(&None);
        assert_eq!(
            again,
            matches!(damage, "flipped" | "longer"),
            "{damage}: {asked:?}"
        );
        check(&host, &layer, 1 << 20);
    }
}

#[test]
fn a_server_without_parts_sends_the_blob_once_more_and_no_more() {
    let (content, host) = (Content::default(), Host::new());
    let layer = image(&content, 1 << 20);
    stop_after(&content, &host, &layer, 300_000);
    content.add(&layer, "");
    let server = serve_parts(&content, false, |_| usize::MAX);
    host.pull(&server, ":1").unwrap();
    assert_eq!(parts(&server, &layer), [Some((300_000, layer.len()))]);
    check(&host, &layer, 1 << 20);
}

const LARGE: usize = 50 << 20;

#[test]
fn a_large_blob_is_fetched_in_parts_by_several_connections() {
    let (content, host) = (Content::default(), Host::new());
    let layer = image(&content, LARGE);
    let server = serve_parts(&content, true, |_| usize::MAX);
    host.pull(&server, ":1").unwrap();
    let mut asked: Vec<_> = parts(&server, &layer).into_iter().flatten().collect();
    asked.sort_unstable();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(
        asked.windows(2).all(|pair| pair[0].1 == pair[1].0),
        "{asked:?}"
    );
    check(&host, &layer, LARGE);
    // And by one connection, if that is all it may have.
    let host = Host {
        jobs: 1,
        ..Host::new()
    };
    host.pull(&server, ":1").unwrap();
    check(&host, &layer, LARGE);
}

#[test]
fn a_large_blob_of_a_server_without_parts_comes_by_one_answer() {
    let (content, host) = (Content::default(), Host::new());
    let layer = image(&content, LARGE);
    let server = serve_parts(&content, false, |_| usize::MAX);
    host.pull(&server, ":1").unwrap();
    assert_eq!(parts(&server, &layer).len(), 1);
    check(&host, &layer, LARGE);
}

#[test]
fn parts_that_break_are_taken_up_each_where_it_broke() {
    let (content, host) = (Content::default(), Host::new());
    let layer = image(&content, LARGE);
    let asked = AtomicUsize::new(0);
    let server = serve_parts(&content, true, move |_| {
        // The first is the config.
        match asked.fetch_add(1, Ordering::Relaxed) {
            1..=6 => 1 << 20,
            _ => usize::MAX,
        }
    });
    host.pull(&server, ":1").unwrap();
    assert_eq!(parts(&server, &layer).len(), 4 + 6);
    check(&host, &layer, LARGE);
}

#[test]
fn two_pulls_of_one_image_fetch_it_once() {
    let content = Content::default();
    let layer = image(&content, 4 << 20);
    let server = serve_parts(&content, true, |_| usize::MAX);
    let first = Host::new();
    let second = Host {
        directory: tempfile::tempdir().unwrap(),
        store: first.store.clone(),
        events: RefCell::default(),
        jobs: 4,
        retry: first.retry,
    };
    thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || second.pull(server, ":1").unwrap());
        first.pull(server, ":1").unwrap();
    });
    assert_eq!(parts(&server, &layer), [None]);
    check(&first, &layer, 4 << 20);
}

#[test]
fn an_image_that_cannot_fit_is_refused_before_a_byte_moves() {
    let (content, host) = (Content::default(), Host::new());
    let layer = tar("x", b"1");
    let mut descriptor = content.add(&layer, "application/vnd.oci.image.layer.v1.tar");
    descriptor["size"] = json!(1_u64 << 52);
    let image = content.image_of(&[descriptor], &json!([Digest::of(&layer)]), HOST);
    content.tag_image("1", &image);
    let server = content.serve();
    let refusal = host.refusal(&server, ":1");
    assert!(
        refusal.contains("the image needs at least 9.01PB in"),
        "{refusal}"
    );
    assert!(parts(&server, &layer).is_empty());
}
