//! User namespaces for ordinary users: which IDs they may map, and entering one.

mod recorded;

pub(crate) use recorded::{Lacking, free_range, user_name};

use crate::sys::clone::{Clone, clone, end_child, fork};
use crate::sys::lookup;
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags as Propagation, mount_change};
use rustix::process::{Pid, WaitOptions, getegid, geteuid, waitpid};
use std::fmt::{self, Display};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How the IDs of this process's user and of those below it are seen inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Root of the machine: no user namespace, every ID is itself.
    Root,
    /// Root inside is the user; the IDs from 1 up are the ranges that `/etc/subuid` and `/etc/subgid` grant.
    Ranges {
        uid: u32,
        gid: u32,
        inside: Inside,
        uids: Range,
        gids: Range,
    },
    /// Root inside is the user, and there are no others.
    Single {
        uid: u32,
        gid: u32,
        inside: Inside,
        reason: Alone,
    },
}

/// Why a user has no IDs but the own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alone {
    WithoutHelpers,
    WithoutRange,
    /// The files that are there already are the user's, whoever they belonged to in their image.
    ByRecord,
}

impl Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WithoutHelpers => {
                "`newuidmap` and `newgidmap` are not installed (Debian: uidmap)"
            }
            Self::WithoutRange => "the user has no range in /etc/subuid and /etc/subgid",
            Self::ByRecord => {
                "the store was made before the user had a range in /etc/subuid and /etc/subgid; \
                 a new one has it (`ddock system reset` removes this one)"
            }
        })
    }
}

/// Who the user is inside, if not root: then the two change places.
///
/// Files that the image gives to root are the user's on disk, and so they are inside: there is one store for all, and
/// only root can shift owners with a mount (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// IDs granted to a user: `count` of them, from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) count: u32,
}

impl Mapping {
    /// Returns the mapping that the caller of this process can have.
    pub(crate) fn of_caller() -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        if uid == 0 {
            return Self::Root;
        }
        let inside = Inside::default();
        let single = |reason| Self::Single {
            uid,
            gid,
            inside,
            reason,
        };
        if helper("newuidmap").is_none() || helper("newgidmap").is_none() {
            return single(Alone::WithoutHelpers);
        }
        let name = user_name(uid);
        let range = |file| first_range(&fs_err::read_to_string(file).ok()?, uid, name.as_deref());
        match (range("/etc/subuid"), range("/etc/subgid")) {
            (Some(uids), Some(gids)) => Self::Ranges {
                uid,
                gid,
                inside,
                uids,
                gids,
            },
            _ => single(Alone::WithoutRange),
        }
    }

    /// Tells whether every ID but the user's own is missing inside.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self, Self::Single { .. })
    }

    /// Returns the user's own IDs outside; root has no others.
    pub(crate) fn own(&self) -> Option<(u32, u32)> {
        match *self {
            Self::Root => None,
            Self::Ranges { uid, gid, .. } | Self::Single { uid, gid, .. } => Some((uid, gid)),
        }
    }

    /// Tells whether the user is root in the user namespace that `process` is in.
    pub(crate) fn is_root_inside(&self, process: u32) -> Result<bool> {
        let root = |file| -> Result<Option<u32>> {
            let map = fs_err::read_to_string(format!("/proc/{process}/{file}"))?;
            Ok(outside_of_root(&map))
        };
        let own = self.own().unwrap_or_default();
        Ok((root("uid_map")?, root("gid_map")?) == (Some(own.0), Some(own.1)))
    }

    /// Makes the user these inside instead of root.
    pub(crate) fn keep(&mut self, uid: u32, gid: u32) {
        match self {
            Self::Root => {}
            Self::Ranges { inside, .. } | Self::Single { inside, .. } => {
                *inside = Inside { uid, gid };
            }
        }
    }

    /// Tells whether a user namespace is needed at all.
    pub(crate) fn is_root(&self) -> bool {
        *self == Self::Root
    }

    /// Enters the user namespace, and a mount namespace with it: this process is root inside.
    ///
    /// Needs a process with one thread (unshare(2)).
    pub(crate) fn enter(&self) -> Result<()> {
        let (uids, gids) = match *self {
            Self::Root => return Ok(()),
            Self::Ranges {
                uid,
                gid,
                inside,
                uids,
                gids,
            } => (
                lines(uid, inside.uid, Some(uids)),
                lines(gid, inside.gid, Some(gids)),
            ),
            Self::Single {
                uid, gid, inside, ..
            } => (lines(uid, inside.uid, None), lines(gid, inside.gid, None)),
        };
        if self.is_single() {
            unshare_user()?;
            // Without this the kernel lets nobody but root write a gid_map (user_namespaces(7)).
            fs_err::write("/proc/self/setgroups", "deny")?;
            fs_err::write("/proc/self/uid_map", uids.join(" "))?;
            fs_err::write("/proc/self/gid_map", gids.join(" "))?;
        } else {
            enter_with_helpers(&uids, &gids)?;
        }
        keep_mounts_in()
    }

    /// Enters the user namespace that `process`, one of the caller's own, is in, and a new mount namespace in it.
    ///
    /// As [`Self::enter`] otherwise: who made a user namespace has every right in it (`user_namespaces(7)`).
    pub(crate) fn join(&self, process: u32) -> Result<()> {
        if self.is_root() {
            return Ok(());
        }
        let path = format!("/proc/{process}/ns/user");
        let context = || format!("joining the user namespace `{path}`");
        let file = fs_err::File::open(&path)?;
        setns(&file, CloneFlags::CLONE_NEWUSER).with_context(context)?;
        unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
        keep_mounts_in()
    }
}

