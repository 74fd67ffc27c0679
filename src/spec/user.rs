//! Who the command runs as: names and numbers looked up in the image's `/etc/passwd` and `/etc/group`.

use crate::options::{GroupName, LARGEST, parse_number};
use crate::spec::host::Mapping;
use anyhow::{Result, bail, ensure};
use thiserror::Error;

/// Who the command runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, `gid` among them, sorted. A group list without it keeps access that the group is denied (CVE-2022-36109).
    pub(crate) groups: Vec<u32>,
    /// Where the user is at home; `/` if the image does not say.
    pub(crate) home: String,
}

/// An entry of `/etc/passwd` (passwd(5)).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// An entry of `/etc/group` (group(5)).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Returns the user named by `NAME|UID[:GROUP|GID]`; nothing means user 0.
///
/// A number is an ID and never a name, and needs no entry. The first entry that matches counts, malformed ones are skipped.
/// A group that is named is the only one; otherwise the user has those that list its name.
pub(crate) fn look_up(wanted: &str, passwd: &str, group: &str) -> Result<User> {
    let mut parts = wanted.split(':');
    let wanted_user = parts.next().unwrap_or_default();
    let wanted_group = parts.next().unwrap_or_default();

    let number = if wanted_user.is_empty() {
        Some(0)
    } else {
        parse_number(wanted_user)?
    };
    let account = accounts(passwd).find(|account| match number {
        Some(uid) => account.uid == uid,
        None => account.name == wanted_user,
    });
    let Some(uid) = number.or(account.as_ref().map(|account| account.uid)) else {
        bail!("unable to find user {wanted_user}: no matching entries in passwd file");
    };

    let mut groups: Vec<u32> = Vec::new();
    let gid = if wanted_group.is_empty() {
        if let Some(account) = &account {
            let listed = self::groups(group).filter(|group| lists(group, account.name));
            groups.extend(listed.map(|group| group.gid));
        }
        account.as_ref().map_or(0, |account| account.gid)
    } else {
        group_number(wanted_group, group)?
    };
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();

    // By the number, as the user may be one of several names of it.
    let home = accounts(passwd).find(|account| account.uid == uid);
    let home = home.map_or("", |account| account.home);
    Ok(User {
        uid,
        gid,
        groups,
        home: if home.is_empty() { "/" } else { home }.to_owned(),
    })
}

/// A user or group is none of those that the user namespace has; why that has so few is the caller's to know.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Unmapped(String);

impl User {
    /// Adds groups by name or number; one that the container cannot have is an error, as the user asked for it.
    pub(crate) fn with_groups(
        mut self,
        wanted: &[GroupName],
        group: &str,
        mapping: Option<Mapping>,
    ) -> Result<Self> {
        for name in wanted {
            let name = name.as_str();
            let gid = group_number(name, group)?;
            if let Some(Mapping { groups, .. }) = mapping {
                let is_mapped = gid < groups && groups > 1;
                ensure!(
                    is_mapped,
                    Unmapped(format!(
                        "group {name} cannot be added without root: only groups below {groups} are mapped, and without a \
                         range in /etc/subgid none can be added"
                    ))
                );
            }
            self.groups.push(gid);
        }
        self.groups.sort_unstable();
        self.groups.dedup();
        Ok(self)
    }

    /// Fits the user into the IDs that a user namespace has, or says why that is impossible.
    pub(crate) fn fit(mut self, mapping: Mapping) -> Result<Self> {
        check_mapped(Kind::User, self.uid, mapping)?;
        check_mapped(Kind::Group, self.gid, mapping)?;
        // Without a range, setgroups(2) is denied (`user_namespaces(7)`); more groups could only give access, so none is safe.
        if mapping.groups <= 1 {
            self.groups.clear();
        }
        self.groups
            .retain(|&gid| gid < mapping.groups || gid == mapping.own_group);
        Ok(self)
    }
}

/// What an ID is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    User,
    Group,
}

/// Refuses an ID that the container's user namespace does not have.
pub(crate) fn check_mapped(kind: Kind, id: u32, mapping: Mapping) -> Result<(), Unmapped> {
    let (what, count, own) = match kind {
        Kind::User => ("user", mapping.users, mapping.own_user),
        Kind::Group => ("group", mapping.groups, mapping.own_group),
    };
    if id < count || id == own {
        return Ok(());
    }
    Err(Unmapped(format!(
        "{what} {id} cannot be had without root: only {what} IDs below {count} are mapped"
    )))
}

fn group_number(wanted: &str, group: &str) -> Result<u32> {
    if let Some(number) = parse_number(wanted)? {
        return Ok(number);
    }
    match groups(group).find(|group| group.name == wanted) {
        Some(group) => Ok(group.gid),
        None => bail!("unable to find group {wanted}: no matching entries in group file"),
    }
}

