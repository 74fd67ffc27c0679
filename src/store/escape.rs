//! Paths in JSON: bytes that are no printable ASCII, and `%`, as `%XX`, because a path need not be UTF-8.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| escape(path)))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let path =
        |text: &String| unescape(text).ok_or_else(|| D::Error::custom("bad escape in a path"));
    texts.iter().map(path).collect()
}

/// The same for pairs of paths, each an array of two.
pub(super) mod pairs {
    use super::{Deserializer, PathBuf, Serializer, escape, unescape};
    use serde::Deserialize as _;
    use serde::de::Error as _;

    type Pair = (PathBuf, PathBuf);

    pub(in crate::store) fn serialize<S: Serializer>(
        pairs: &[Pair],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(pairs.iter().map(|(one, two)| (escape(one), escape(two))))
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Pair>, D::Error> {
        let texts = Vec::<(String, String)>::deserialize(from)?;
        let pair = |(one, two): &(String, String)| unescape(one).zip(unescape(two));
        let error = || D::Error::custom("bad escape in a path");
        texts
            .iter()
            .map(|texts| pair(texts).ok_or_else(error))
            .collect()
    }
}

fn escape(path: &Path) -> String {
    let one = |byte: &u8| match byte {
        b'%' => "%25".to_owned(),
        b' '..=b'~' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(one).collect()
}

fn unescape(text: &str) -> Option<PathBuf> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (hex, tail) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_survives() {
        for bytes in [
            &b""[..],
            b"a/b c",
            b"100%",
            b"\xff\xfe\n",
            "\u{e9}".as_bytes(),
        ] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(unescape(&escape(&path)), Some(path));
        }
        assert_eq!(escape(Path::new("a%\n")), "a%25%0A");
        for bad in ["%", "%4", "%zz", "%\u{e9}"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }
}