/// Makes a user namespace with these lines of `uid_map` and `gid_map`, in which no process stays: for mounts.
///
/// Needs root outside, and a process with one thread.
pub(crate) fn mapped(uids: &str, gids: &str) -> Result<OwnedFd> {
    let (inside, outside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let cloned = clone(CloneFlags::CLONE_NEWUSER, None)
        .context("making a user namespace (see user.max_user_namespaces in sysctl)")?;
    match cloned {
        Clone::Child => {
            drop(outside);
            // It is there until the parent holds the namespace, or ends.
            let held = rustix::io::retry_on_intr(|| rustix::io::read(&inside, &mut [0]));
            end_child(u8::from(held.is_err()))
        }
        Clone::Parent(child) => {
            drop(inside);
            let made = map_and_hold(child.pid, uids, gids);
            drop(outside);
            rustix::io::retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::empty()))?;
            made
        }
    }
}

fn map_and_hold(process: Pid, uids: &str, gids: &str) -> Result<OwnedFd> {
    let directory = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
    fs_err::write(directory.join("uid_map"), uids)?;
    fs_err::write(directory.join("gid_map"), gids)?;
    Ok(fs_err::File::open(directory.join("ns/user"))?
        .into_file()
        .into())
}

fn keep_mounts_in() -> Result<()> {
    mount_change("/", Propagation::REC | Propagation::DOWNSTREAM)
        .context("keeping mounts out of the host's view")
}

/// The name of the mapping, as a store that was made under it records it.
impl Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Ranges {
                uid,
                gid,
                uids,
                gids,
                ..
            } => write!(
                f,
                "ranges {uid}:{gid} {}+{} {}+{}",
                uids.start, uids.count, gids.start, gids.count
            ),
            Self::Single { uid, gid, .. } => write!(f, "single {uid}:{gid}"),
        }
    }
}

/// The fields of an ID map: `inside outside count`, one line after the other. The user is `inside`, and who that is
/// otherwise is root instead.
fn lines(own: u32, inside: u32, range: Option<Range>) -> Vec<String> {
    let mut fields = vec![inside, own, 1];
    if let Some(Range { start, count }) = range {
        // Of a number beyond the range the last one takes the place.
        let place = inside.min(count);
        let lines = [
            (0, start + place.saturating_sub(1), u32::from(place > 0)),
            (1, start, place.saturating_sub(1)),
            (place + 1, start + place, count - place),
        ];
        let lines = lines.iter().filter(|(.., count)| *count > 0);
        fields.extend(lines.flat_map(|&(inside, outside, count)| [inside, outside, count]));
    }
    fields.iter().map(ToString::to_string).collect()
}

