//! Reading a recipe: its records, one after another. What it says is not trusted.

use crate::unpack::recipe::{ALIAS, CONTENT, END, HEADER, LITERAL, MOVE, OLD_HEADER, ZEROS};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read};

/// Bytes of the longest path: what the kernel takes (`PATH_MAX`).
const MAX_PATH: u64 = 4096;

/// One record. The bytes of a literal follow it, and are to be read before the next record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// So many bytes of the tar stand in the recipe itself.
    Literal(u64),
    /// The tar goes on with so many zeros.
    Zeros(u64),
    /// The tar goes on with what a file holds.
    Content(Content),
    /// What stood at this path was moved out of the layer.
    Move(Vec<u8>),
    /// What was moved to the first path, below the directory of what is kept, is a file of the layer, the second path.
    Alias(Vec<u8>, Vec<u8>),
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) path: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// The CRC-32 of the bytes (RFC 1952, 8).
    pub(crate) sum: u32,
}

/// A recipe, uncompressed as it is read.
pub(crate) struct Records<R: Read> {
    stream: BufReader<zstd::Decoder<'static, BufReader<R>>>,
}

impl<R: Read> Records<R> {
    pub(crate) fn new(compressed: R) -> io::Result<Self> {
        let mut records = Self {
            stream: BufReader::new(zstd::Decoder::new(compressed)?),
        };
        let mut header = [0; HEADER.len()];
        records.exactly(&mut header)?;
        if ![*HEADER, *OLD_HEADER].contains(&header) {
            return Err(invalid(
                "it is no recipe, or one of a format that is not known",
            ));
        }
        Ok(records)
    }

    /// Returns the next record.
    pub(crate) fn next(&mut self) -> io::Result<Record> {
        match self.byte()? {
            LITERAL => Ok(Record::Literal(self.number()?)),
            ZEROS => Ok(Record::Zeros(self.number()?)),
            CONTENT => Ok(Record::Content(Content {
                path: self.path()?,
                offset: self.number()?,
                length: self.number()?,
                sum: {
                    let mut sum = [0; 4];
                    self.exactly(&mut sum)?;
                    u32::from_le_bytes(sum)
                },
            })),
            MOVE => Ok(Record::Move(self.path()?)),
            ALIAS => Ok(Record::Alias(self.path()?, self.path()?)),
            END => {
                // The end of the last frame is its checksum.
                if !self.stream.fill_buf()?.is_empty() {
                    return Err(invalid("it goes on behind its end"));
                }
                Ok(Record::End)
            }
            _ => Err(invalid("it has a record that is not known")),
        }
    }

    /// Reads some bytes of a literal that has `left` more of them.
    pub(crate) fn literal(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.stream.read(&mut buffer[..length])? {
            0 if length > 0 => Err(invalid("it is cut off")),
            length => Ok(length),
        }
    }

    /// Reads over a literal.
    pub(crate) fn skip(&mut self, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let bytes = self.stream.fill_buf()?;
            if bytes.is_empty() {
                return Err(invalid("it is cut off"));
            }
            let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.stream.consume(length);
            left -= length as u64;
        }
        Ok(())
    }

    fn path(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > MAX_PATH {
            return Err(invalid("it has a path that is too long"));
        }
        let mut path = vec![0; usize::try_from(length).expect("a few thousand")];
        self.exactly(&mut path)?;
        Ok(path)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(invalid("it has a number that is too large"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.exactly(&mut byte)?;
        Ok(byte[0])
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let cut_off = |error: io::Error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                invalid("it is cut off")
            } else {
                error
            }
        };
        self.stream.read_exact(buffer).map_err(cut_off)
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
