//! `partial/`: the compressed bytes of blobs on their way. They survive any death, and the next pull goes on from there.
//!
//! A blob's directory is flock'ed by the operation that fetches it. The bytes lie in segments, files that are
//! named by where in the blob they begin; a segment grows at its end, so its length says how much of it is there.
//! After a power cut that may be a lie: what a segment's length was when it was last synced is in `synced`,
//! and counts if the machine was started anew since. Whoever uses the bytes verifies the blob's digest.

use crate::digest::Digest;
use crate::store::lock::{missing_is_fine, random_name, try_lock};
use crate::store::objects::read_if_there;
use crate::store::stage::{remove_tree, sync_directory, write_synced};
use crate::store::{Store, layout};
use anyhow::Result;
use fs_err as fs;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// The kernel's name for the time since it was started (`proc_sys_kernel(5)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A blob on its way, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    directory: PathBuf,
    lock: fs::File,
    /// What lies there now is another's.
    removed: AtomicBool,
}

/// How far an operation has come with its blob. What it does with all the bytes shows in the time alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    /// When the operation was alive.
    pub(crate) alive: SystemTime,
}

/// Where segments begin, and how long each is, in bytes.
pub(crate) type Segments = BTreeMap<u64, u64>;

impl Store {
    /// Takes the blob `digest` to fetch it, with what arrived of it before; `None` while another operation has it.
    ///
    /// Who has one goes on with it and waits for no other meanwhile: so no two operations wait for each other.
    pub(crate) fn partial(&self, digest: &Digest) -> Result<Option<Partial>> {
        let directory = self.layout.partial(digest);
        loop {
            match fs::create_dir(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // A store that was made before there were partial blobs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(self.layout.partials())?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let lock = match fs::File::open(&directory) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if !try_lock(&lock)? {
                return Ok(None);
            }
            if is_at(&lock, &directory)? {
                let partial = Partial::of(directory, lock);
                partial.distrust()?;
                return Ok(Some(partial));
            }
        }
    }

