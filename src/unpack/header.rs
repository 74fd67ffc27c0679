//! One 512-byte tar header: its format, its checksum and its fields, as Go's `archive/tar` reads them.

use anyhow::{Result, bail, ensure};
use std::ops::Range;

/// Size of a header, and of the unit that bodies are padded to (POSIX pax, "ustar Interchange Format").
pub(crate) const BLOCK_SIZE: usize = 512;

pub(crate) type Block = [u8; BLOCK_SIZE];

/// Which layout the bytes after the link name have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V7,
    /// POSIX 1988 and, with extended headers, POSIX 2001.
    Ustar,
    /// Schily's tar: ustar with a shorter prefix.
    Star,
    Gnu,
}

// Fields that every format has.
const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
// Fields of all formats but v7.
const MAGIC: Range<usize> = 257..263;
const VERSION: Range<usize> = 263..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const USTAR_PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
const GNU_ATIME: Range<usize> = 345..357;
const GNU_CTIME: Range<usize> = 357..369;

/// A header's fields; numbers are as found, and may make no sense.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) format: Format,
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: i64,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) size: i64,
    pub(crate) mtime: i64,
    pub(crate) major: i64,
    pub(crate) minor: i64,
}

/// Decodes a header whose checksum is right.
pub(crate) fn decode(block: &Block) -> Result<Header> {
    verify_checksum(block)?;
    let format = format(block);
    let mut header = Header {
        format,
        kind: block[KIND],
        name: text(&block[NAME]).to_vec(),
        link: text(&block[LINK]).to_vec(),
        mode: number(&block[MODE])?,
        uid: number(&block[UID])?,
        gid: number(&block[GID])?,
        size: number(&block[SIZE])?,
        mtime: number(&block[MTIME])?,
        major: 0,
        minor: 0,
    };
    if format != Format::V7 {
        header.major = number(&block[MAJOR])?;
        header.minor = number(&block[MINOR])?;
        let prefix = prefix(block, format);
        if !prefix.is_empty() {
            header.name = [prefix, b"/", &header.name].concat();
        }
    }
    Ok(header)
}

/// Returns what stands before the name, where the format has room for it.
fn prefix(block: &Block, format: Format) -> &[u8] {
    match format {
        Format::V7 => b"",
        Format::Ustar => text(&block[USTAR_PREFIX]),
        Format::Star => text(&block[STAR_PREFIX]),
        Format::Gnu => {
            // Go before 1.8 wrote a ustar prefix into GNU headers, where GNU tar has times. Go still
            // tells them apart by times that are no numbers (golang.org/issue/12594), and so must we.
            let is_time = |field: &[u8]| field[0] == 0 || number(field).is_ok();
            let prefix = text(&block[USTAR_PREFIX]);
            if is_time(&block[GNU_ATIME]) && is_time(&block[GNU_CTIME]) || !prefix.is_ascii() {
                b""
            } else {
                prefix
            }
        }
    }
}

fn format(block: &Block) -> Format {
    match (&block[MAGIC], &block[VERSION], &block[STAR_TRAILER]) {
        (b"ustar\0", _, b"tar\0") => Format::Star,
        (b"ustar\0", ..) => Format::Ustar,
        (b"ustar ", b" \0", _) => Format::Gnu,
        _ => Format::V7,
    }
}

/// Old tars summed signed bytes; both sums are right (POSIX pax, "chksum"; GNU tar does the same).
fn verify_checksum(block: &Block) -> Result<()> {
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = block.iter().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = block.iter().map(|byte| i64::from(byte.cast_signed())).sum();
    let field = &block[CHECKSUM];
    let unsigned = unsigned + spaces - field.iter().map(|byte| i64::from(*byte)).sum::<i64>();
    let signed = signed + spaces
        - field
            .iter()
            .map(|byte| i64::from(byte.cast_signed()))
            .sum::<i64>();
    ensure!(
        octal(field).is_ok_and(|stored| stored == unsigned || stored == signed),
        "the header's checksum is wrong"
    );
    Ok(())
}

/// Returns a field's bytes up to the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Returns a field's number: octal, or base 256 if the first bit is set (GNU tar manual, "Extensions").
pub(crate) fn number(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    // Two's complement, big endian; the first bit is the mark, the second the sign.
    let sign = if field[0] & 0x40 == 0 { 0 } else { 0xff };
    let mut value: i64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = byte ^ sign;
        let byte = if at == 0 { byte & 0x7f } else { byte };
        ensure!(value >> 55 == 0, "a number in the header is too large");
        value = value << 8 | i64::from(byte);
    }
    Ok(if sign == 0 { value } else { !value })
}

fn octal(field: &[u8]) -> Result<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte));
    let end = field.iter().rposition(|byte| !is_padding(byte));
    let (Some(start), Some(end)) = (start, end) else {
        return Ok(0);
    };
    text(&field[start..=end])
        .iter()
        .try_fold(0, |value, digit| match digit {
            // A field holds at most 12 digits: 36 bits.
            b'0'..=b'7' => Ok(value << 3 | i64::from(digit - b'0')),
            _ => bail!("a number in the header is not octal"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"    644 ", 0o644),
            (b"   644\0 ", 0o644),
            (b"644\0junk", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777", 0o77_777_777),
            (b"\x80\0\0\0\0\0\0\x01", 1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", i64::MIN),
        ] {
            assert_eq!(number(field).unwrap(), value, "{}", field.escape_ascii());
        }
        for bad in [
            &b"0000648\0"[..],
            b"-0000644",
            b"64 4\0\0\0\0",
            b"+644    ",
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\x81\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(number(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn text_ends_at_the_first_nul() {
        assert_eq!(text(b"a\0b"), b"a");
        assert_eq!(text(b"abc"), b"abc");
        assert_eq!(text(b"\0abc"), b"");
    }
}