fn lists(group: &Group<'_>, name: &str) -> bool {
    group.members.split(',').any(|member| member == name)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let [name, _password, uid, gid, _comment, home] = fields(line)?;
        Some(Account {
            name,
            uid: id(uid)?,
            gid: id(gid)?,
            home,
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let [name, _password, gid, members] = fields(line)?;
        Some(Group {
            name,
            gid: id(gid)?,
            members,
        })
    })
}

/// Returns the first fields of a line, empty where it is short, or none for a comment or a line without a name.
fn fields<const COUNT: usize>(line: &str) -> Option<[&str; COUNT]> {
    let mut rest = line.trim_end_matches('\r').split(':');
    let fields = std::array::from_fn(|_| rest.next().unwrap_or_default());
    (!line.starts_with([':', '#'])).then_some(fields)
}

/// An ID that is missing or broken makes its line malformed: it must never count as 0, which is root.
fn id(text: &str) -> Option<u32> {
    let number = text.parse().ok()?;
    (number <= LARGEST).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
# alice:x:0:0::/:/bin/sh
broken:x
wrapped:x:4294967296:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
toor:x:0:0::/toor:/bin/sh
alice:x:1000:100:Alice:/home/alice:/bin/sh
alice:x:1001:101:the second:/home/other:/bin/sh
1000:x:7:7:a name of digits:/seven:/bin/sh
short:x:1002:102
";
    const GROUP: &str = "\
root:x:0:root
bin:x:1:root,daemon
broken:x
users:x:100:
wheel:x:10:alice,root
video:x:27:alice2,alice
late:x:5:alice
";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> User {
        User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        }
    }

    #[test]
    fn users_are_looked_up_as_docker_does() {
        for (wanted, expected) in [
            ("", user(0, 0, &[0, 1, 10], "/root")),
            ("root", user(0, 0, &[0, 1, 10], "/root")),
            ("0", user(0, 0, &[0, 1, 10], "/root")),
            ("toor", user(0, 0, &[0], "/root")),
            ("alice", user(1000, 100, &[5, 10, 27, 100], "/home/alice")),
            ("alice:", user(1000, 100, &[5, 10, 27, 100], "/home/alice")),
            ("alice:wheel", user(1000, 10, &[10], "/home/alice")),
            ("alice:4242", user(1000, 4242, &[4242], "/home/alice")),
            (":wheel", user(0, 10, &[10], "/root")),
            ("1000", user(1000, 100, &[5, 10, 27, 100], "/home/alice")),
            ("4242", user(4242, 0, &[0], "/")),
            ("4242:users", user(4242, 100, &[100], "/")),
            ("short", user(1002, 102, &[102], "/")),
            ("2147483647", user(LARGEST, 0, &[0], "/")),
        ] {
            let found = look_up(wanted, PASSWD, GROUP).unwrap();
            assert_eq!(found, expected, "{wanted}");
        }
    }

    #[test]
    fn an_image_without_files_has_numbers_only() {
        assert_eq!(look_up("", "", "").unwrap(), user(0, 0, &[0], "/"));
        assert_eq!(look_up("5:6", "", "").unwrap(), user(5, 6, &[6], "/"));
        assert!(look_up("root", "", "").is_err());
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        let range = "uids and gids must be in range 0-2147483647, ";
        for (wanted, error) in [
            (
                "bob",
                "unable to find user bob: no matching entries in passwd file".to_owned(),
            ),
            (
                "broken",
                "unable to find user broken: no matching entries in passwd file".to_owned(),
            ),
            (
                "wrapped",
                "unable to find user wrapped: no matching entries in passwd file".to_owned(),
            ),
            (
                "0:bob",
                "unable to find group bob: no matching entries in group file".to_owned(),
            ),
            ("-1", format!("{range}`-1` is not")),
            ("2147483648", format!("{range}`2147483648` is not")),
            ("4294967296", format!("{range}`4294967296` is not")),
            (
                "99999999999999999999",
                format!("{range}`99999999999999999999` is not"),
            ),
            ("0:4294967295", format!("{range}`4294967295` is not")),
        ] {
            let found = look_up(wanted, PASSWD, GROUP).unwrap_err();
            assert_eq!(found.to_string(), error);
        }
    }

    #[test]
    fn a_user_namespace_limits_who_can_be_had() {
        let single = Mapping {
            users: 1,
            groups: 1,
            own_user: 0,
            own_group: 0,
        };
        let ranges = Mapping {
            users: 65536,
            groups: 65536,
            own_user: 0,
            own_group: 0,
        };
        let find = |wanted| look_up(wanted, PASSWD, GROUP).unwrap();
        assert_eq!(find("").fit(single).unwrap(), user(0, 0, &[], "/root"));
        assert_eq!(find("").fit(ranges).unwrap(), find(""));
        assert_eq!(find("alice").fit(ranges).unwrap(), find("alice"));
        assert!(find("alice").fit(single).is_err());
        assert!(find("0:wheel").fit(single).is_err());
        assert!(find("70000").fit(ranges).is_err());
    }
}
