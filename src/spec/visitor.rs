//! Who a command in a container that runs already is, and its environment: as the container's own unless asked otherwise.

use crate::options::UserName;
use crate::spec::environment::Variables;
use crate::spec::host::Mapping;
use crate::spec::tree;
use crate::spec::user::{self, User};
use anyhow::Result;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Looks a user up in the container's root.
pub(crate) fn find_user(
    name: &UserName,
    root: BorrowedFd<'_>,
    mapping: Option<Mapping>,
) -> Result<User> {
    let passwd = tree::read(root, Path::new("/etc/passwd"))?;
    let group = tree::read(root, Path::new("/etc/group"))?;
    let user = user::look_up(name.as_str(), &passwd, &group)?;
    mapping.map_or(Ok(user.clone()), |mapping| user.fit(mapping))
}

/// Changes the environment of the container's own command as is `asked`. Where another user is at home is the second of
/// `homes`, if the first, the own user's, is the home there now. A terminal comes with its name, as it does with
/// `run`: whether there was one `before`, and is one `now`.
pub(crate) fn environment(
    own: &[String],
    asked: &[(String, Option<String>)],
    homes: Option<(&str, &str)>,
    (before, now): (bool, bool),
) -> Vec<String> {
    let mut variables = Variables::default();
    for (name, value) in own.iter().filter_map(|it| it.split_once('=')) {
        variables.set(name, value);
    }
    match (before, now, variables.get("TERM")) {
        (_, true, None) => variables.set("TERM", "xterm"),
        (true, false, Some("xterm")) => variables.remove("TERM"),
        _ => {}
    }
    if let Some((own, other)) = homes
        && variables.get("HOME") == Some(own)
    {
        variables.set("HOME", other);
    }
    for (name, value) in asked {
        match value {
            Some(value) => variables.set(name, value),
            None => variables.remove(name),
        }
    }
    variables.into_strings()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_the_containers_but_for_what_is_asked() {
        let own = ["PATH=/bin", "HOME=/root", "TERM=xterm"].map(str::to_owned);
        let homes = Some(("/root", "/home/a"));
        let others = Some(("/elsewhere", "/home/a"));
        let asked = [
            ("A".to_owned(), Some("1".to_owned())),
            ("PATH".to_owned(), None),
        ];
        for (homes, terminals, expected) in [
            (None, (false, false), "HOME=/root TERM=xterm A=1"),
            (None, (true, false), "HOME=/root A=1"),
            (homes, (true, true), "HOME=/home/a TERM=xterm A=1"),
            (others, (true, true), "HOME=/root TERM=xterm A=1"),
        ] {
            let found = environment(&own, &asked, homes, terminals).join(" ");
            assert_eq!(found, expected, "{homes:?} {terminals:?}");
        }
        let named = environment(&own[..2], &[], None, (false, true));
        assert_eq!(named[2], "TERM=xterm");
    }
}
