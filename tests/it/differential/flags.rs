//! Which flags of `run` the cases have, so that a new one is compared or said to be ours alone.

use super::cases::CASES;
use crate::harness::ddock::Ddock;
use std::collections::BTreeSet;

/// Flags in no case, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("--authfile", "says how to pull: see `auth`"),
    ("--creds", "says how to pull: see `auth`"),
    ("--dry-run", "ours alone"),
    ("--explain", "ours alone"),
    ("--help", "its text is ours"),
    ("--insecure-registry", "ours alone"),
    (
        "--isolation",
        "Docker takes `default` alone on Linux, and podman has none: see `cli`",
    ),
    ("--mac-address", "needs a network: see `networks`"),
    ("--mirror", "ours alone"),
    (
        "--preserve-fd",
        "needs descriptors that are open: see `preserve_fds`",
    ),
    (
        "--preserve-fds",
        "needs descriptors that are open: see `preserve_fds`",
    ),
    ("--proc", "ours alone"),
    ("--retry", "says how to pull: see `pull`"),
    ("--retry-delay", "says how to pull: see `pull`"),
    ("--tls-verify", "says how to pull: see `transport`"),
];

/// Returns every flag's long name, with the short one if it has one.
fn flags(help: &str) -> Vec<(String, Option<String>)> {
    // What explains one stands further to the right.
    let lines = help.lines().filter(|line| !line.starts_with("       "));
    let lines = lines
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let words = lines.map(|line| {
        let ends = |c: char| c == ' ' || c == '=' || c == ',' || c == '[';
        line.split(ends)
            .filter(|word| word.starts_with('-'))
            .map(str::to_owned)
    });
    let names = words.map(|mut words| match words.next() {
        Some(short) if !short.starts_with("--") => (words.next().unwrap(), Some(short)),
        long => (long.unwrap(), None),
    });
    names.collect()
}

#[test]
fn every_flag_is_compared_or_excepted() {
    let help = Ddock::new().ok(&["run", "--help"]);
    // What every case has.
    let mut used = BTreeSet::from(["--rm", "--network"]);
    let words = CASES.iter().flat_map(|case| case.flags);
    used.extend(words.map(|word| word.split('=').next().unwrap()));
    let flags = flags(&help);
    assert!(flags.len() > 80, "{help}");
    let mut missing = Vec::new();
    for (long, short) in &flags {
        let is_used = used.contains(long.as_str())
            || short.as_deref().is_some_and(|name| used.contains(name));
        let is_excepted = EXCEPTIONS.iter().any(|(name, _)| name == long);
        if is_used == is_excepted {
            missing.push(long);
        }
    }
    assert!(
        missing.is_empty(),
        "in no case, or both in one and excepted: {missing:?}"
    );
    for (name, reason) in EXCEPTIONS {
        let is_there = flags.iter().any(|(long, _)| long == name);
        assert!(is_there, "no longer a flag: {name}: {reason}");
    }
}
