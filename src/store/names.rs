//! Names of containers: each belongs to one, claimed by making a link.
//!
//! A link whose container is gone is stale: its name is free. Whoever changes a link that is there holds the
//! lock of the directory, flock(2), not the store's: a claim is made while that one is held shared.

use crate::store::Store;
use crate::store::lock::{lock, missing_is_fine};
use anyhow::Result;
use fs_err as fs;
use rustix::fs::symlink;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use thiserror::Error;

/// A name that another container has. The words are Docker's.
#[derive(Debug, Error)]
#[error(
    "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". \
     You have to remove (or rename) that container to be able to reuse that name."
)]
pub(crate) struct NameInUse {
    name: String,
    id: String,
}

impl Store {
    /// Gives `name` to the container `id`, whose directory is there: [`NameInUse`] if another has it.
    pub(crate) fn claim_name(&self, name: &str, id: &str) -> Result<()> {
        let path = self.layout.container_name(name);
        match symlink(id, &path) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        let _names = self.lock_names()?;
        let taken = |owner| {
            let name = name.to_owned();
            Err(NameInUse { name, id: owner }.into())
        };
        if let Some(owner) = self.named_container(name)? {
            return taken(owner);
        }
        fs::remove_file(&path).or_else(missing_is_fine)?;
        match symlink(id, &path) {
            // The first attempt of another claim, which takes no lock, came in between.
            Err(Errno::EXIST) => taken(self.named_container(name)?.unwrap_or_default()),
            made => Ok(made?),
        }
    }

    /// Returns the ID of the container that has `name`.
    pub(crate) fn named_container(&self, name: &str) -> Result<Option<String>> {
        // What the user typed may be a path; a name is not.
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Ok(None);
        }
        let owner = match fs::read_link(self.layout.container_name(name)) {
            // Or what is there is no link: nobody's.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
                ) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let owner = owner.to_string_lossy().into_owned();
        let is_there = self.container_directory(&owner).is_dir();
        Ok(is_there.then_some(owner))
    }

    /// Takes `name` from the container `id`, if that has it.
    pub(crate) fn release_name(&self, name: &str, id: &str) -> Result<()> {
        let path = self.layout.container_name(name);
        let _names = self.lock_names()?;
        match fs::read_link(&path) {
            Ok(owner) if owner == Path::new(id) => {
                Ok(fs::remove_file(path).or_else(missing_is_fine)?)
            }
            _ => Ok(()),
        }
    }

    /// Takes from the container `id`, of which nothing more is known, whatever names it has.
    pub(crate) fn release_names(&self, id: &str) -> Result<()> {
        for name in self.names_of(id)? {
            self.release_name(&name, id)?;
        }
        Ok(())
    }

    /// Returns the names that the container `id` has: one, unless somebody else made more.
    pub(crate) fn names_of(&self, id: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.layout.names())? {
            let entry = entry?;
            if fs::read_link(entry.path()).is_ok_and(|owner| owner == Path::new(id)) {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// Removes the names of containers that are gone: those of starts that were killed, by an older ddock too.
    ///
    /// Nothing is looked at as long as there are no more names than containers.
    pub(crate) fn sweep_names(&self) -> Result<()> {
        let names: Vec<_> = fs::read_dir(self.layout.names())?.collect::<Result<_, _>>()?;
        if names.len() <= self.containers()?.len() {
            return Ok(());
        }
        let _names = self.lock_names()?;
        for name in names {
            let path = name.path();
            let Ok(owner) = fs::read_link(&path) else {
                continue;
            };
            // One that is being made has its directory before its name.
            let is_there = owner
                .to_str()
                .is_some_and(|id| self.container_directory(id).is_dir());
            if !is_there {
                fs::remove_file(path).or_else(missing_is_fine)?;
            }
        }
        Ok(())
    }

    fn lock_names(&self) -> Result<fs::File> {
        let path = self.layout.names();
        let names = fs::File::open(&path)?;
        lock(&names, &path)?;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{names, scratch};

    #[test]
    fn a_name_belongs_to_one_container_until_that_is_gone() {
        let (_directory, store) = scratch();
        let shared = store.shared().unwrap();
        let [first, second] = ["a", "b"].map(|digit| digit.repeat(64));
        for id in [&first, &second] {
            store.create_container(&shared, id, &[]).unwrap();
        }
        // All of it while the store's lock is held shared, as `run` does.
        store.claim_name("web", &first).unwrap();
        let error = store.claim_name("web", &second).unwrap_err();
        assert!(error.is::<NameInUse>() && error.to_string().contains(&first));
        store.release_name("web", &second).unwrap();
        assert_eq!(store.named_container("web").unwrap(), Some(first.clone()));
        for text in ["nope", "", ".", "..", "../containers", "a/b", "web/"] {
            assert_eq!(store.named_container(text).unwrap(), None, "{text}");
        }

        store.remove_container(&first).unwrap();
        assert_eq!(store.named_container("web").unwrap(), None);
        store.claim_name("web", &second).unwrap();
        store.release_name("web", &first).unwrap();
        assert_eq!(store.named_container("web").unwrap(), Some(second.clone()));
        store.release_name("web", &second).unwrap();
        assert_eq!(names(&store, "names"), [""; 0]);
    }

    #[test]
    fn of_many_claims_to_a_name_one_wins() {
        let (_directory, store) = scratch();
        let shared = store.shared().unwrap();
        let ids: Vec<String> = ('a'..='f')
            .map(|digit| digit.to_string().repeat(64))
            .collect();
        for round in 0..20 {
            // Left from a container that died while it was removed.
            store.claim_name("web", &format!("gone-{round}")).unwrap();
            let claim = |id: &String| {
                store.create_container(&shared, id, &[]).unwrap();
                store.claim_name("web", id).is_ok()
            };
            let winners: Vec<&String> = std::thread::scope(|scope| {
                let claims = ids.iter().map(|id| (id, scope.spawn(move || claim(id))));
                let claims: Vec<_> = claims.collect();
                let won = |(id, claim): (_, std::thread::ScopedJoinHandle<'_, bool>)| {
                    claim.join().unwrap().then_some(id)
                };
                claims.into_iter().filter_map(won).collect()
            });
            assert_eq!(winners.len(), 1);
            assert_eq!(
                store.named_container("web").unwrap().as_ref(),
                Some(winners[0])
            );
            for id in &ids {
                store.remove_container(id).unwrap();
            }
        }
    }
}
