//! The keys that detach a client from its container's terminal.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long the first keys of the sequence are held back for the next: after that they are the command's, so that
/// a lone ^P reaches a shell (moby issue 32895).
const PATIENCE: Duration = Duration::from_millis(300);

/// A sequence of keys: `ctrl-p,ctrl-q` unless the user says otherwise; an empty one is never pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl DetachKeys {
    /// Reads Docker's syntax: characters, `ctrl-` with a letter or one of `@[\]^_`, and `DEL`, with commas between.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(key).collect::<Result<_>>().map(Self)
    }
}

fn key(text: &str) -> Result<u8> {
    match (
        text.as_bytes(),
        text.strip_prefix("ctrl-").map(str::as_bytes),
    ) {
        ([character], _) if character.is_ascii() => Ok(*character),
        (_, Some([letter @ (b'a'..=b'z' | b'@' | b'['..=b'_')])) => Ok(letter & 0x1f),
        _ if text == "DEL" => Ok(0x7f),
        _ => bail!(
            "`{text}` is no key: expected a character, `ctrl-` with a letter or one of `@[\\]^_`, or `DEL`"
        ),
    }
}

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub(crate) struct Watcher {
    keys: DetachKeys,
    /// How many keys of the sequence were typed and are held back, and when the last of them was.
    held: usize,
    since: Instant,
}

impl Watcher {
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self {
            keys,
            held: 0,
            since: Instant::now(),
        }
    }

    /// Takes out of `typed` what may belong to the sequence, and puts in what was held back and does not.
    /// What was typed after a complete sequence is lost.
    pub(crate) fn watch(&mut self, typed: &mut Vec<u8>, now: Instant) {
        let keys = &self.keys.0;
        let mut passed = Vec::with_capacity(typed.len());
        for key in std::mem::take(typed) {
            if self.held > 0 && keys.get(self.held) != Some(&key) {
                passed.extend_from_slice(&keys[..self.held]);
                self.held = 0;
            }
            if keys.get(self.held) == Some(&key) {
                self.held += 1;
                self.since = now;
            } else {
                passed.push(key);
            }
            if self.is_complete() {
                break;
            }
        }
        *typed = passed;
    }

    /// Tells whether all of the sequence was typed.
    pub(crate) fn is_complete(&self) -> bool {
        self.held > 0 && self.held == self.keys.0.len()
    }

    /// Returns when what is held back is to be let go; `None` if nothing is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.held > 0).then(|| self.since + PATIENCE)
    }

    /// Returns the keys that were held back long enough.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<u8> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        self.keys.0[..std::mem::take(&mut self.held)].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_is_dockers() {
        for (text, keys) in [
            ("ctrl-p,ctrl-q", &[0x10, 0x11][..]),
            ("a,b", b"ab"),
            (
                "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_",
                &[0, 27, 28, 29, 30, 31],
            ),
            ("DEL,x", &[127, b'x']),
            ("", &[]),
        ] {
            assert_eq!(DetachKeys::parse(text).unwrap().0, keys, "{text}");
        }
        for bad in ["ctrl-", "ctrl-A", "ctrl-1", "ab", ",", "a,,b", "é", "del"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            DetachKeys::default(),
            DetachKeys::parse("ctrl-p,ctrl-q").unwrap()
        );
    }

    /// Types each word in one go; returns what comes through, and whether the last one detached.
    fn typed(keys: &str, words: &[&str]) -> (String, bool) {
        let mut watcher = Watcher::new(DetachKeys::parse(keys).unwrap());
        let mut passed = String::new();
        for word in words {
            let mut bytes = word.as_bytes().to_vec();
            watcher.watch(&mut bytes, Instant::now());
            passed.push_str(&String::from_utf8(bytes).unwrap());
        }
        (passed, watcher.is_complete())
    }

    #[test]
    fn only_the_whole_sequence_detaches_and_all_else_comes_through() {
        for (keys, words, passed, detached) in [
            ("ctrl-p,ctrl-q", &["ab\u{10}", "\u{11}"][..], "ab", true),
            ("ctrl-p,ctrl-q", &["\u{10}x\u{10}"], "\u{10}x", false),
            ("ctrl-p,ctrl-q", &["\u{10}\u{10}\u{11}"], "\u{10}", true),
            ("a,a,b", &["aab"], "", true),
            ("x", &["abx"], "ab", true),
            ("", &["\u{10}\u{11}"], "\u{10}\u{11}", false),
        ] {
            let expected = (passed.to_owned(), detached);
            assert_eq!(typed(keys, words), expected, "{keys} {words:?}");
        }
    }

    #[test]
    fn a_lone_key_is_let_go_after_a_moment() {
        let mut watcher = Watcher::new(DetachKeys::default());
        let start = Instant::now();
        let mut bytes = vec![0x10];
        watcher.watch(&mut bytes, start);
        assert!(!watcher.is_complete() && bytes.is_empty());
        assert_eq!(watcher.release(start), b"");
        assert_eq!(watcher.release(watcher.deadline().unwrap()), [0x10]);
        assert_eq!(watcher.deadline(), None);
    }
}
