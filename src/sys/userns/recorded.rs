//! Mappings that stores were made under: read back, and whether their user can have them still.

use crate::sys::userns::{Alone, Inside, Mapping, Range, helper};
use rustix::process::getegid;

/// Where IDs are granted to users (subuid(5)): these, and the same for groups.
const GRANTS: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// Where `useradd` begins to grant IDs, and how many it grants (login.defs(5), `SUB_UID_MIN` and `SUB_UID_COUNT`).
const USUAL: Range = Range {
    start: 100_000,
    count: 65536,
};

/// What a user lacks to have a mapping that he had once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// `newuidmap` and `newgidmap`.
    Helpers,
    /// These, in /etc/subuid and /etc/subgid.
    Ranges { uids: Range, gids: Range },
    /// To be in this group first of all.
    Group(u32),
}

impl Mapping {
    /// Reads the name of a mapping, as `Display` writes it; `None` if it is none.
    pub(crate) fn recorded(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let kind = words.next()?;
        if kind == "root" {
            return Some(Self::Root);
        }
        let (uid, gid) = words.next()?.split_once(':')?;
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        let inside = Inside::default();
        match kind {
            "single" => Some(Self::Single {
                uid,
                gid,
                inside,
                reason: Alone::ByRecord,
            }),
            "ranges" => Some(Self::Ranges {
                uid,
                gid,
                inside,
                uids: range(words.next()?)?,
                gids: range(words.next()?)?,
            }),
            _ => None,
        }
    }

    /// Returns what the caller lacks to have this mapping, which was his once.
    pub(crate) fn lacking(&self) -> Option<Lacking> {
        let gid = match *self {
            Self::Root => return None,
            Self::Ranges { gid, .. } | Self::Single { gid, .. } => gid,
        };
        if gid != getegid().as_raw() {
            return Some(Lacking::Group(gid));
        }
        let Self::Ranges {
            uid, uids, gids, ..
        } = *self
        else {
            return None;
        };
        if helper("newuidmap").is_none() || helper("newgidmap").is_none() {
            return Some(Lacking::Helpers);
        }
        let name = user_name(uid);
        let [has_users, has_groups] =
            [(GRANTS[0], uids), (GRANTS[1], gids)].map(|(file, range)| {
                // A file that is not there grants nothing.
                let text = fs_err::read_to_string(file).unwrap_or_default();
                is_granted(&text, uid, name.as_deref(), range)
            });
        (!has_users || !has_groups).then_some(Lacking::Ranges { uids, gids })
    }
}

/// Reads `FIRST+COUNT`.
fn range(text: &str) -> Option<Range> {
    let (start, count) = text.split_once('+')?;
    Some(Range {
        start: start.parse().ok()?,
        count: count.parse().ok()?,
    })
}

/// The ranges of subuid(5) that `text` grants, each with the name or number of whom it is granted to.
pub(super) fn grants(text: &str) -> impl Iterator<Item = (&str, Range)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((owner, Range { start, count }))
    })
}

/// Tells whether a line of `text` grants all of `range` to the user: `newuidmap` puts no two lines together.
fn is_granted(text: &str, uid: u32, name: Option<&str>, range: Range) -> bool {
    grants(text).any(|(owner, granted)| {
        let is_ours = Some(owner) == name || owner.parse() == Ok(uid);
        let end = |range: Range| u64::from(range.start) + u64::from(range.count);
        is_ours && granted.start <= range.start && end(range) <= end(granted)
    })
}

/// Returns a range as `useradd` grants it, which nobody has yet: of users nor of groups.
pub(crate) fn free_range() -> Range {
    // A file that is not there grants nothing.
    let texts = GRANTS.map(|file| fs_err::read_to_string(file).unwrap_or_default());
    after_all(&texts)
}

fn after_all(texts: &[String]) -> Range {
    let granted = texts.iter().flat_map(|text| grants(text));
    let ends = granted.map(|(_, range)| range.start.saturating_add(range.count));
    Range {
        start: ends.max().unwrap_or_default().max(USUAL.start),
        ..USUAL
    }
}

impl Range {
    /// Returns the range as `usermod --add-subuids` takes it: the first and the last.
    pub(crate) fn ends(self) -> String {
        let last = u64::from(self.start) + u64::from(self.count).saturating_sub(1);
        format!("{}-{last}", self.start)
    }
}

/// The user's name from `/etc/passwd`: other sources of users need libraries a static binary cannot load.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    // Without a name the ranges may still be granted to the number.
    let passwd = fs_err::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_was_made_under_is_read_back() {
        for text in [
            "root",
            "single 1000:998",
            "ranges 1000:1000 100000+65536 200000+10",
        ] {
            assert_eq!(Mapping::recorded(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "single",
            "single 1000",
            "single x:1",
            "ranges 1:1 5+5",
            "ranges 1:1 5 5",
            "keep 1:1",
        ] {
            assert_eq!(Mapping::recorded(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_is_granted_whole_or_not_at_all() {
        let text = "alice:100000:65536\n1001:300000:10\nalice:165536:10\n";
        let granted = |uid, name, start, count| is_granted(text, uid, name, Range { start, count });
        assert!(granted(1000, Some("alice"), 100_000, 65536));
        assert!(granted(1000, Some("alice"), 100_010, 10));
        assert!(granted(1001, None, 300_000, 10));
        assert!(!granted(1000, Some("alice"), 99_999, 2));
        assert!(!granted(1000, Some("alice"), 100_000, 65537));
        assert!(!granted(1000, Some("alice"), 300_000, 10));
        assert!(!granted(1000, Some("alice"), u32::MAX, u32::MAX));
    }

    #[test]
    fn a_new_range_begins_where_the_others_end() {
        let text = |text: &str| text.to_owned();
        assert_eq!(after_all(&[]).ends(), "100000-165535");
        let texts = [
            text("a:100000:65536\nb:165536:65536\n"),
            text("a:500000:1\n"),
        ];
        assert_eq!(after_all(&texts).ends(), "500001-565536");
    }
}
