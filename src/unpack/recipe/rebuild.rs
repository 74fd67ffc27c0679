//! Rebuilding: a recipe and the files of its layer make the tar again.

use crate::unpack::recipe::Recipe;
use crate::unpack::recipe::moves::{Moves, Place};
use crate::unpack::recipe::records::{self, Record, Records};
use crate::unpack::walk::{INSIDE, untouched};
use anyhow::{Context, Result};
use crc32fast::Hasher;
use fs_err as fs;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, Read};
use std::path::Path;
use thiserror::Error;

/// The layer was unpacked by a ddock that wrote no recipes, or it was lost.
#[derive(Debug, Error)]
#[error("there is no recipe")]
pub(crate) struct NoRecipe;

/// A file that does not hold any more what the recipe says. Files that are missing or too short are not told: the tar
/// has zeros in their stead.
#[derive(Debug)]
pub(crate) struct Spoilt {
    pub(crate) path: Vec<u8>,
    pub(crate) why: String,
}

/// A layer's tar, made again as it is read. What is wrong with the layer's files does not end it; what is wrong with the
/// recipe does.
pub(crate) struct Rebuild {
    records: Records<fs::File>,
    /// Records read.
    count: u64,
    moves: Moves,
    layer: OwnedFd,
    kept: Option<OwnedFd>,
    state: State,
    spoilt: Vec<Spoilt>,
    failure: Option<String>,
}

enum State {
    Between,
    Literal { left: u64 },
    Zeros { left: u64 },
    Content(Content),
    End,
}

/// What is being read of a file.
struct Content {
    said: records::Content,
    /// Absent if there is no such file, or no more of it.
    file: Option<OwnedFd>,
    is_kept: bool,
    /// Bytes read.
    done: u64,
    sum: Hasher,
}

impl Rebuild {
    /// Reads through the recipe of the layer whose files are in `layer`, and gets ready to make its tar. An error with
    /// [`NoRecipe`] says that there is none; with an [`io::Error`], most likely, that it is damaged.
    pub(crate) fn open(layer: &Path, recipe: Recipe<'_>) -> Result<Self> {
        let open = || match fs::File::open(recipe.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NoRecipe.into()),
            other => other.context("opening the recipe"),
        };
        let moves = moves(open()?)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let kept = match rustix::fs::open(recipe.kept, flags, Mode::empty()) {
            Err(Errno::NOENT) => None,
            other => Some(other.with_context(|| format!("opening {}", recipe.kept.display()))?),
        };
        Ok(Self {
            records: Records::new(open()?)?,
            count: 0,
            moves,
            layer: rustix::fs::open(layer, flags, Mode::empty())
                .with_context(|| format!("opening {}", layer.display()))?,
            kept,
            state: State::Between,
            spoilt: Vec::new(),
            failure: None,
        })
    }

    /// Returns what was found on the way, and why the way ended early if it was the recipe.
    pub(crate) fn finish(self) -> (Vec<Spoilt>, Option<String>) {
        (self.spoilt, self.failure)
    }

    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Between => self.next()?,
                State::Literal { left: 0 } | State::Zeros { left: 0 } => {
                    self.state = State::Between;
                }
                State::Literal { left } => {
                    let length = self.records.literal(buffer, *left)?;
                    *left -= length as u64;
                    return Ok(length);
                }
                State::Zeros { left } => {
                    let zeros = shorten(buffer, *left);
                    zeros.fill(0);
                    *left -= zeros.len() as u64;
                    return Ok(zeros.len());
                }
                State::Content(content) if content.done == content.said.length => {
                    if content.sum.clone().finalize() != content.said.sum && content.file.is_some()
                    {
                        let path = content.said.path.clone();
                        let why = told(content.is_kept, "content");
                        self.spoilt.push(Spoilt { path, why });
                    }
                    self.state = State::Between;
                }
                State::Content(content) => {
                    let (length, trouble) = content.read(buffer);
                    self.spoilt.extend(trouble);
                    return Ok(length);
                }
                State::End => return Ok(0),
            }
        }
    }

    fn next(&mut self) -> io::Result<()> {
        let record = self.records.next()?;
        self.count += 1;
        self.state = match record {
            Record::Literal(left) => State::Literal { left },
            Record::Zeros(left) => State::Zeros { left },
            Record::Content(said) => State::Content(self.content(said)),
            Record::Move(_) | Record::Alias(..) => State::Between,
            Record::End => State::End,
        };
        Ok(())
    }

    /// Opens the file that `said` speaks of, where it is now.
    fn content(&mut self, said: records::Content) -> Content {
        let place = self.moves.find(&said.path, self.count);
        let is_kept = matches!(place, Place::Kept(_));
        let opened = match (&place, &self.kept) {
            (Place::Layer(path), _) => open(&self.layer, path),
            (Place::Kept(path), Some(kept)) => open(kept, path),
            (Place::Kept(_), None) => Err(Errno::NOENT),
        };
        let file = match opened {
            Ok(file) => Some(file),
            // It is missed where the layer's files are looked at one by one; what is kept is looked at here only.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::INVAL)
                if !is_kept =>
            {
                None
            }
            Err(error) => {
                let why = told(is_kept, &format!("unreadable: {error}"));
                let path = said.path.clone();
                self.spoilt.push(Spoilt { path, why });
                None
            }
        };
        Content {
            said,
            file,
            is_kept,
            done: 0,
            sum: Hasher::new(),
        }
    }
}

