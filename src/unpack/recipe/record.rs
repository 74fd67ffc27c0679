//! Recording: what passes from the tar to the files, written down as it passes.

use crate::unpack::recipe::output::Output;
use crate::unpack::recipe::{ALIAS, CONTENT, END, LITERAL, MOVE, Recipe, ZEROS, aliases};
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

/// The recipe in the making, shared by those who see a part of it; or none, and all of this does nothing.
#[derive(Clone, Default)]
pub(crate) struct Recording(Option<Rc<RefCell<Recorder>>>);

struct Recorder {
    output: Output,
    /// What goes into a file at the moment.
    content: Option<Content>,
    kept: PathBuf,
    kept_directory: Option<OwnedFd>,
    moves: u64,
}

struct Content {
    /// Where its record begins in the batch; it goes on with what is known at the end.
    record: usize,
    length: u64,
    sum: Hasher,
}

impl Recording {
    /// Begins a recipe.
    pub(crate) fn start(recipe: Recipe<'_>) -> Result<Self> {
        let file = fs::File::create_new(recipe.file)?;
        let output = Output::start(file).context("beginning the layer's recipe")?;
        Ok(Self(Some(Rc::new(RefCell::new(Recorder {
            output,
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
            recorder.begin(&name::join(parent, name), offset);
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
    fn begin(&mut self, path: &[u8], offset: u64) {
        let record = self.output.record(CONTENT);
        self.content = Some(Content {
            record: record.len() - 1,
            length: 0,
            sum: Hasher::new(),
        });
        push_bytes(record, path);
        push_number(record, offset);
    }

    fn pass(&mut self, bytes: &[u8]) {
        match &mut self.content {
            Some(content) => {
                content.sum.update(bytes);
                content.length += bytes.len() as u64;
            }
            None => self.literal(bytes),
        }
    }

    /// Records bytes that no file holds. Most of a header is zeros, which are counted instead of compressed.
    fn literal(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (length, zeros) = next_zeros(bytes);
            if length > 0 {
                push_bytes(self.output.record(LITERAL), &bytes[..length]);
            }
            if zeros > 0 {
                push_number(self.output.record(ZEROS), zeros as u64);
            }
            bytes = &bytes[length + zeros..];
        }
    }

    fn end(&mut self) {
        let Some(content) = self.content.take() else {
            return;
        };
        let batch = self.output.batch();
        if content.length == 0 {
            batch.truncate(content.record);
            return;
        }
        push_number(batch, content.length);
        batch.extend_from_slice(&content.sum.finalize().to_le_bytes());
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
        debug_assert!(self.content.is_none(), "its record has no end yet");
        push_bytes(self.output.record(MOVE), path);
        Ok(())
    }

    fn finish(mut self, layer: &OwnedFd) -> io::Result<()> {
        if let Some(kept) = &self.kept_directory {
            for (kept, path) in aliases::unlink(kept, layer)? {
                let record = self.output.record(ALIAS);
                push_bytes(record, &kept);
                push_bytes(record, &path);
            }
        }
        self.output.record(END);
        self.output.finish()
    }
}

fn push_bytes(record: &mut Vec<u8>, bytes: &[u8]) {
    push_number(record, bytes.len() as u64);
    record.extend_from_slice(bytes);
}

/// Returns how many bytes come before the next zeros that are worth a record, and how many zeros these are.
fn next_zeros(bytes: &[u8]) -> (usize, usize) {
    let are_zero = |word: &[u8; 8]| *word == [0; 8];
    let (words, _) = bytes.as_chunks();
    let Some(first) = words.iter().position(are_zero) else {
        return (bytes.len(), 0);
    };
    let more = words[first..].iter().take_while(|word| are_zero(word));
    let (mut start, mut end) = (8 * first, 8 * (first + more.count()));
    while start > 0 && bytes[start - 1] == 0 {
        start -= 1;
    }
    while end < bytes.len() && bytes[end] == 0 {
        end += 1;
    }
    (start, end - start)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_are_worth_a_record_are_found() {
        let zeros = |length| vec![0; length];
        for (bytes, expected) in [
            (b"".to_vec(), (0, 0)),
            (b"name".to_vec(), (4, 0)),
            (zeros(7), (7, 0)),
            (zeros(8), (0, 8)),
            (zeros(512), (0, 512)),
            ([b"name", &zeros(100)[..], b"mode"].concat(), (4, 100)),
            ([b"a\0b", &zeros(15)[..]].concat(), (3, 15)),
            ([b"12345678", &zeros(9)[..], b"x"].concat(), (8, 9)),
            ([&zeros(17)[..], b"x", &zeros(20)].concat(), (0, 17)),
            ([b"x", &zeros(7)[..], b"y", &zeros(20)].concat(), (9, 20)),
        ] {
            assert_eq!(next_zeros(&bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
