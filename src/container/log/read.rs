//! Reading a log, also while it is written and rotated.

use crate::container::log::{Entry, file};
use anyhow::{Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::{Path, PathBuf};

/// How many old files are looked for; `--log-opt max-file` is at most this.
pub(crate) const MAX_FILES: u32 = 1000;

/// Bytes that no record has: 16 KiB of a line, each byte as six at most, and what is around it.
const LONGEST: usize = 256 << 10;

/// A log, from its oldest entry on.
pub(crate) struct Reader {
    directory: PathBuf,
    file: Option<BufReader<fs::File>>,
    /// The beginning of an entry whose end is not written yet.
    begun: Vec<u8>,
    skipped: u64,
}

impl Reader {
    pub(crate) fn open(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            file: None,
            begun: Vec::new(),
            skipped: 0,
        }
    }

    /// Opens a log where at most `count` of its entries that are `wanted` follow, and all if there are fewer. It is read from
    /// its end, so that this costs what is wanted and not what is there.
    pub(crate) fn open_near_end(
        directory: &Path,
        count: usize,
        wanted: &mut dyn FnMut(&Entry) -> Result<bool>,
    ) -> Result<Self> {
        let mut reader = Self::open(directory);
        let (mut found, mut seen) = (0, Vec::new());
        for age in 0..MAX_FILES {
            let file = match open(&file(directory, age)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error.into()),
            };
            let identity = identity(&file.metadata()?);
            if seen.contains(&identity) {
                // It was rotated meanwhile.
                continue;
            }
            seen.push(identity);
            let mut lines = Backwards::new(&file)?;
            let mut at = lines.end();
            while found < count
                && let Some((offset, line)) = lines.previous()?
            {
                at = offset;
                if let Some((entry, _)) = parse(&line)
                    && wanted(&entry)?
                {
                    found += 1;
                }
            }
            let mut file = BufReader::new(file);
            file.seek(SeekFrom::Start(at))?;
            reader.file = Some(file);
            if found == count {
                break;
            }
        }
        Ok(reader)
    }

    /// Returns how many bytes were passed over because they are no entries: what a full disk or a power cut left of some.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Passes over an entry that has a beginning only, and will have no end any more.
    pub(crate) fn skip_begun(&mut self) {
        self.skipped += self.begun.len() as u64;
        self.begun.clear();
    }

    /// Returns the next entry; `None` where the log ends for now.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entry()? {
                return Ok(Some(entry));
            }
            let Some(next) = self.newer()? else {
                return Ok(None);
            };
            // Once there is a newer file nothing is written to this one: what came since the look above is the last of it.
            if let Some(entry) = self.entry()? {
                return Ok(Some(entry));
            }
            self.skip_begun();
            self.file = Some(BufReader::new(next));
        }
    }

    /// Reads an entry of the file that is open.
    fn entry(&mut self) -> Result<Option<Entry>> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        loop {
            let most = (LONGEST - self.begun.len()) as u64;
            let read = file.take(most).read_until(b'\n', &mut self.begun);
            read.context("reading the log")?;
            if !self.begun.ends_with(b"\n") && self.begun.len() < LONGEST {
                return Ok(None);
            }
            let parsed = parse(&self.begun);
            let length = self.begun.len();
            self.begun.clear();
            if let Some((entry, skipped)) = parsed {
                self.skipped += skipped as u64;
                return Ok(Some(entry));
            }
            self.skipped += length as u64;
        }
    }

    /// Opens the file after the one that is open: the oldest if that is none, or is gone.
    fn newer(&self) -> Result<Option<fs::File>> {
        loop {
            let place = self.place()?;
            let next = match place {
                Some(0) => return Ok(None),
                Some(age) => Some(age - 1),
                None => self.oldest()?,
            };
            let Some(next) = next else {
                return Ok(None);
            };
            match open(&file(&self.directory, next)) {
                // A rotation in between would have made it another file than the next.
                Ok(file) if self.place()? == place => return Ok(Some(file)),
                Ok(_) => {}
                // Where a rotation is on its way the next file comes to be in a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns how many rotations ago the open file was written. Files only grow older, so that looking from the
    /// newest on finds it wherever it goes meanwhile.
    fn place(&self) -> Result<Option<u32>> {
        let Some(open) = &self.file else {
            return Ok(None);
        };
        let ours = identity(&open.get_ref().metadata()?);
        let files = self.files()?;
        let ours = files.iter().find(|(_, identity)| *identity == ours);
        Ok(ours.map(|(age, _)| *age))
    }

    fn oldest(&self) -> Result<Option<u32>> {
        Ok(self.files()?.last().map(|(age, _)| *age))
    }

    /// Returns the files that are there, the newest first, each with its place in the order and which file it is.
    fn files(&self) -> Result<Vec<(u32, (u64, u64))>> {
        let mut files = Vec::new();
        let mut missing = 0;
        for age in 0..MAX_FILES {
            match fs::metadata(file(&self.directory, age)) {
                Ok(found) => {
                    missing = 0;
                    files.push((age, identity(&found)));
                }
                // In the middle of a rotation one name is free.
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
                Err(error) => return Err(error.into()),
            }
            if missing > 1 {
                break;
            }
        }
        Ok(files)
    }
}

/// Opens a log's file; a pipe that somebody put in its place keeps nobody waiting.
fn open(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Returns the entry that a line is, or ends with, and how many bytes come before it: the beginning of one that was cut off.
fn parse(line: &[u8]) -> Option<(Entry, usize)> {
    if let Ok(entry) = serde_json::from_slice(line) {
        return Some((entry, 0));
    }
    let begins = |at: &usize| line[*at..].starts_with(BEGINNING);
    let mut beginnings = (1..line.len()).filter(begins);
    beginnings.find_map(|at| Some((serde_json::from_slice(&line[at..]).ok()?, at)))
}

/// How every entry begins.
const BEGINNING: &[u8] = b"{\"log\":";

/// A file's lines, the last one first.
struct Backwards<'a> {
    file: &'a fs::File,
    /// Where in the file what is held begins.
    start: u64,
    held: Vec<u8>,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a fs::File) -> Result<Self> {
        Ok(Self {
            file,
            start: file.metadata()?.len(),
            held: Vec::new(),
        })
    }

    fn end(&self) -> u64 {
        self.start + self.held.len() as u64
    }

    /// Returns where the line before the last one begins, and the line.
    fn previous(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            let inner = self.held.len().saturating_sub(1);
            let newline = self.held[..inner].iter().rposition(|byte| *byte == b'\n');
            if let Some(newline) = newline {
                let line = self.held.split_off(newline + 1);
                return Ok(Some((self.end(), line)));
            }
            if self.start == 0 {
                let line = std::mem::take(&mut self.held);
                return Ok((!line.is_empty()).then_some((0, line)));
            }
            // Twice as much each time: what is no line may be long.
            let more = self.start.min((self.held.len() as u64).max(CHUNK));
            let mut chunk = vec![0; usize::try_from(more)?];
            self.start -= more;
            let read = self.file.file().read_exact_at(&mut chunk, self.start);
            read.context("reading the log")?;
            chunk.append(&mut self.held);
            self.held = chunk;
        }
    }
}

/// Bytes that are read at a time from a log's end.
const CHUNK: u64 = 64 << 10;

fn identity(file: &std::fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
