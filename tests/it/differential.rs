//! The same image and flags under ddock, Docker and podman, and the same bundle under runc: what a process in the container finds
//! is the same, or listed with its reason.

mod cases;
mod flags;
mod known;
mod side;
mod view;

use crate::harness::peer::{Kind, Peer};
use cases::CASES;
use known::Ledger;
use side::{Bundles, Ours, Side};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many containers of each side run at a time: a container waits more than it works.
const WORKERS: usize = 3;

/// Runs every case under both and returns the differences that nobody has explained.
fn compare(peer: Kind, ours: &dyn Side, theirs: &dyn Side) -> String {
    let cases: Vec<_> = CASES.iter().filter(|case| case.is_for(peer)).collect();
    let (next, ledger) = (AtomicUsize::new(0), Mutex::new(Ledger::new(peer)));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (ours, theirs) = (ours.view(case), theirs.view(case));
                    let mut ledger = ledger.lock().unwrap();
                    for difference in ours.differences(&theirs) {
                        ledger.enter(case.name, &difference);
                    }
                }
            });
        }
    });
    ledger.into_inner().unwrap().unexplained()
}

#[test]
fn a_container_finds_what_it_finds_under_docker() {
    let (ours, docker) = (Ours::new(), Peer::docker());
    let theirs = ours.beside(&docker);
    let unexplained = compare(Kind::Docker, &ours, &theirs);
    assert!(unexplained.is_empty(), "{unexplained}");
}

#[test]
fn a_container_finds_what_it_finds_under_podman() {
    let (ours, podman) = (Ours::new(), Peer::podman());
    let theirs = ours.beside(&podman);
    let unexplained = compare(Kind::Podman, &ours, &theirs);
    assert!(unexplained.is_empty(), "{unexplained}");
}

#[test]
fn a_bundle_gives_under_runc_what_it_gives_under_ddock() {
    let ours = Ours::keeping();
    let unexplained = compare(Kind::Runc, &ours, &Bundles::of(&ours));
    assert!(unexplained.is_empty(), "{unexplained}");
}
