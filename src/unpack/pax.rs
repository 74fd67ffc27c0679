//! PAX extended headers: length-prefixed records and what they mean.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use std::collections::BTreeMap;

/// A point in time; `nanoseconds` count forward from `seconds`, also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What an extended header says about the entry that follows; an empty value says nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<i64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) sparse: SparseRecords,
}

/// The `GNU.sparse.*` records, not interpreted (GNU tar manual, "PAX Format").
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SparseRecords {
    pub(crate) major: Vec<u8>,
    pub(crate) minor: Vec<u8>,
    pub(crate) name: Vec<u8>,
    pub(crate) size: Vec<u8>,
    pub(crate) real_size: Vec<u8>,
    pub(crate) count: Vec<u8>,
    pub(crate) map: Vec<u8>,
    /// Format 0.0 gives the map as records of its own: offset, length, offset, length …
    pub(crate) pairs: Vec<Vec<u8>>,
}

/// Parses the body of an extended header (type `x`). Of records with the same key the last holds.
pub(crate) fn parse(body: &[u8]) -> Result<Extended> {
    let mut extended = Extended::default();
    let mut libarchive = BTreeMap::new();
    for record in records(body) {
        let (key, value) = record?;
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => extended.path = text(),
            b"linkpath" => extended.linkpath = text(),
            b"size" => extended.size = integer(value)?,
            b"uid" => extended.uid = integer(value)?,
            b"gid" => extended.gid = integer(value)?,
            b"mtime" => extended.mtime = time(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    extended.attributes.insert(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    libarchive.insert(percent_decode(name)?, base64_decode(value)?);
                } else if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
                    extended.sparse.set(field, value)?;
                }
            }
        }
    }
    // bsdtar writes both; its own says the same, in a way that other programs do not read.
    for (name, value) in libarchive {
        extended.attributes.entry(name).or_insert(value);
    }
    Ok(extended)
}

/// Checks a global header (type `g`), which is ignored, as all container engines ignore it. What would
/// make another reader see other files than we do is refused.
pub(crate) fn check_global(body: &[u8]) -> Result<()> {
    for record in records(body) {
        let (key, _) = record?;
        let matters = matches!(key, b"path" | b"linkpath" | b"size");
        ensure!(
            !matters && !key.starts_with(b"GNU.sparse."),
            "a global extended header sets `{}`",
            key.escape_ascii()
        );
    }
    Ok(())
}

impl SparseRecords {
    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<()> {
        let place = match field {
            b"major" => &mut self.major,
            b"minor" => &mut self.minor,
            b"name" => &mut self.name,
            b"size" => &mut self.size,
            b"realsize" => &mut self.real_size,
            b"numblocks" => &mut self.count,
            b"map" => &mut self.map,
            b"offset" | b"numbytes" => {
                let expected = if self.pairs.len().is_multiple_of(2) {
                    &b"offset"[..]
                } else {
                    b"numbytes"
                };
                ensure!(field == expected, "the sparse map is out of order");
                self.pairs.push(value.to_vec());
                return Ok(());
            }
            _ => return Ok(()),
        };
        value.clone_into(place);
        Ok(())
    }
}

/// Yields `(key, value)` of each `length key=value\n`. The length rules: a value may hold newlines and,
/// where it is neither a path nor a name, NULs (POSIX pax, "pax Extended Header").
fn records(mut rest: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = record(rest);
        rest = record.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)))
    })
}

fn record(bytes: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    const MALFORMED: &str = "an extended header's record is malformed";
    // A longer length than this is more than an extended header may hold.
    let digits = bytes
        .iter()
        .take(8)
        .position(|byte| *byte == b' ')
        .context(MALFORMED)?;
    let length = integer(&bytes[..digits])?
        .and_then(|length| usize::try_from(length).ok())
        .context(MALFORMED)?;
    ensure!(length > digits + 1 && length <= bytes.len(), MALFORMED);
    let (record, rest) = bytes.split_at(length);
    let content = record[digits + 1..]
        .strip_suffix(b"\n")
        .context(MALFORMED)?;
    let equals = content.iter().position(|byte| *byte == b'=');
    let (key, value) = content.split_at(equals.context(MALFORMED)?);
    let value = &value[1..];
    let is_name = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    let text = if is_name { value } else { key };
    ensure!(!key.is_empty() && !text.contains(&0), MALFORMED);
    Ok((key, value, rest))
}

/// Parses a decimal number; nothing is `None`.
pub(crate) fn integer(text: &[u8]) -> Result<Option<i64>> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if text.is_empty() {
        return Ok(None);
    }
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match number {
        Some(number) if digits.iter().all(u8::is_ascii_digit) => Ok(Some(number)),
        _ => bail!("`{}` is not a number", shown(text)),
    }
}

