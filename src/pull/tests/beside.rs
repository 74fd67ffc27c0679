//! Pulls beside others: who shares a layer waits for that layer alone, and for nobody who stands still.

use super::*;
use crate::store::Partial;
use fs_err as fs;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Instant;

impl Host {
    /// Another user of the same store.
    fn beside(&self) -> Self {
        Self {
            store: self.store.clone(),
            ..Self::new()
        }
    }
}

fn wait_for(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !what() {
        assert!(Instant::now() < end, "it does not come");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_pull_waits_for_no_more_of_another_than_the_layer_that_they_share() {
    let content = Content::default();
    let [shared, slow, other] = ["shared", "slow", "other"].map(|name| tar(name, b"1"));
    content.tag_image("1", &content.image(&[&shared, &slow], HOST));
    content.tag_image("2", &content.image(&[&shared, &other], HOST));
    let open = Arc::new(AtomicBool::new(false));
    let (registry, gate, name) = (content.clone(), Arc::clone(&open), layer_id(&slow));
    let server = Server::start(move |asked, _| {
        let answer = registry.answer(asked);
        if asked.path.ends_with(name.hex()) && !gate.load(Ordering::Relaxed) {
            // The connection breaks; the pull asks again, and again.
            return answer.cut(0);
        }
        answer
    });
    let first = Host::new();
    let second = first.beside();
    thread::scope(|scope| {
        let (server, slow) = (&server, &slow);
        let done = scope.spawn(move || {
            first
                .pull(server, ":1")
                .map(|_| first.file(slow, "slow").exists())
        });
        wait_for(|| second.store.layer(&Digest::of(&shared)).unwrap().is_some());
        second.pull(server, ":2").unwrap();
        assert!(!done.is_finished());
        open.store(true, Ordering::Relaxed);
        assert!(done.join().unwrap().unwrap());
    });
    assert_eq!(blobs_asked(&server, &layer_id(&shared)), 1);
}

#[test]
fn what_another_does_not_go_on_with_is_fetched_apart() {
    // It has nothing of it, a part, or all and does not say that it is alive.
    for length in [0, 20, usize::MAX] {
        let content = Content::default();
        let layer = tar("layer", b"1");
        content.tag_image("1", &content.image(&[&layer], HOST));
        let (server, host) = (content.serve(), Host::new());
        let held: Partial = host.store.partial(&layer_id(&layer)).unwrap().unwrap();
        let blob = gzip(&layer);
        let part = &blob[..length.min(blob.len())];
        std::io::Write::write_all(&mut held.append(0).unwrap(), part).unwrap();
        host.pull(&server, ":1").unwrap();
        assert!(host.file(&layer, "layer").exists());
        // What the other one has stays its own.
        assert_eq!(held.segments().unwrap()[&0], part.len() as u64);
        assert_eq!(
            fs::read_dir(host.store.directory().join("tmp"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn another_that_goes_on_is_waited_for() {
    let content = Content::default();
    let layer = tar("layer", b"1");
    content.tag_image("1", &content.image(&[&layer], HOST));
    let (server, host) = (content.serve(), Host::new());
    let held = host.store.partial(&layer_id(&layer)).unwrap().unwrap();
    std::io::Write::write_all(&mut held.append(0).unwrap(), &gzip(&layer)).unwrap();
    let beats = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Longer than the other's patience.
            for _ in 0..35 {
                held.beat().unwrap();
                beats.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(200));
            }
            held.clear().unwrap();
            drop(held);
        });
        host.pull(&server, ":1").unwrap();
    });
    assert_eq!(beats.into_inner(), 35);
    assert_eq!(blobs_asked(&server, &layer_id(&layer)), 1);
}

#[test]
fn a_layer_that_is_found_damaged_meanwhile_is_pulled_again() {
    for harm in ["condemned", "removed", "emptied"] {
        let content = Content::default();
        let (base, top) = (tar("base", b"1"), tar("top", b"2"));
        content.tag_image("1", &content.image(&[&base], HOST));
        content.tag_image("2", &content.image(&[&base, &top], HOST));
        let host = Host::new();
        host.pull(&content.serve(), ":1").unwrap();
        let (registry, store, name) = (content.clone(), host.store.clone(), layer_id(&top));
        let diff_id = Digest::of(&base);
        let server = Server::start(move |asked, _| {
            // The pull knows by now that the base is here.
            if asked.path.ends_with(name.hex()) {
                let lock = store.exclusive().unwrap();
                let directory = store.layer_fs(&diff_id);
                match harm {
                    "condemned" => store.condemn_layer(&lock, &diff_id).unwrap(),
                    "removed" => fs::remove_dir_all(directory.parent().unwrap()).unwrap(),
                    _ => fs::write(directory.with_file_name("meta.json"), "").unwrap(),
                }
            }
            registry.answer(asked)
        });
        host.pull(&server, ":2").unwrap();
        assert!(host.file(&base, "base").exists(), "{harm}");
        assert_eq!(blobs_asked(&server, &layer_id(&base)), 1, "{harm}");
    }
}
