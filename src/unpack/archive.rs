//! The tar stream: entries one after another, each with all that its headers say.
//!
//! What Go's `archive/tar` understands is understood the same way, because every image was made and is read by
//! it; where readers of tars disagree, the entry is refused, so that no layer shows one content to a scanner
//! and another to us (CVE-2025-62518).

use crate::unpack::header::{self, BLOCK_SIZE, Block, Format, Header};
use crate::unpack::name;
use crate::unpack::pax::{self, Extended, SparseRecords, Time};
use crate::unpack::sparse::{self, Announced, Map};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Read};
use std::mem::take;

/// Bytes of names, records and sparse maps that one entry may bring. Go's limit is the same for each of
/// them; a megabyte of layer can announce a gigabyte.
const MAX_EXTENSION: u64 = 1 << 20;

/// One entry; its body is read from the archive.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As stored: bytes, with no meaning yet given to `.`, `..` or a leading slash.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// May be out of the range of an ID.
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) mtime: Time,
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// `map` says where the body's bytes belong, if not one after the other.
    File {
        size: u64,
        map: Option<Map>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: i64,
        minor: i64,
    },
    BlockDevice {
        major: i64,
        minor: i64,
    },
    Fifo,
}

/// What came before an entry's own header.
#[derive(Default)]
struct Prelude {
    extended: Option<Extended>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Prelude {
    fn is_empty(&self) -> bool {
        self.extended.is_none() && self.name.is_none() && self.link.is_none()
    }
}

/// A tar stream, read from its start to the end of the archive or of the stream.
pub(crate) struct Archive<R> {
    stream: R,
    /// Bytes read.
    position: u64,
    /// What is left of the current body, and what pads it to a block.
    body: u64,
    padding: u64,
    /// What the current entry may still bring of names, records and maps.
    extension: u64,
    headers: u64,
    max_headers: u64,
}

impl<R: BufRead> Archive<R> {
    /// Reads `stream`, which may hold at most `max_headers` headers of any type.
    pub(crate) fn new(stream: R, max_headers: u64) -> Self {
        Self {
            stream,
            position: 0,
            body: 0,
            padding: 0,
            extension: 0,
            headers: 0,
            max_headers,
        }
    }

    /// Returns the next entry, leaving out what is unread of the one before; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let at = self.position + self.body + self.padding;
        self.read_entry()
            .with_context(|| format!("reading the tar entry at byte {at}"))
    }

    /// Returns some of the current body's bytes, none at its end. [`consume`](Self::consume) takes them.
    pub(crate) fn chunk(&mut self) -> io::Result<&[u8]> {
        if self.body == 0 {
            return Ok(&[]);
        }
        let bytes = self.stream.fill_buf()?;
        if bytes.is_empty() {
            return Err(truncated());
        }
        let length = bytes.len().min(clamp(self.body));
        Ok(&bytes[..length])
    }

    /// Returns how many bytes of the stream were read: where the body of an entry begins that was just returned.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes `length` bytes of the last chunk.
    pub(crate) fn consume(&mut self, length: usize) {
        self.stream.consume(length);
        self.position += length as u64;
        self.body -= length as u64;
    }

    /// Reads what follows the archive in the stream; it counts for the diff ID, and means nothing.
    pub(crate) fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    fn read_entry(&mut self) -> Result<Option<Entry>> {
        self.extension = MAX_EXTENSION;
        let mut prelude = Prelude::default();
        loop {
            self.skip_body()?;
            let Some(block) = self.header()? else {
                ensure!(
                    prelude.is_empty(),
                    "an extended header has no entry after it"
                );
                return Ok(None);
            };
            let header = header::decode(&block)?;
            match header.kind {
                b'x' => {
                    let body = self.extension(&header)?;
                    ensure!(prelude.extended.is_none(), "it has two extended headers");
                    prelude.extended = Some(pax::parse(&body)?);
                }
                b'g' => {
                    // Go takes it for an entry, so that what came before it is lost.
                    ensure!(
                        prelude.is_empty(),
                        "a global extended header parts an entry"
                    );
                    pax::check_global(&self.extension(&header)?)?;
                    self.extension = MAX_EXTENSION;
                }
                b'L' => {
                    let body = self.extension(&header)?;
                    ensure!(prelude.name.is_none(), "it has two long names");
                    prelude.name = Some(header::text(&body).to_vec());
                }
                b'K' => {
                    let body = self.extension(&header)?;
                    ensure!(prelude.link.is_none(), "it has two long link names");
                    prelude.link = Some(header::text(&body).to_vec());
                }
                _ => return self.entry(&block, header, prelude).map(Some),
            }
        }
    }

    /// Joins the header with what came before it, and makes its body the current one.
    fn entry(&mut self, block: &Block, mut header: Header, prelude: Prelude) -> Result<Entry> {
        let extended = prelude.extended.unwrap_or_default();
        let link = one_of("link name", prelude.link, extended.linkpath)?;
        header.link = link.unwrap_or(header.link);
        let name = one_of("name", prelude.name, extended.path)?;
        header.name = name.unwrap_or(header.name);
        let announced = extended.sparse.announced()?;
        if announced != Announced::Nothing && !extended.sparse.name.is_empty() {
            header.name.clone_from(&extended.sparse.name);
        }
        header.size = extended.size.unwrap_or(header.size);
        let kind = self
            .kind(block, &mut header, announced, &extended.sparse)
            .with_context(|| format!("entry `{}`", name::shown(&header.name)))?;
        Ok(Entry {
            name: header.name,
            kind,
            mode: u32::try_from(header.mode & 0o7777).expect("12 bits"),
            uid: extended.uid.unwrap_or(header.uid),
            gid: extended.gid.unwrap_or(header.gid),
            mtime: extended.mtime.unwrap_or(Time {
                seconds: header.mtime,
                nanoseconds: 0,
            }),
            attributes: extended.attributes,
        })
    }