/// Returns who root inside is outside, by an ID map as the kernel shows it.
fn outside_of_root(map: &str) -> Option<u32> {
    let mut lines = map.lines().map(str::split_whitespace);
    lines.find_map(|mut fields| (fields.next()? == "0").then(|| fields.next()?.parse().ok())?)
}

/// The kernel lets only a process outside with rights there map ranges: a child that stays
/// outside runs the set-uid helpers on this process once it is inside.
fn enter_with_helpers(uids: &[String], gids: &[String]) -> Result<()> {
    let (inside, outside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork()? {
        Clone::Child => {
            drop(outside);
            let mut byte = [0];
            let told = rustix::io::retry_on_intr(|| rustix::io::read(&inside, &mut byte));
            let parent = rustix::process::getppid();
            let mapped = match (told, parent) {
                (Ok(1), Some(parent)) => {
                    map("newuidmap", parent, uids) && map("newgidmap", parent, gids)
                }
                _ => false,
            };
            end_child(u8::from(!mapped))
        }
        Clone::Parent(child) => {
            drop(inside);
            unshare_user()?;
            rustix::io::write(&outside, &[1]).context("telling the ID map helper to start")?;
            let status =
                rustix::io::retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::empty()))?;
            let code = status.and_then(|(_, status)| status.exit_status());
            ensure!(
                code == Some(0),
                "newuidmap or newgidmap refused the ranges {uids:?} {gids:?}"
            );
            Ok(())
        }
    }
}

fn map(program: &str, process: Pid, fields: &[String]) -> bool {
    helper(program).is_some_and(|path| {
        Command::new(path)
            .arg(process.as_raw_nonzero().to_string())
            .args(fields)
            .env_clear()
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// Makes a user namespace, in which this process has every right and no ID yet, and a mount namespace.
fn unshare_user() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM | Errno::ENOSPC) => bail!(
            "this system does not let ordinary users make user namespaces (see user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns in sysctl)"
        ),
        Err(error) => Err(error).context("making a user namespace"),
    }
}

/// Finds a set-uid helper; `PATH` is the caller's to set, so it is not asked.
fn helper(name: &str) -> Option<PathBuf> {
    lookup::of_system(name)
}

/// Returns the first range of subuid(5) that is granted to the user, by name or number.
fn first_range(text: &str, uid: u32, name: Option<&str>) -> Option<Range> {
    let mut grants = recorded::grants(text);
    grants.find_map(|(owner, range)| {
        let is_ours = Some(owner) == name || owner.parse() == Ok(uid);
        (is_ours && range.count > 0).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_root_inside_is_found() {
        let map = "      1000       1000          1\n         0     100000       1000\n";
        assert_eq!(outside_of_root(map), Some(100_000));
        assert_eq!(
            outside_of_root("         0       1000          1\n"),
            Some(1000)
        );
        assert_eq!(outside_of_root("      1000       1000          1\n"), None);
        assert_eq!(outside_of_root(""), None);
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n1001:200000:1000\nbad:x:y\nbob:300000:0\n";
        let range =
            |uid, name| first_range(text, uid, name).map(|range| (range.start, range.count));
        assert_eq!(range(1000, Some("alice")), Some((100_000, 65536)));
        assert_eq!(range(1001, None), Some((200_000, 1000)));
        assert_eq!(range(1002, Some("bob")), None);
        assert_eq!(range(1003, Some("carol")), None);
    }

    #[test]
    fn maps_put_the_user_at_root_and_the_ranges_above() {
        let range = Range {
            start: 100_000,
            count: 65536,
        };
        for (inside, range, expected) in [
            (0, None, "0 1000 1"),
            (0, Some(range), "0 1000 1 1 100000 65536"),
            (1000, None, "1000 1000 1"),
            (1, Some(range), "1 1000 1 0 100000 1 2 100001 65535"),
            (
                1000,
                Some(range),
                "1000 1000 1 0 100999 1 1 100000 999 1001 101000 64536",
            ),
            (70000, Some(range), "70000 1000 1 0 165535 1 1 100000 65535"),
        ] {
            assert_eq!(lines(1000, inside, range).join(" "), expected);
        }
    }
}
