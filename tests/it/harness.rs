//! What the tests stand on: real registries, images made in code, ddock with a store of its own, terminals, users.

pub(crate) mod authority;
pub(crate) mod calls;
pub(crate) mod canned;
pub(crate) mod chance;
pub(crate) mod ddock;
pub(crate) mod fault;
pub(crate) mod fault_proxy;
pub(crate) mod host;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod layout;
pub(crate) mod line;
pub(crate) mod listing;
pub(crate) mod neighbour;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod proxy;
pub(crate) mod pulling;
pub(crate) mod random;
pub(crate) mod registry;
pub(crate) mod sample;
pub(crate) mod scratch;
pub(crate) mod terminal;
pub(crate) mod token_service;
pub(crate) mod tree;
pub(crate) mod user;

use std::time::{Duration, Instant};

/// How long anything that must happen may take on a busy two-core machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until `ready` gives a value, and fails the test with `what` after [`DEADLINE`].
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