impl Read for Rebuild {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.step(buffer);
        if let Err(error) = &read {
            self.failure = Some(error.to_string());
        }
        read
    }
}

impl Content {
    /// Reads some of what is left, zeros in the stead of what cannot be read.
    fn read(&mut self, buffer: &mut [u8]) -> (usize, Option<Spoilt>) {
        let buffer = shorten(buffer, self.said.length - self.done);
        let (mut filled, mut trouble) = (0, None);
        if let Some(file) = &self.file {
            let offset = self.said.offset.saturating_add(self.done);
            match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset)) {
                Ok(read) => filled = read,
                Err(error) => {
                    let path = self.said.path.clone();
                    let why = told(self.is_kept, &format!("unreadable: {error}"));
                    trouble = Some(Spoilt { path, why });
                }
            }
        }
        if filled == 0 {
            if self.file.take().is_some() && self.is_kept && trouble.is_none() {
                let path = self.said.path.clone();
                let why = told(true, "too short");
                trouble = Some(Spoilt { path, why });
            }
            buffer.fill(0);
            filled = buffer.len();
        } else {
            self.sum.update(&buffer[..filled]);
        }
        self.done += filled as u64;
        (filled, trouble)
    }
}

/// Returns the beginning of `buffer`, of at most `length` bytes.
fn shorten(buffer: &mut [u8], length: u64) -> &mut [u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let length = length.min(buffer.len());
    &mut buffer[..length]
}

fn told(is_kept: bool, what: &str) -> String {
    if is_kept {
        format!("{what}, of what a later entry of the layer replaces")
    } else {
        what.to_owned()
    }
}

/// Reads a recipe from its beginning to its end; returns what moved.
fn moves(compressed: fs::File) -> Result<Moves> {
    let mut records = Records::new(compressed)?;
    let (mut moves, mut count) = (Moves::default(), 0);
    loop {
        count += 1;
        match records.next()? {
            Record::Literal(length) => records.skip(length)?,
            Record::Zeros(_) | Record::Content(_) => {}
            Record::Move(path) => moves.push(path, count)?,
            Record::Alias(kept, path) => moves.alias(kept, path)?,
            Record::End => return Ok(moves),
        }
    }
}

/// Opens the regular file at `path` for reading. The kernel makes sure that it lies below `directory`; what is no
/// regular file is not even opened: a device may do something then, and a pipe waits.
fn open(directory: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat2(directory, path, flags, Mode::empty(), INSIDE)?;
    let mode = rustix::fs::fstat(&handle)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // Its name in /proc is the file itself.
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    untouched(|flags| rustix::fs::open(&path, flags, Mode::empty()))
}