/// Parses seconds with a fraction; digits after the ninth are cut off, as Go cuts them.
fn time(text: &[u8]) -> Result<Option<Time>> {
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = text.split_at(point.unwrap_or(text.len()));
    let Some(seconds) = integer(whole)? else {
        ensure!(text.is_empty(), "`{}` is not a time", shown(text));
        return Ok(None);
    };
    let digits = fraction.get(1..).unwrap_or_default();
    ensure!(
        digits.iter().all(u8::is_ascii_digit),
        "`{}` is not a time",
        shown(text)
    );
    let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = padded.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    if whole.starts_with(b"-") && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).context("a time is out of range")?;
        return Ok(Some(Time {
            seconds,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }));
    }
    Ok(Some(Time {
        seconds,
        nanoseconds,
    }))
}

fn shown(text: &[u8]) -> String {
    text[..text.len().min(40)].escape_ascii().to_string()
}

fn percent_decode(name: &[u8]) -> Result<Vec<u8>> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let (b'%', [high, low, tail @ ..]) = (*first, tail) else {
            ensure!(*first != b'%', "an attribute's name is badly encoded");
            decoded.push(*first);
            continue;
        };
        let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low);
        let byte = byte.and_then(|byte| u8::try_from(byte).ok());
        decoded.push(byte.context("an attribute's name is badly encoded")?);
        rest = tail;
    }
    ensure!(!decoded.contains(&0), "an attribute's name holds a NUL");
    Ok(decoded)
}

/// libarchive leaves the padding out.
fn base64_decode(value: &[u8]) -> Result<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(value)
        .context("an attribute's value is not base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(records: &[(&str, &[u8])]) -> Vec<u8> {
        let records = records
            .iter()
            .map(|(key, value)| crate::unpack::testing::pax_record(key, value));
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn records_are_read_by_their_length() {
        let smuggling: &[u8] = b"\x01\n20 path=/etc/shadow\n\0";
        let parsed = parse(&body(&[
            ("SCHILY.xattr.security.capability", smuggling),
            ("path", b"a\nb"),
            ("comment", b"\0"),
        ]))
        .unwrap();
        assert_eq!(parsed.path.unwrap(), b"a\nb");
        assert_eq!(parsed.attributes[&b"security.capability"[..]], smuggling);
    }

    #[test]
    fn the_last_record_holds_and_an_empty_one_says_nothing() {
        let parsed = parse(&body(&[
            ("path", b"a"),
            ("path", b"b"),
            ("uid", b"5"),
            ("uid", b""),
        ]));
        let parsed = parsed.unwrap();
        assert_eq!(parsed.path.unwrap(), b"b");
        assert_eq!(parsed.uid, None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"12 path=abc"[..],
            b"0 a=b\n",
            b"6a=b\n\n",
            b"6 a=b\nx",
            b"7 a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"5 =b\n",
            b"6 abc\n",
            b"99999999999999999999 a=b\n",
            b"11 path=\0a\n",
            b"11 a\0b=ccc\n",
            b"12 size=abc\n",
            b"12 size=+12\n",
            b"13 mtime=1.x\n",
            b"12 mtime=.5\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_have_nanoseconds_and_a_sign() {
        for (text, seconds, nanoseconds) in [
            ("1", 1, 0),
            ("1.", 1, 0),
            ("1.5", 1, 500_000_000),
            ("1.0000000019", 1, 1),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("9223372036854775807", i64::MAX, 0),
        ] {
            let expected = Time {
                seconds,
                nanoseconds,
            };
            assert_eq!(time(text.as_bytes()).unwrap(), Some(expected), "{text}");
        }
    }

    #[test]
    fn libarchive_attributes_are_decoded() {
        let parsed = parse(&body(&[("LIBARCHIVE.xattr.user.a%3Db", b"AQI")])).unwrap();
        assert_eq!(parsed.attributes[&b"user.a=b"[..]], [1, 2]);
        for (key, value) in [
            ("LIBARCHIVE.xattr.user.%zz", &b"AQI"[..]),
            ("LIBARCHIVE.xattr.user.%0", b"AQI"),
            ("LIBARCHIVE.xattr.user.%00", b"AQI"),
            ("LIBARCHIVE.xattr.user.a", b"*"),
        ] {
            assert!(parse(&body(&[(key, value)])).is_err(), "{key}");
        }
    }

    #[test]
    fn global_headers_must_not_change_what_is_there() {
        assert!(check_global(&body(&[("comment", b"a commit"), ("mtime", b"1")])).is_ok());
        for key in ["path", "linkpath", "size", "GNU.sparse.map"] {
            assert!(check_global(&body(&[(key, b"1")])).is_err(), "{key}");
        }
    }
}
