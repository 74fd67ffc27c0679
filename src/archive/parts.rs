//! The files of an archive, by name: where each lies, in the archive itself or in a copy.

use crate::human;
use crate::unpack::{Archive, Kind};
use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use fs_err::os::unix::fs::FileExt as _;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write as _};
use std::sync::Arc;

/// Entries of an archive: an image with 500 layers has some 1,500.
const MAX_ENTRIES: u64 = 100_000;

/// Links that are followed one after the other: Docker's have one.
const MAX_LINKS: usize = 8;

/// Where a file's bytes lie.
#[derive(Debug, Clone)]
pub(super) struct Part {
    file: Arc<fs::File>,
    start: u64,
    pub(super) size: u64,
}

impl Part {
    /// Reads all of it, at most `most` bytes.
    pub(super) fn bytes(&self, most: u64) -> Result<Vec<u8>> {
        ensure!(
            self.size <= most,
            "it has {} bytes, and at most {most} make sense",
            self.size
        );
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn reader(&self) -> PartReader {
        PartReader {
            part: self.clone(),
            position: 0,
        }
    }
}

/// Reads a part in order.
pub(super) struct PartReader {
    part: Part,
    position: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.part.size - self.position).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let read = self
            .part
            .file
            .read_at(&mut buffer[..length], self.part.start + self.position)?;
        if read == 0 && length > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive became shorter",
            ));
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// What stands at a name.
#[derive(Debug)]
enum Entry {
    File(Part),
    /// The name of what it leads to.
    Link(String),
}

/// All files of an archive. Its names are keys here, and never paths of this machine.
#[derive(Debug)]
pub(super) struct Parts(BTreeMap<String, Entry>);

impl Parts {
    /// Reads through an archive. What its files hold is found in `file`: the archive itself, uncompressed, or an empty file
    /// that gets a copy if `copies`.
    pub(super) fn read(stream: impl BufRead, file: fs::File, copies: bool) -> Result<Self> {
        let file = Arc::new(file);
        let mut archive = Archive::new(stream, MAX_ENTRIES);
        let (mut entries, mut end) = (BTreeMap::new(), 0);
        while let Some(entry) = archive.next()? {
            let name = key(&entry.name)?;
            let found = match entry.kind {
                Kind::File { size, map: None } => {
                    let start = if copies { end } else { archive.position() };
                    if copies {
                        copy(&mut archive, &file)?;
                        end += size;
                    }
                    Entry::File(Part {
                        file: Arc::clone(&file),
                        start,
                        size,
                    })
                }
                Kind::Symlink { target } => Entry::Link(beside(&name, &target)?),
                Kind::HardLink { target } => Entry::Link(key(&target)?),
                Kind::Directory => continue,
                _ => bail!(
                    "`{}` is no file, directory or link",
                    human::printable(&name)
                ),
            };
            let shown = human::printable(&name);
            let twice = entries.insert(name, found).is_some();
            ensure!(!twice, "the archive has `{shown}` twice");
        }
        Ok(Self(entries))
    }

    /// Returns the file at `name`; `None` if there is none.
    pub(super) fn get(&self, name: &str) -> Result<Option<&Part>> {
        let mut name = key(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.0.get(&name) {
                None => return Ok(None),
                Some(Entry::File(part)) => return Ok(Some(part)),
                Some(Entry::Link(target)) => name.clone_from(target),
            }
        }
        bail!("`{}` is a link to links", human::printable(&name))
    }

    /// As [`get`](Self::get), where there must be one.
    pub(super) fn need(&self, name: &str) -> Result<&Part> {
        let part = self.get(name)?;
        part.with_context(|| format!("the archive has no `{}`", human::printable(name)))
    }
}

/// Copies the body of the current entry to the end of `file`.
fn copy(archive: &mut Archive<impl BufRead>, mut file: &fs::File) -> Result<()> {
    loop {
        let length = {
            let chunk = archive.chunk()?;
            file.write_all(chunk)
                .context("keeping a copy of the archive")?;
            chunk.len()
        };
        if length == 0 {
            return Ok(());
        }
        archive.consume(length);
    }
}

/// Returns a name as it is looked up: `./a//b` is `a/b`.
fn key(name: &[u8]) -> Result<String> {
    let name = std::str::from_utf8(name).context("a name in the archive is no UTF-8")?;
    let mut words: Vec<&str> = Vec::new();
    for word in name.split('/') {
        match word {
            "" | "." => {}
            ".." => {
                let above = words.pop();
                let shown = human::printable(name);
                above.with_context(|| format!("`{shown}` leads out of the archive"))?;
            }
            word => words.push(word),
        }
    }
    Ok(words.join("/"))
}

/// Returns what a symbolic link at `name` leads to.
fn beside(name: &str, target: &[u8]) -> Result<String> {
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut path = format!("{directory}/").into_bytes();
    path.extend(target);
    key(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_and_lead_nowhere_else() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/a/../b", Some("b")),
            ("a/../../b", None),
            ("..", None),
        ] {
            assert_eq!(key(name.as_bytes()).ok().as_deref(), expected, "{name}");
        }
        assert_eq!(
            beside("x/layer.tar", b"../y/layer.tar").unwrap(),
            "y/layer.tar"
        );
        assert!(beside("layer.tar", b"../y").is_err());
    }
}
