//! ^C: a pull hears it in every phase, says so by its exit code, and leaves nothing that the next one trips over.

use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::Signal;

use crate::harness::ddock::Ddock;
use crate::harness::image::ImageBuilder;
use crate::harness::pulling::Pulling;
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;
use crate::harness::wait_for;

/// Longest time to the end. It is a second of a machine that does nothing else.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn a_pull_ends_at_once_whatever_it_waits_for_or_does() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let small = ImageBuilder::new().layer(Tree::new().file("small", 0o644, ""));
    ddock.ok(&["pull", "-q", &registry.push("small:1", &small.build())]);
    let tree = (0..20_000).fold(Tree::new(), |tree, n| {
        tree.file(&format!("d{}/{n}", n / 100), 0o644, "content")
    });
    let image = ImageBuilder::new().layer(tree).build();
    let reference = registry.push("large:1", &image);
    let store = ddock.root().join("v1");
    let partial = store
        .join("partial")
        .join(&image.layers()[0]["sha256:".len()..]);
    let hold = |path: &std::path::Path| {
        let file = fs_err::File::open(path).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        file
    };
    let interrupt = |what: &str, signal: Signal, reached: &dyn Fn(&Pulling) -> bool| {
        let mut pulling = Pulling::of(&ddock, &["pull", &reference]);
        wait_for(what, || reached(&pulling).then_some(()));
        let start = Instant::now();
        let code = pulling.stop(signal);
        assert_eq!(code, 128 + signal.as_raw(), "{what}: {}", pulling.log());
        assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
    };
    let asked = registry.requests().len();
    let guard = hold(&store.join("lock"));
    let resolved = |_: &Pulling| registry.requests().len() >= asked + 2;
    interrupt("the store's lock", Signal::INT, &resolved);
    drop(guard);
    fs_err::create_dir_all(&partial).unwrap();
    let guard = hold(&partial);
    let told = |pulling: &Pulling| pulling.log().contains("on its way by another pull");
    interrupt("another pull", Signal::TERM, &told);
    drop(guard);
    let unpacks = |_: &Pulling| {
        let stages = fs_err::read_dir(store.join("tmp")).unwrap();
        stages
            .flatten()
            .any(|stage| stage.path().join("0/fs/d50").exists())
    };
    interrupt("unpacking", Signal::INT, &unpacks);
    ddock.ok(&["pull", "-q", &reference]);
    ddock.ok(&["system", "check"]);
    assert_eq!(fs_err::read_dir(store.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs_err::read_dir(store.join("leases")).unwrap().count(), 0);
}
