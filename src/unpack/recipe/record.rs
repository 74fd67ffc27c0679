//! Recording: what passes from the tar to the files, written down as it passes.

use crate::unpack::recipe::output::Output;
use crate::unpack::recipe::{ALIAS, CONTENT, END, HEADER, LITERAL, MOVE, Recipe, aliases};
use crate::unpack::{name, pipe};
use anyhow::{Context, Result};
use crc32fast::Hasher;
use fs_err as fs;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::cell::RefCell;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::rc::Rc;

/// Bytes of headers that make a record.
const LITERAL_SIZE: usize = 32 << 10;

/// The recipe in the making, shared by those who see a part of it; or none, and all of this does nothing.
#[derive(Clone, Default)]
pub(crate) struct Recording(Option<Rc<RefCell<Recorder>>>);

struct Recorder {
    output: Output,
    /// Bytes of the tar that no file holds, not written yet.
    literal: Vec<u8>,
    /// What goes into a file at the moment.
    content: Option<Content>,
    kept: PathBuf,
    kept_directory: Option<OwnedFd>,
    moves: u64,
}

struct Content {
    path: Vec<u8>,
    offset: u64,
    length: u64,
    sum: Hasher,
}

impl Recording {
    /// Begins a recipe.
    pub(crate) fn start(recipe: Recipe<'_>) -> Result<Self> {
        let file = fs::File::create_new(recipe.file)?;
        let mut output = Output::start(file).context("beginning the layer's recipe")?;
        output.write(HEADER);
        Ok(Self(Some(Rc::new(RefCell::new(Recorder {
            output,
            literal: Vec::with_capacity(2 * LITERAL_SIZE),
            content: None,
            kept: recipe.kept.to_owned(),
            kept_directory: None,
            moves: 0,
        })))))
    }

    /// Tells that the bytes that pass from now on stand in the file `name` in `parent`, from `offset` on.
    pub(crate) fn begin(&self, parent: &[u8], name: &[u8], offset: u64) {
        if let Some(recorder) = &self.0 {
            let mut recorder = recorder.borrow_mut();
            recorder.end();
            recorder.content = Some(Content {
                path: name::join(parent, name),
                offset,
                length: 0,
                sum: Hasher::new(),
            });
        }
    }

    /// Tells that the bytes that pass from now on stand in no file.
    pub(crate) fn end(&self) {
        if let Some(recorder) = &self.0 {
            recorder.borrow_mut().end();
        }
    }

    /// Moves what stands at `name` in `parent` out of the layer, with all it holds; false if nothing is recorded and it
    /// can as well be removed. `path` is where it stood.
    pub(crate) fn set_aside(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<bool> {
        let Some(recorder) = &self.0 else {
            return Ok(false);
        };
        let mut recorder = recorder.borrow_mut();
        recorder
            .set_aside(parent, name, path)
            .context("keeping what it replaces for the recipe")?;
        Ok(true)
    }

    /// Completes the recipe of the layer in `layer`. Nothing passes any more.
    pub(crate) fn finish(self, layer: &OwnedFd) -> Result<()> {
        let Some(recorder) = self.0 else {
            return Ok(());
        };
        let recorder = Rc::into_inner(recorder).expect("nobody records any more");
        let written = recorder.into_inner().finish(layer);
        written.context("writing the layer's recipe")
    }

    /// Takes note of bytes of the tar.
    fn pass(&self, bytes: &[u8]) {
        if let Some(recorder) = &self.0 {
            recorder.borrow_mut().pass(bytes);
        }
    }
}

impl Recorder {
    fn pass(&mut self, bytes: &[u8]) {
        if let Some(content) = &mut self.content {
            content.sum.update(bytes);
            content.length += bytes.len() as u64;
            return;
        }
        self.literal.extend_from_slice(bytes);
        if self.literal.len() >= LITERAL_SIZE {
            self.flush();
        }
    }

    fn end(&mut self) {
        let Some(content) = self.content.take().filter(|content| content.length > 0) else {
            return;
        };
        self.flush();
        let mut record = vec![CONTENT];
        push_bytes(&mut record, &content.path);
        push_number(&mut record, content.offset);
        push_number(&mut record, content.length);
        record.extend(content.sum.finalize().to_le_bytes());
        self.output.write(&record);
    }

    fn set_aside(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<()> {
        let kept = match &mut self.kept_directory {
            Some(kept) => kept,
            none => {
                rustix::fs::mkdir(&self.kept, Mode::RWXU)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                none.insert(rustix::fs::open(&self.kept, flags, Mode::empty())?)
            }
        };
        let number = self.moves.to_string();
        rustix::fs::renameat(parent, name, kept.as_fd(), number)?;
        self.moves += 1;
        self.flush();
        let mut record = vec![MOVE];
        push_bytes(&mut record, path);
        self.output.write(&record);
        Ok(())
    }

    fn flush(&mut self) {
        if self.literal.is_empty() {
            return;
        }
        let mut record = vec![LITERAL];
        push_number(&mut record, self.literal.len() as u64);
        self.output.write(&record);
        let literal = std::mem::take(&mut self.literal);
        self.output.write(&literal);
        self.literal = literal;
        self.literal.clear();
    }

    fn finish(mut self, layer: &OwnedFd) -> io::Result<()> {
        self.flush();
        if let Some(kept) = &self.kept_directory {
            for (kept, path) in aliases::unlink(kept, layer)? {
                let mut record = vec![ALIAS];
                push_bytes(&mut record, &kept);
                push_bytes(&mut record, &path);
                self.output.write(&record);
            }
        }
        self.output.write(&[END]);
        self.output.finish()
    }
}

fn push_bytes(record: &mut Vec<u8>, bytes: &[u8]) {
    push_number(record, bytes.len() as u64);
    record.extend_from_slice(bytes);
}

/// Appends a number, seven bits a byte, the lowest first; the eighth says that more follow (LEB128).
fn push_number(record: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        record.push(u8::try_from(number & 0x7f).expect("7 bits") | 0x80);
        number >>= 7;
    }
    record.push(u8::try_from(number).expect("7 bits"));
}

/// A stream whose bytes are recorded as they are taken from it.
pub(crate) struct Tap<R> {
    stream: R,
    recording: Recording,
}

impl<R> Tap<R> {
    pub(crate) fn new(stream: R, recording: Recording) -> Self {
        Self { stream, recording }
    }
}

impl<R: BufRead> BufRead for Tap<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if length == 0 {
            return;
        }
        if self.recording.0.is_some() {
            // What is to be taken was there a moment ago, and nothing else reads this stream.
            let bytes = self.stream.fill_buf().unwrap_or_default();
            self.recording.pass(&bytes[..length.min(bytes.len())]);
        }
        self.stream.consume(length);
    }
}

impl<R: BufRead> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        pipe::read_buffered(self, buffer)
    }
}