    /// Returns how far the blob `digest` has come, whoever has it; `None` if nothing is there.
    pub(crate) fn progress(&self, digest: &Digest) -> Result<Option<Progress>> {
        let directory = self.layout.partial(digest);
        let alive = match fs::metadata(&directory) {
            Ok(metadata) => metadata.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bytes = segments(&directory)?.into_values().sum();
        Ok(Some(Progress { bytes, alive }))
    }

    /// Returns the bytes that are here of each blob on its way.
    pub(crate) fn partial_sizes(&self) -> Result<Vec<u64>> {
        let entries = match fs::read_dir(self.layout.partials()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut sizes = Vec::new();
        for entry in entries {
            let digest = layout::digest_named(&entry?.file_name());
            let progress = digest.map(|digest| self.progress(&digest)).transpose()?;
            sizes.extend(progress.flatten().map(|progress| progress.bytes));
        }
        Ok(sizes)
    }

    /// Removes partial blobs that nothing was added to for `unused` and that no operation has.
    pub(crate) fn sweep_partials(&self, unused: Duration) -> Result<()> {
        let entries = match fs::read_dir(self.layout.partials()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some(digest) = layout::digest_named(&name) else {
                continue;
            };
            if let Some(partial) = self.partial(&digest)?
                && partial.unused()? >= unused
            {
                partial.remove()?;
            }
        }
        Ok(())
    }
}

impl Partial {
    /// Begins a blob in a directory of the caller's own: another operation has the store's.
    pub(crate) fn apart(directory: PathBuf) -> Result<Self> {
        let lock = fs::File::open(&directory)?;
        Ok(Self::of(directory, lock))
    }

    fn of(directory: PathBuf, lock: fs::File) -> Self {
        let removed = AtomicBool::new(false);
        Self {
            directory,
            lock,
            removed,
        }
    }

    /// Tells others that this operation is alive, whether bytes come or not.
    pub(crate) fn beat(&self) -> Result<()> {
        let now = std::fs::FileTimes::new().set_modified(SystemTime::now());
        Ok(self.lock.file().set_times(now)?)
    }

    /// Returns what is there. The caller decides whether it can be the blob's.
    pub(crate) fn segments(&self) -> Result<Segments> {
        segments(&self.directory)
    }

    /// Opens the segment that begins at `start` to add to it; makes it if it is not there.
    pub(crate) fn append(&self, start: u64) -> Result<fs::File> {
        let synced = self.synced();
        if !synced.exists() {
            fs::write(synced, record(&Segments::new()))?;
        }
        let mut options = fs::OpenOptions::new();
        Ok(options
            .append(true)
            .create(true)
            .open(self.segment(start))?)
    }

    /// Opens the segment that begins at `start` to read it.
    pub(crate) fn read(&self, start: u64) -> io::Result<fs::File> {
        fs::File::open(self.segment(start))
    }

    /// Cuts the segment that begins at `start` to `length` bytes; removes it if that is none.
    pub(crate) fn truncate(&self, start: u64, length: u64) -> Result<()> {
        let path = self.segment(start);
        if length == 0 {
            return Ok(fs::remove_file(path).or_else(missing_is_fine)?);
        }
        Ok(fs::OpenOptions::new()
            .write(true)
            .open(path)?
            .set_len(length)?)
    }

    /// Writes what is there to disk, so that it counts after a power cut too.
    pub(crate) fn sync(&self) -> Result<()> {
        let segments = self.segments()?;
        for start in segments.keys() {
            self.read(*start)?.sync_data()?;
        }
        self.write_synced(&segments)
    }

    /// Forgets all that arrived.
    pub(crate) fn clear(&self) -> Result<()> {
        for start in self.segments()?.into_keys() {
            self.truncate(start, 0)?;
        }
        Ok(fs::remove_file(self.synced()).or_else(missing_is_fine)?)
    }

    /// Removes the blob: it has arrived, or nobody wants it.
    pub(crate) fn remove(&self) -> Result<()> {
        self.removed.store(true, Ordering::Relaxed);
        remove_tree(&self.directory)
    }

    /// If the machine was started anew since the last byte arrived, keeps only what was synced.
    fn distrust(&self) -> Result<()> {
        let text = read_if_there(&self.synced())?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if !text.is_empty() && text.lines().next() == Some(boot_id().as_str()) {
            return Ok(());
        }
        let synced = lengths(&text);
        let mut kept = Segments::new();
        for (start, length) in self.segments()? {
            let trusted = length.min(synced.get(&start).copied().unwrap_or(0));
            self.truncate(start, trusted)?;
            if trusted > 0 {
                kept.insert(start, trusted);
            }
        }
        if kept.is_empty() {
            return Ok(fs::remove_file(self.synced()).or_else(missing_is_fine)?);
        }
        self.write_synced(&kept)
    }

    fn write_synced(&self, segments: &Segments) -> Result<()> {
        let born = self.directory.join(random_name());
        write_synced(&born, record(segments).as_bytes())?;
        fs::rename(&born, self.synced())?;
        Ok(sync_directory(&self.directory)?)
    }

    /// Returns how long ago something was added.
    fn unused(&self) -> Result<Duration> {
        let mut newest = fs::metadata(&self.directory)?.modified()?;
        for entry in fs::read_dir(&self.directory)? {
            newest = newest.max(entry?.metadata()?.modified()?);
        }
        // A time in the future is now.
        Ok(SystemTime::now().duration_since(newest).unwrap_or_default())
    }

    fn segment(&self, start: u64) -> PathBuf {
        self.directory.join(start.to_string())
    }

    fn synced(&self) -> PathBuf {
        self.directory.join("synced")
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.removed.load(Ordering::Relaxed) {
            return;
        }
        // Goes if nothing is in it: then nothing arrived.
        fs::remove_dir(&self.directory).ok();
    }
}

/// Tells whether `directory` is still what lies at `path`: it may have been removed before we had its lock.
fn is_at(directory: &fs::File, path: &Path) -> Result<bool> {
    let ours = directory.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn segments(directory: &Path) -> Result<Segments> {
    let mut segments = Segments::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(start) = start_of(&entry.file_name()) {
            let length = match entry.metadata() {
                Ok(metadata) => metadata.len(),
                // Whoever has the blob is done with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            segments.insert(start, length);
        }
    }
    Ok(segments)
}

fn start_of(name: &std::ffi::OsStr) -> Option<u64> {
    // A random name of `write_synced` may consist of digits too, but is longer than any number of bytes.
    name.to_str()?.parse().ok()
}

/// Returns the text of `synced`: the boot, then each segment's start and length.
fn record(segments: &Segments) -> String {
    segments
        .iter()
        .fold(format!("{}\n", boot_id()), |mut text, (start, length)| {
            writeln!(text, "{start} {length}").expect("writing to a string cannot fail");
            text
        })
}

fn lengths(text: &str) -> Segments {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let (start, length) = line.split_once(' ')?;
            Some((start.parse().ok()?, length.parse().ok()?))
        })
        .collect()
}

/// Returns the name of this start of the machine; without one nothing counts but what was synced.
fn boot_id() -> String {
    let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let id = id.trim();
    if id.is_empty() {
        random_name()
    } else {
        id.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    struct Fixture {
        _directory: tempfile::TempDir,
        store: Store,
        digest: Digest,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path(), "root").unwrap();
            let digest = Digest::of(b"blob");
            Self {
                _directory: directory,
                store,
                digest,
            }
        }

        fn take(&self) -> Partial {
            self.store.partial(&self.digest).unwrap().unwrap()
        }

        fn path(&self) -> PathBuf {
            self.store.layout.partial(&self.digest)
        }

        /// Lets the partial look as if the machine had been started anew since.
        fn reboot(&self) {
            let path = self.path().join("synced");
            let text = fs::read_to_string(&path).unwrap();
            let (_, lengths) = text.split_once('\n').unwrap();
            fs::write(path, format!("another-boot\n{lengths}")).unwrap();
        }
    }