    fn kind(
        &mut self,
        block: &Block,
        header: &mut Header,
        announced: Announced,
        records: &SparseRecords,
    ) -> Result<Kind> {
        let is_named_as_directory = header.name.ends_with(b"/");
        let is_file = match header.kind {
            // Before ustar a directory was a file whose name ends in a slash.
            0 => !is_named_as_directory,
            b'0' | b'7' | b'S' => {
                // Go takes it for a file, GNU tar for a directory.
                ensure!(
                    !is_named_as_directory,
                    "it is a file with the name of a directory"
                );
                true
            }
            _ => false,
        };
        if !is_file {
            ensure!(announced == Announced::Nothing, "it is sparse, and no file");
            return kind_without_body(header);
        }
        let stored = u64::try_from(header.size).context("its size is negative")?;
        self.start_body(stored);
        let map = if header.kind == b'S' {
            ensure!(
                header.format == Format::Gnu && announced == Announced::Nothing,
                "its sparse format is not known"
            );
            Some(self.old_sparse_map(block)?)
        } else {
            self.sparse_map(announced, records)?
        };
        let size = map.as_ref().map_or(stored, |map| map.size);
        Ok(Kind::File { size, map })
    }

    /// Reads the map that continues a header of type `S` in blocks of its own, before the body.
    fn old_sparse_map(&mut self, block: &Block) -> Result<Map> {
        let (size, pairs) = sparse::old_gnu(block, || {
            self.grow_extension(BLOCK_SIZE as u64)?;
            self.block()?.context("the sparse map is cut off")
        })?;
        Map::new(size, &pairs, self.body)
    }

    /// Reads the map that PAX records hold or announce.
    fn sparse_map(&mut self, announced: Announced, records: &SparseRecords) -> Result<Option<Map>> {
        let size = self.body;
        let pairs = match announced {
            Announced::Nothing => return Ok(None),
            Announced::Here => records.pairs()?,
            Announced::InBody => sparse::in_body(|| {
                let block = BLOCK_SIZE as u64;
                self.grow_extension(block)?;
                self.body = self
                    .body
                    .checked_sub(block)
                    .context("the sparse map is cut off")?;
                self.block()?.context("the sparse map is cut off")
            })?,
        };
        let size = match records.file_size()? {
            Some(size) => size,
            None => i64::try_from(size).context("its size is out of range")?,
        };
        Map::new(size, &pairs, self.body).map(Some)
    }

    fn start_body(&mut self, size: u64) {
        self.body = size;
        self.padding = size.next_multiple_of(BLOCK_SIZE as u64) - size;
    }

    /// Reads the body of a header that only adds to the next one.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = u64::try_from(header.size).context("its size is negative")?;
        self.grow_extension(size)?;
        self.start_body(size);
        let mut body = Vec::new();
        (&mut self.stream).take(size).read_to_end(&mut body)?;
        self.position += body.len() as u64;
        self.body = 0;
        if (body.len() as u64) < size {
            return Err(truncated().into());
        }
        Ok(body)
    }

    fn grow_extension(&mut self, length: u64) -> Result<()> {
        let left = self.extension.checked_sub(length);
        self.extension = left.context("its names and records are longer than 1 MiB")?;
        Ok(())
    }

    fn skip_body(&mut self) -> Result<()> {
        loop {
            let length = self.chunk()?.len();
            if length == 0 {
                break;
            }
            self.consume(length);
        }
        // The last body's padding may be missing, and Go does not mind.
        let padding = io::copy(&mut (&mut self.stream).take(self.padding), &mut io::sink())?;
        self.position += padding;
        self.padding = 0;
        Ok(())
    }

    /// Reads the next header; `None` at two blocks of zeros, or where the stream ends instead of them.
    fn header(&mut self) -> Result<Option<Block>> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block == [0; BLOCK_SIZE] {
            ensure!(
                self.block()?.is_none_or(|block| block == [0; BLOCK_SIZE]),
                "one block of zeros stands among the entries"
            );
            return Ok(None);
        }
        self.headers += 1;
        ensure!(
            self.headers <= self.max_headers,
            "the layer has more than {} entries (`DDOCK_LAYER_ENTRIES` allows more)",
            self.max_headers
        );
        Ok(Some(block))
    }

    /// Reads one block; `None` if the stream ends before it.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK_SIZE];
        let bytes = self.stream.fill_buf()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.stream.read_exact(&mut block).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                truncated()
            } else {
                error
            }
        })?;
        self.position += BLOCK_SIZE as u64;
        Ok(Some(block))
    }
}

/// These have no body, whatever their size says (Go, `isHeaderOnlyType`).
fn kind_without_body(header: &mut Header) -> Result<Kind> {
    let target = take(&mut header.link);
    let (major, minor) = (header.major, header.minor);
    Ok(match header.kind {
        b'1' => Kind::HardLink { target },
        b'2' => Kind::Symlink { target },
        b'3' => Kind::CharacterDevice { major, minor },
        b'4' => Kind::BlockDevice { major, minor },
        0 | b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => bail!("its type `{}` is not known", other.escape_ascii()),
    })
}

/// GNU and PAX each have a way to give a long name, and readers differ in which one holds.
fn one_of(what: &str, gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let gnu = gnu.filter(|name| !name.is_empty());
    if let (Some(gnu), Some(pax)) = (&gnu, &pax) {
        ensure!(gnu == pax, "it has two different {what}s");
    }
    Ok(gnu.or(pax))
}

fn truncated() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the tar stream ends too early")
}

fn clamp(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
