//! Writing a log: whole lines, in files of a limited size.

use crate::container::log::{Entry, Stream, file};
use crate::options::Rotation;
use anyhow::Result;
use chrono::{SecondsFormat, Utc};
use fs_err as fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What Docker keeps at most of a line in one piece, in bytes.
const PIECE: usize = 16 << 10;

/// What is gathered before it is written, in bytes: the monitor is to stay small.
const BATCH: usize = 16 << 10;

/// The log of a container that runs.
pub(crate) struct Writer {
    directory: PathBuf,
    rotation: Rotation,
    file: fs::File,
    /// Bytes of it with what is gathered, and without.
    size: u64,
    written: u64,
    /// The last write was cut off, and what it left could not be taken back.
    is_torn: bool,
    /// Entries that are not written yet.
    batch: Vec<u8>,
    /// The beginnings of lines whose ends have not come.
    begun: [(Stream, Vec<u8>); 2],
}

impl Writer {
    /// Begins the log of the container in `directory`, or goes on with it where the container was started before.
    pub(crate) fn create(directory: &Path, rotation: Rotation) -> Result<Self> {
        let (file, size) = open(&file(directory, 0))?;
        Ok(Self {
            directory: directory.to_owned(),
            rotation,
            file,
            size,
            written: size,
            is_torn: false,
            batch: Vec::new(),
            begun: [(Stream::Stdout, Vec::new()), (Stream::Stderr, Vec::new())],
        })
    }

    /// Keeps what the command wrote; the end of it only once its line ends or is too long for one piece.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let at = usize::from(stream == Stream::Stderr);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = part;
            while !rest.is_empty() {
                let begun = &mut self.begun[at].1;
                let (now, later) = rest.split_at(rest.len().min(PIECE - begun.len()));
                begun.extend_from_slice(now);
                rest = later;
                if begun.ends_with(b"\n") {
                    self.keep(at, usize::MAX)?;
                } else if begun.len() == PIECE {
                    let whole = PIECE - cut_off(begun);
                    self.keep(at, whole)?;
                }
            }
        }
        self.flush()
    }

    /// Keeps what no newline came for.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        for at in [0, 1] {
            if !self.begun[at].1.is_empty() {
                self.keep(at, usize::MAX)?;
            }
        }
        self.flush()
    }

    /// Makes an entry of the first `length` bytes of a line.
    fn keep(&mut self, at: usize, length: usize) -> io::Result<()> {
        let (stream, begun) = &mut self.begun[at];
        let length = length.min(begun.len());
        let entry = Entry {
            log: String::from_utf8_lossy(&begun[..length]).into_owned(),
            stream: *stream,
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true),
        };
        begun.drain(..length);
        let before = self.batch.len();
        serde_json::to_writer(&mut self.batch, &entry)?;
        self.batch.push(b'\n');
        let length = (self.batch.len() - before) as u64;
        let is_full = self
            .rotation
            .max_size
            .is_some_and(|most| self.size > 0 && self.size + length > most);
        if is_full {
            let entry = self.batch.split_off(before);
            self.flush()?;
            self.rotate()?;
            self.batch = entry;
        }
        self.size += length;
        if self.batch.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut written = Ok(());
        if self.is_torn {
            written = self.file.write_all(b"\n");
        }
        written = written.and_then(|()| self.file.write_all(&self.batch));
        if written.is_ok() {
            (self.written, self.is_torn) = (self.size, false);
        } else {
            // What a full disk does not take is lost; the command goes on, and so does the log when there is room again.
            // Half a record would hide the next one.
            self.is_torn = self.file.set_len(self.written).is_err();
            self.size = self.written;
        }
        self.batch.clear();
        written
    }

    /// Goes on in a new file. A reader that has the old one open finds its way by the order of the names.
    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..self.rotation.max_files).rev() {
            match fs::rename(file(&self.directory, age - 1), file(&self.directory, age)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        let new = self.directory.join("log.new");
        self.file = create(&new)?;
        fs::rename(new, file(&self.directory, 0))?;
        (self.size, self.written, self.is_torn) = (0, 0, false);
        Ok(())
    }
}

/// Makes a file that is always written at its end, also after a part of that was taken back.
fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    let file = options.append(true).create(true).open(path)?;
    file.set_len(0)?;
    Ok(file)
}

/// Opens a log to go on with it, and returns its size; what a death cut off at its end is no part of what comes.
fn open(path: &Path) -> io::Result<(fs::File, u64)> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.append(true).read(true).create(true).open(path)?;
    let mut size = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(end) = size.checked_sub(1) {
        file.file().read_exact_at(&mut last, end)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
        size += 1;
    }
    Ok((file, size))
}

/// Returns how many bytes at the end of `bytes` begin a character that is not complete.
fn cut_off(bytes: &[u8]) -> usize {
    let lengths = |byte: u8| match byte {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    };
    let begins = |back: &usize| {
        let at = bytes.len().checked_sub(*back);
        at.is_some_and(|at| lengths(bytes[at]) > *back)
    };
    (1..=3).find(begins).unwrap_or(0)
}
