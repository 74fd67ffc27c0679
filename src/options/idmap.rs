//! The option `idmap` of binds: whose the files of the host are inside.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What an `idmap` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Idmap {
    /// The owner of the source is root inside.
    Owner,
    /// As podman writes it: each range of the host's IDs and what it is inside.
    Given(IdMaps),
}

/// The IDs on the disk as they are seen, and the other way round for what is written. What is in no range is nobody's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMaps {
    #[serde(rename = "uidMappings", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) users: Vec<IdRange>,
    #[serde(rename = "gidMappings", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<IdRange>,
}

/// A range of IDs as config.json has it: the container is what lies on the disk there, the host is who sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    #[serde(rename = "containerID")]
    disk: u32,
    #[serde(rename = "hostID")]
    seen: u32,
    size: u32,
}

/// How many IDs there are: the last number stands for none (`user_namespaces(7)`).
const ALL: u32 = u32::MAX;

impl FromStr for Idmap {
    type Err = anyhow::Error;

    /// Returns what `uids=DISK-SEEN-COUNT#…;gids=…` means; a kind of IDs that is not named stays as it is.
    fn from_str(text: &str) -> Result<Self> {
        let mut maps = IdMaps::default();
        for part in text.split(';') {
            let (kind, ranges) = part.split_once('=').unwrap_or((part, ""));
            let known = match kind {
                "uids" => &mut maps.users,
                "gids" => &mut maps.groups,
                _ => anyhow::bail!(
                    "invalid idmap: {text} (expected `uids=0-1000-1#…;gids=…`, each as \
                     ON_THE_HOST-INSIDE-COUNT)"
                ),
            };
            ensure!(known.is_empty(), "invalid idmap: {text}: `{kind}` twice");
            *known = ranges.split('#').map(range).collect::<Result<_>>()?;
            refuse_overlap(known)?;
        }
        for kind in [&mut maps.users, &mut maps.groups] {
            if kind.is_empty() {
                kind.extend(IdRange::root_is(0));
            }
        }
        Ok(Self::Given(maps))
    }
}

impl IdRange {
    /// Returns ranges by which `owner` is seen as root, and everyone else as themselves.
    ///
    /// The host's root and the container's user of the owner's number are left without a counterpart. Were they each
    /// other's, a process without any rights inside could write the files of the host's root, and make set-uid ones.
    pub(crate) fn root_is(owner: u32) -> Vec<Self> {
        let same = |start, end: u32| Self {
            disk: start,
            seen: start,
            size: end - start,
        };
        if owner == 0 {
            return vec![same(0, ALL)];
        }
        let root = Self {
            disk: owner,
            seen: 0,
            size: 1,
        };
        let others = [same(1, owner), same(owner.saturating_add(1), ALL)];
        let others = others.into_iter().filter(|range| range.size > 0);
        [root].into_iter().chain(others).collect()
    }
}

/// Returns one range. An `@` says that it is relative to the container's user namespace: root's has none.
fn range(text: &str) -> Result<IdRange> {
    let mut numbers = text.strip_prefix('@').unwrap_or(text).split('-');
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let found = (number(), number(), number());
    let fits = |start: u32, size: u32| start.checked_add(size).is_some();
    let range = match found {
        (Some(disk), Some(seen), Some(size)) if numbers.next().is_none() => {
            Some(IdRange { disk, seen, size })
        }
        _ => None,
    };
    range
        .filter(|range| {
            range.size > 0 && fits(range.disk, range.size) && fits(range.seen, range.size)
        })
        .with_context(|| {
            format!("invalid range of IDs: `{text}` (expected ON_THE_HOST-INSIDE-COUNT)")
        })
}

/// Two IDs of one side cannot be one of the other.
fn refuse_overlap(ranges: &[IdRange]) -> Result<()> {
    for (index, one) in ranges.iter().enumerate() {
        let meets = |start: fn(&IdRange) -> u32, other: &IdRange| {
            start(one) < start(other) + other.size && start(other) < start(one) + one.size
        };
        let mut others = ranges[..index].iter();
        let is_free = |other| !meets(|it| it.disk, other) && !meets(|it| it.seen, other);
        ensure!(
            others.all(is_free),
            "the ranges of an `idmap` overlap at `{}-{}-{}`",
            one.disk,
            one.seen,
            one.size
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ranges: &[IdRange]) -> String {
        let line = |range: &IdRange| format!("{} {} {}", range.disk, range.seen, range.size);
        ranges.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_owner_is_root_and_everyone_else_but_the_hosts_root_stays() {
        for (owner, expected) in [
            (0, "0 0 4294967295"),
            (1, "1 0 1, 2 2 4294967293"),
            (1000, "1000 0 1, 1 1 999, 1001 1001 4294966294"),
            (u32::MAX - 1, "4294967294 0 1, 1 1 4294967293"),
        ] {
            assert_eq!(shown(&IdRange::root_is(owner)), expected);
        }
    }

    #[test]
    fn ranges_are_podmans() {
        let parsed = |text: &str| match text.parse::<Idmap>().unwrap() {
            Idmap::Given(maps) => (shown(&maps.users), shown(&maps.groups)),
            other @ Idmap::Owner => panic!("{other:?}"),
        };
        let all = "0 0 4294967295";
        let own = |users: &str, groups: &str| (users.to_owned(), groups.to_owned());
        assert_eq!(parsed("uids=0-1-10"), own("0 1 10", all));
        assert_eq!(
            parsed("uids=@0-1-10#20-0-1;gids=5-6-7"),
            own("0 1 10, 20 0 1", "5 6 7")
        );
        for text in [
            "",
            "uids",
            "uids=",
            "x=0-1-1",
            "uids=0-1",
            "uids=0-1-0",
            "uids=0-1-1-1",
            "uids=0-1-a",
            "uids=4294967295-0-1",
            "uids=0-0-2#1-5-1",
            "uids=0-0-2#5-1-1",
            "uids=0-1-1;uids=0-1-1",
        ] {
            assert!(text.parse::<Idmap>().is_err(), "{text}");
        }
    }
}
