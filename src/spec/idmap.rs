//! Whose the files of a bind are inside, on this machine.

use crate::options::{IdMaps, IdRange, Idmap};
use crate::spec::host::Host;
use anyhow::{Result, ensure};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns what the mount of `source` has to map; nothing if all is right without.
pub(crate) fn maps(idmap: &Idmap, source: &Path, host: &Host) -> Result<Option<IdMaps>> {
    let owner = match fs_err::metadata(source) {
        Ok(found) => Some((found.uid(), found.gid())),
        // It is made then, and root's.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    match (idmap, host.mapping) {
        (Idmap::Given(maps), None) => Ok(Some(maps.clone())),
        (Idmap::Given(_), Some(_)) => anyhow::bail!(
            "only root can choose who owns the files of a mount: leave out what is behind `idmap`; \
             root inside is you anyway"
        ),
        (Idmap::Owner, None) => {
            Ok(owner
                .filter(|owner| *owner != (0, 0))
                .map(|(user, group)| IdMaps {
                    users: IdRange::root_is(user),
                    groups: IdRange::root_is(group),
                }))
        }
        // Root of the user namespace is the caller, and so are the caller's files.
        (Idmap::Owner, Some(mapping)) => {
            ensure!(
                owner.is_none_or(|(user, _)| user == mapping.own_user),
                "`{}` is not yours, and only root can choose who owns the files of a mount: \
                 leave out `idmap`",
                source.display()
            );
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::host::Mapping;
    use crate::spec::tests::host;

    #[test]
    fn ordinary_users_map_nothing() {
        let own_user = rustix::process::geteuid().as_raw();
        let mapping = Mapping {
            users: 1,
            groups: 1,
            own_user,
            own_group: 0,
        };
        let user = Host {
            mapping: Some(mapping),
            ..host()
        };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(maps(&Idmap::Owner, dir.path(), &user).unwrap(), None);
        let others = dir.path().join("other");
        fs_err::write(&others, "").unwrap();
        std::os::unix::fs::chown(&others, Some(4321), None).unwrap();
        let refused = maps(&Idmap::Owner, &others, &user).unwrap_err();
        assert!(refused.to_string().contains("is not yours"), "{refused}");
        let given = "uids=0-1-1".parse().unwrap();
        let refused = maps(&given, dir.path(), &user).unwrap_err();
        assert!(refused.to_string().contains("only root"), "{refused}");
    }

    #[test]
    fn what_is_roots_or_missing_needs_no_map() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert_eq!(maps(&Idmap::Owner, &missing, &host()).unwrap(), None);
        std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
        assert_eq!(maps(&Idmap::Owner, dir.path(), &host()).unwrap(), None);
        std::os::unix::fs::chown(dir.path(), Some(7), Some(0)).unwrap();
        let maps = maps(&Idmap::Owner, dir.path(), &host()).unwrap().unwrap();
        assert_eq!(maps.groups, IdRange::root_is(0));
        assert_eq!(maps.users, IdRange::root_is(7));
    }
}
