//! What the container's root may do: Docker's capabilities, added to and dropped from.

use crate::options::{CAPABILITIES, Capability};
use anyhow::{Result, bail};
use serde::Serialize;
use std::collections::BTreeSet;

/// Docker's 14: what the programs of most images need, and nothing that reaches the host. `CapEff: 00000000a80425fb`.
pub(crate) const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

pub(crate) type Names = BTreeSet<&'static str>;

/// The sets of the first process, as config.json has them.
///
/// Inheritable and ambient are always empty: what is inheritable, a file in the image could hand to any user
/// of the container (CVE-2022-24769).
#[derive(Debug, Serialize)]
pub(crate) struct Sets {
    bounding: Names,
    effective: Names,
    permitted: Names,
    inheritable: Names,
    ambient: Names,
}

/// Returns the sets for the user `uid`: a user other than root has none, but can get what is in the bounding set
/// from setuid programs and file capabilities.
pub(crate) fn sets(bounding: Names, uid: u32) -> Sets {
    let own = if uid == 0 {
        bounding.clone()
    } else {
        Names::new()
    };
    Sets {
        bounding,
        effective: own.clone(),
        permitted: own,
        inheritable: Names::new(),
        ambient: Names::new(),
    }
}

/// Returns every capability that can be given. `available` has a bit for each, by its number.
pub(crate) fn all(available: u64) -> Names {
    let names = CAPABILITIES.into_iter().enumerate();
    let given = names.filter(|(number, _)| available & (1 << number) != 0);
    given.map(|(_, name)| name).collect()
}

/// Returns Docker's defaults with `--cap-add` and `--cap-drop` applied: `ALL` first, then what is named; dropping wins.
///
/// A default that this machine cannot give is left out, one that was asked for is an error.
pub(crate) fn choose(
    added: &[Capability],
    dropped: &[Capability],
    available: u64,
) -> Result<Names> {
    let available = all(available);
    let (add_all, added) = sort(added);
    let (drop_all, dropped) = sort(dropped);
    if let Some(name) = added.difference(&available).next() {
        bail!(
            "invalid --cap-add: `{name}` cannot be given: the kernel does not know it, or we do not have it"
        );
    }
    let start = match (add_all, drop_all) {
        (true, _) => available,
        (_, true) => Names::new(),
        _ => available.intersection(&DEFAULT.into()).copied().collect(),
    };
    let kept = start.union(&added).copied();
    Ok(kept.filter(|name| !dropped.contains(name)).collect())
}

/// Returns what is missing among `given`, although every container has it that is not asked to do without.
pub(crate) fn withheld(given: &Names, dropped: &[Capability], available: u64) -> Names {
    let (drop_all, dropped) = sort(dropped);
    let available = all(available);
    let wanted = DEFAULT.into_iter().filter(|_| !drop_all);
    let missing = wanted.filter(|name| !available.contains(name) && !given.contains(name));
    missing.filter(|name| !dropped.contains(name)).collect()
}

/// Returns whether `ALL` is among the words, and the others as names.
fn sort(words: &[Capability]) -> (bool, Names) {
    let is_there = |name: &&str| words.iter().any(|word| word.as_str() == *name);
    let names = CAPABILITIES.into_iter().filter(is_there).collect();
    (words.iter().any(Capability::is_all), names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVAILABLE: u64 = (1 << 41) - 1;

    fn named(words: &[&str]) -> Vec<Capability> {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    fn mask(names: &Names) -> u64 {
        let number = |name| {
            CAPABILITIES
                .iter()
                .position(|known| *known == name)
                .unwrap()
        };
        names.iter().map(|&name| 1_u64 << number(name)).sum()
    }

    #[test]
    fn the_defaults_are_dockers() {
        let names = choose(&[], &[], AVAILABLE).unwrap();
        assert_eq!(mask(&names), 0xa804_25fb);
        assert!(names.iter().is_sorted());
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let none = 0;
        let default = 0xa804_25fb;
        let (net_admin, chown, kill) = (1 << 12, 1, 1 << 5);
        let cases: &[(&[&str], &[&str], u64)] = &[
            (&["NET_ADMIN"], &[], default | net_admin),
            (&["cap_net_admin", "NET_ADMIN"], &[], default | net_admin),
            (&[], &["Chown"], default & !chown),
            (&["CHOWN"], &["CHOWN"], default & !chown),
            (&[], &["all"], none),
            (&["KILL", "CAP_CHOWN"], &["ALL"], kill | chown),
            (&["ALL"], &[], AVAILABLE),
            (&["CAP_ALL"], &["CHOWN"], AVAILABLE & !chown),
            (&["KILL"], &["ALL", "KILL"], none),
        ];
        for (added, dropped, expected) in cases {
            let names = choose(&named(added), &named(dropped), AVAILABLE).unwrap();
            assert_eq!(mask(&names), *expected, "+{added:?} -{dropped:?}");
        }
    }

    #[test]
    fn what_we_do_not_have_cannot_be_given() {
        let without_chown = AVAILABLE & !1;
        let names = choose(&[], &[], without_chown).unwrap();
        assert_eq!(mask(&names), 0xa804_25fa);
        assert!(choose(&named(&["CHOWN"]), &[], without_chown).is_err());
        let names = choose(&named(&["ALL"]), &[], without_chown).unwrap();
        assert_eq!(mask(&names), without_chown);
    }

    #[test]
    fn only_root_starts_with_capabilities() {
        let names = choose(&[], &[], AVAILABLE).unwrap();
        let root = sets(names.clone(), 0);
        assert_eq!((&root.effective, &root.permitted), (&names, &names));
        let user = sets(names.clone(), 1000);
        assert_eq!(user.bounding, names);
        assert!(user.effective.is_empty() && user.permitted.is_empty());
        for sets in [root, user] {
            assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
        }
    }
}
