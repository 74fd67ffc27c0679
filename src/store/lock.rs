//! Who may look, who may add and who may remove: the store's lock, and leases.
//!
//! Three rules make removal safe beside pulls and runs:
//! 1. Nothing leaves the store except under [`Exclusive`], which is held only while things are renamed away.
//! 2. What is found under [`Shared`] stays while that is held. A tag, an image record, a container, a lease
//!    and a directory in `tmp/` come into being under it, so that a remover sees each whole or not at all.
//! 3. What a [`Lease`] names stays though no lock is held. So: take the lease, *then* look what is there.
//!
//! All are flock(2) on descriptors of their own: the kernel drops them when the process dies, however it
//! dies. They are given up by closing, never by `LOCK_UN`: a forked child shares the lock. Nothing is waited for under
//! the store's lock: another lock that is needed too is taken before it.

use crate::digest::{Algorithm, Digest};
use crate::store::Store;
use crate::sys::lock;
use anyhow::Result;
use fs_err as fs;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The store's lock, shared: nothing leaves the store.
#[must_use]
pub(crate) struct Shared(#[expect(dead_code, reason = "held for its lock")] fs::File);

/// The store's lock, exclusive: nobody adds or looks.
#[must_use]
pub(crate) struct Exclusive(#[expect(dead_code, reason = "held for its lock")] fs::File);

impl Store {
    /// Waits until nobody removes, and keeps removers out. Hold it for moments: no network, no waiting.
    pub(crate) fn shared(&self) -> Result<Shared> {
        let path = self.layout.lock();
        let file = fs::File::open(&path)?;
        lock::shared(&file, &named(&path))?;
        Ok(Shared(file))
    }

    /// Waits until everybody is out. Hold it for moments: rename things away, remove them afterwards.
    pub(crate) fn exclusive(&self) -> Result<Exclusive> {
        let path = self.layout.lock();
        let file = fs::File::open(&path)?;
        lock(&file, &path)?;
        Ok(Exclusive(file))
    }

    /// As [`exclusive`](Self::exclusive) if nobody is in; `None` otherwise.
    pub(super) fn try_exclusive(&self) -> Result<Option<Exclusive>> {
        let file = fs::File::open(self.layout.lock())?;
        Ok(try_lock(&file)?.then_some(Exclusive(file)))
    }

    /// Keeps what `digests` name (layers by diff ID, blobs, images) from being removed, whether it is
    /// there already or not. Look what is there only *after* this.
    pub(crate) fn lease(&self, digests: &[Digest]) -> Result<Lease> {
        let _shared = self.shared()?;
        let path = self.layout.leases().join(random_name());
        let file = fs::File::create_new(&path)?;
        lock(&file, &path)?;
        let lease = Lease { path, file };
        fs::write(&lease.path, lines(digests))?;
        Ok(lease)
    }

    /// Tells `holds` the text of each living operation's lease, and removes the leases of dead ones.
    pub(super) fn read_leases(&self, _: &Exclusive, holds: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in fs::read_dir(self.layout.leases())? {
            let path = entry?.path();
            let file = match fs::File::open(&path) {
                Ok(file) => file,
                // Its operation ended just now: that needs no lock.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if try_lock(&file)? {
                fs::remove_file(&path).or_else(missing_is_fine)?;
            } else {
                holds(&fs::read(&path).or_else(missing_is_empty)?);
            }
        }
        Ok(())
    }
}

/// A file that names what an operation needs, flock'ed by that operation's own descriptor.
///
/// A child that outlives its parent's operation must not keep a copy of the descriptor: it would keep the lease alive.
#[must_use]
pub(crate) struct Lease {
    path: PathBuf,
    #[expect(dead_code, reason = "held for its lock")]
    file: fs::File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What stays behind has no lock, and the next sweep removes it.
        fs::remove_file(&self.path).ok();
    }
}

/// Returns `digests` as leases and containers keep them.
pub(super) fn lines(digests: &[Digest]) -> String {
    digests.iter().fold(String::new(), |mut text, digest| {
        writeln!(text, "{digest}").expect("writing to a string cannot fail");
        text
    })
}

/// Returns every digest that occurs in `text`, whatever the text is: so a record written by a newer ddock
/// still holds all that it names.
pub(super) fn digests_in(text: &[u8]) -> Vec<Digest> {
    let mut found = Vec::new();
    each_digest_in(text, &mut |algorithm, hex| {
        found.extend(format!("{}:{hex}", algorithm.name()).parse::<Digest>());
    });
    found
}

/// Calls `found` with the algorithm and the hex digits of all that may be a digest in `text`.
pub(super) fn each_digest_in(text: &[u8], found: &mut dyn FnMut(Algorithm, &str)) {
    for colon in text.iter().enumerate().filter(|(_, byte)| **byte == b':') {
        let (before, after) = (&text[..colon.0], &text[colon.0 + 1..]);
        for (algorithm, length) in [(Algorithm::Sha256, 64), (Algorithm::Sha512, 128)] {
            if !before.ends_with(algorithm.name().as_bytes()) {
                continue;
            }
            if let Some(hex) = after.get(..length).and_then(|hex| str::from_utf8(hex).ok()) {
                found(algorithm, hex);
            }
        }
    }
}

/// Takes the lock of `file`, which lies at `path`, waiting for it.
pub(super) fn lock(file: &impl AsFd, path: &Path) -> Result<()> {
    lock::exclusive(file, &named(path))
}

/// Takes the lock of `file` if nobody else has it.
pub(super) fn try_lock(file: &impl AsFd) -> Result<bool> {
    lock::take(file)
}

fn named(path: &Path) -> String {
    format!("the lock of `{}`", path.display())
}

/// Returns a name that nothing else in a directory has.
pub(super) fn random_name() -> String {
    let mut bytes = [0; 16];
    // 16 bytes come whole: getrandom(2) is cut short by signals only above 256.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the kernel has random numbers");
    crate::digest::to_hex(&bytes)
}

/// Turns "not found" into success, for what others may remove too.
pub(super) fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn missing_is_empty(error: std::io::Error) -> std::io::Result<Vec<u8>> {
    missing_is_fine(error).map(|()| Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_in_a_text_is_found() {
        let (short, long) = (
            Digest::of(b"a"),
            format!("sha512:{}", "0".repeat(128)).parse().unwrap(),
        );
        let text = format!(
            "{{\"x\": \"docker.io/y@{short}\", \"z\": [\"{long}\"], \"n\": \"sha256:12\"}}"
        );
        assert_eq!(digests_in(text.as_bytes()), [short.clone(), long]);
        assert_eq!(digests_in(b"sha256:\xff\xff::"), []);
        assert_eq!(
            digests_in(lines(std::slice::from_ref(&short)).as_bytes()),
            [short]
        );
    }
}
