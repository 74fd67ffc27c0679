//! A container's log: what its command wrote, as Docker's `json-file` driver keeps it.

mod read;
mod write;

pub(crate) use read::Reader;
pub(crate) use write::Writer;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which of the command's streams something was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line of a log, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// With its newline, if it had one.
    pub(crate) log: String,
    pub(crate) stream: Stream,
    /// RFC 3339 in UTC, with nanoseconds.
    pub(crate) time: String,
}

/// Returns the file that is written (0), or the one that was so many rotations ago.
fn file(directory: &Path, age: u32) -> PathBuf {
    directory.join(match age {
        0 => "log".to_owned(),
        age => format!("log.{age}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Rotation;

    fn entries(directory: &Path) -> Vec<(String, Stream)> {
        let mut reader = Reader::open(directory);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            entries.push((entry.log, entry.stream));
        }
        entries
    }

    #[test]
    fn half_a_record_is_taken_back_and_the_next_one_is_whole() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path(), Rotation::default()).unwrap();
        writer.write(Stream::Stdout, b"first\n").unwrap();
        let path = directory.path().join("log");
        let whole = fs_err::metadata(&path).unwrap().len();
        // As on a disk that is full: so much is written, and no more.
        crate::sys::signal::outlive_file_size_limit();
        let before = getrlimit(Resource::Fsize);
        let limited = Rlimit {
            current: Some(whole + 20),
            ..before
        };
        setrlimit(Resource::Fsize, limited).unwrap();
        assert!(writer.write(Stream::Stdout, b"lost\n").is_err());
        assert_eq!(fs_err::metadata(&path).unwrap().len(), whole);
        setrlimit(Resource::Fsize, before).unwrap();
        writer.write(Stream::Stdout, b"after\n").unwrap();
        let expected = ["first\n", "after\n"].map(|text| (text.to_owned(), Stream::Stdout));
        assert_eq!(entries(directory.path()), expected);
    }

    #[test]
    fn lines_are_kept_whole_and_streams_apart() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path(), Rotation::default()).unwrap();
        writer.write(Stream::Stdout, b"one\ntw").unwrap();
        writer.write(Stream::Stderr, b"\"bad\"\n").unwrap();
        writer.write(Stream::Stdout, b"o\n\nend\xff").unwrap();
        writer.finish().unwrap();
        let expected = [
            ("one\n", Stream::Stdout),
            ("\"bad\"\n", Stream::Stderr),
            ("two\n", Stream::Stdout),
            ("\n", Stream::Stdout),
            ("end\u{fffd}", Stream::Stdout),
        ];
        let expected = expected.map(|(text, stream)| (text.to_owned(), stream));
        assert_eq!(entries(directory.path()), expected);
        let line = fs_err::read_to_string(directory.path().join("log")).unwrap();
        assert!(
            line.starts_with("{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2"),
            "{line}"
        );
    }

    #[test]
    fn a_long_line_is_kept_in_pieces_of_whole_characters() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path(), Rotation::default()).unwrap();
        let text = "x".repeat(16383) + &"é".repeat(9000) + "\n";
        for piece in text.as_bytes().chunks(1000) {
            writer.write(Stream::Stdout, piece).unwrap();
        }
        let entries = entries(directory.path());
        let lengths: Vec<usize> = entries.iter().map(|(log, _)| log.len()).collect();
        assert_eq!(lengths[..2], [16383, 16384]);
        let whole: String = entries.into_iter().map(|(log, _)| log).collect();
        assert_eq!(whole, text);
    }

    #[test]
    fn a_reader_follows_a_log_through_its_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: Some(400),
            max_files: 3,
        };
        let mut writer = Writer::create(directory.path(), rotation).unwrap();
        let mut reader = Reader::open(directory.path());
        let mut seen = Vec::new();
        for number in 0..100 {
            writer
                .write(Stream::Stdout, format!("{number}\n").as_bytes())
                .unwrap();
            // Up to two files behind, which are still there.
            if number % 7 == 0 {
                while let Some(entry) = reader.next().unwrap() {
                    seen.push(entry.log);
                }
            }
        }
        while let Some(entry) = reader.next().unwrap() {
            seen.push(entry.log);
        }
        let all: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(seen, all);
        let mut files: Vec<_> = fs_err::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["log", "log.1", "log.2"]);
        // A reader that comes late has what is left.
        assert!(entries(directory.path()).len() < 20);
    }
}