    fn segments(pairs: &[(u64, u64)]) -> Segments {
        pairs.iter().copied().collect()
    }

    #[test]
    fn what_arrived_is_there_after_a_death_and_one_at_a_time_has_it() {
        let fixture = Fixture::new();
        let partial = fixture.take();
        partial.append(0).unwrap().write_all(b"abc").unwrap();
        partial.append(0).unwrap().write_all(b"de").unwrap();
        partial.append(9).unwrap().write_all(b"x").unwrap();
        assert!(fixture.store.partial(&fixture.digest).unwrap().is_none());
        drop(partial);
        let partial = fixture.take();
        assert_eq!(partial.segments().unwrap(), segments(&[(0, 5), (9, 1)]));
        let mut text = String::new();
        partial.read(0).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        partial.remove().unwrap();
        assert!(!fixture.path().exists());
    }

    #[test]
    fn after_a_power_cut_only_what_was_synced_counts() {
        let fixture = Fixture::new();
        let partial = fixture.take();
        partial.append(0).unwrap().write_all(b"abc").unwrap();
        partial.append(9).unwrap().write_all(b"x").unwrap();
        partial.sync().unwrap();
        partial.append(0).unwrap().write_all(b"lost").unwrap();
        partial.append(20).unwrap().write_all(b"lost").unwrap();
        // A length that is shorter than what was recorded is believed.
        partial.truncate(9, 0).unwrap();
        drop(partial);
        fixture.reboot();
        let partial = fixture.take();
        assert_eq!(partial.segments().unwrap(), segments(&[(0, 3)]));
        drop(partial);
        // What survived once is not asked about again.
        fixture.take().append(0).unwrap().write_all(b"d").unwrap();
        assert_eq!(fixture.take().segments().unwrap(), segments(&[(0, 4)]));
    }

    #[test]
    fn without_a_record_nothing_counts() {
        let fixture = Fixture::new();
        fixture.take().append(0).unwrap().write_all(b"abc").unwrap();
        for record in ["", "another-boot\nnonsense\n0 99999999999999999999\n"] {
            fs::write(fixture.path().join("synced"), record).unwrap();
            let partial = fixture.take();
            assert_eq!(partial.segments().unwrap(), Segments::new());
            partial.append(0).unwrap().write_all(b"abc").unwrap();
        }
        fixture.take().clear().unwrap();
        assert!(!fixture.path().exists(), "an empty one does not stay");
    }

    #[test]
    fn old_ones_are_swept_and_those_in_use_are_not() {
        let fixture = Fixture::new();
        let partial = fixture.take();
        partial.append(0).unwrap().write_all(b"abc").unwrap();
        fixture.store.sweep_partials(Duration::ZERO).unwrap();
        assert!(fixture.path().exists());
        drop(partial);
        fixture
            .store
            .sweep_partials(Duration::from_hours(1))
            .unwrap();
        assert!(fixture.path().exists());
        fixture.store.sweep_partials(Duration::ZERO).unwrap();
        assert!(!fixture.path().exists());
    }
}
