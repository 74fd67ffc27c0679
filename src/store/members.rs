//! Members of networks by name: who is called so in a network, or has an address there.
//!
//! `networks/<network ID>/<word>/<container ID>` is a symbolic link whose text is what is known of that member. The file
//! system is the index: finding a word takes the same few calls among a thousand members as among two, nobody keeps a
//! copy that could be out of date, and one member's damage is its own.

use crate::store::lock::missing_is_fine;
use crate::store::objects::read_if_there;
use crate::store::{Store, layout};
use anyhow::Result;
use fs_err as fs;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The longest file name, in bytes (`NAME_MAX`).
const LONGEST_FILE: usize = 255;

/// How often a link is tried whose directory others keep removing because they were the last in it.
const ATTEMPTS: usize = 100;

/// By what a member is found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word<'a> {
    /// In letters of any case.
    Name(&'a str),
    Address(IpAddr),
}

impl Store {
    /// Has `container` be found in a network by each word; beside it stands what is then said.
    ///
    /// The container's directory lists the words before there are any, so that nothing stays that nobody knows of.
    pub(crate) fn enter_words(
        &self,
        container: &str,
        network: &str,
        words: &[(Word<'_>, String)],
    ) -> Result<()> {
        let files = words
            .iter()
            .filter_map(|(word, said)| Some((word.file()?, said)));
        let files: Vec<(String, &String)> = files.collect();
        let lines = files.iter().map(|(file, _)| format!("{network}/{file}\n"));
        let list = layout::container_words(&self.layout.container(container));
        let mut list = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)?;
        list.write_all(lines.collect::<String>().as_bytes())?;
        for (file, said) in files {
            let directory = self.layout.members(network).join(file);
            link(said, &directory, container)?;
        }
        Ok(())
    }

    /// Returns the containers that a word leads to in a network, each with what is said of it; some may have died.
    pub(crate) fn led_to(&self, network: &str, word: Word<'_>) -> Result<Vec<(String, String)>> {
        let Some(file) = word.file() else {
            return Ok(Vec::new());
        };
        let directory = self.layout.members(network).join(file);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            // What is no link, or went meanwhile, leads to nobody.
            let said = entry.as_ref().ok().map(|it| fs::read_link(it.path()));
            if let Some(Ok(said)) = said
                && let (Ok(container), Ok(said)) = (
                    entry?.file_name().into_string(),
                    said.into_os_string().into_string(),
                )
            {
                found.push((container, said));
            }
        }
        Ok(found)
    }

    /// Has nobody find `container` any more, in one network or in all.
    pub(super) fn leave_words(&self, container: &str, only: Option<&str>) -> Result<()> {
        let list = layout::container_words(&self.layout.container(container));
        let Some(text) = read_if_there(&list)? else {
            return Ok(());
        };
        let text = String::from_utf8_lossy(&text);
        let mut kept = String::new();
        for (network, file) in text.lines().filter_map(|line| line.split_once('/')) {
            if only.is_some_and(|only| only != network) {
                writeln!(kept, "{network}/{file}")?;
                continue;
            }
            let directory = self.layout.members(network).join(file);
            fs::remove_file(directory.join(container)).or_else(missing_is_fine)?;
            // Others who are called so, or will be in a moment, keep it.
            fs::remove_dir(&directory).ok();
        }
        if kept.is_empty() {
            return Ok(fs::remove_file(list).or_else(missing_is_fine)?);
        }
        let new = list.with_extension("new");
        fs::write(&new, kept)?;
        Ok(fs::rename(new, list)?)
    }

    /// Removes what is left of the words of a network that is being removed.
    pub(super) fn remove_words(&self, network: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.layout.members(network)).or_else(missing_is_fine)?)
    }
}

fn link(said: &str, directory: &Path, container: &str) -> Result<()> {
    let place: PathBuf = directory.join(container);
    for _ in 0..ATTEMPTS {
        match fs::os::unix::fs::symlink(said, &place) {
            // The first who is called so; or the last one just went.
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(directory)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&place).or_else(missing_is_fine)?;
            }
            other => return Ok(other?),
        }
    }
    Err(io::Error::from(ErrorKind::ResourceBusy).into())
}

impl Word<'_> {
    /// Returns the name of its file: an address behind an `@`; a name in lower case, and what is neither letter, digit nor
    /// one of `_-.` as `%XX`. None if that is too long for a file: who has such an alias is not found by it.
    fn file(self) -> Option<String> {
        let name = match self {
            Self::Name(name) => name,
            Self::Address(address) => return Some(format!("@{address}")),
        };
        let mut file = String::with_capacity(name.len());
        for byte in name.bytes().map(|byte| byte.to_ascii_lowercase()) {
            let is_plain = byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            // `.` and `..` are no names of files.
            if is_plain || (byte == b'.' && !file.is_empty()) {
                file.push(byte.into());
            } else {
                write!(file, "%{byte:02X}").ok()?;
            }
        }
        (1..=LONGEST_FILE).contains(&file.len()).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_files_that_stay_in_their_directory() {
        for (word, file) in [
            ("web", Some("web")),
            ("My.DB", Some("my.db")),
            ("..", Some("%2E.")),
            (".", Some("%2E")),
            ("a/../b", Some("a%2F..%2Fb")),
            ("100%", Some("100%25")),
            ("@10.0.0.1", Some("%4010.0.0.1")),
            ("é", Some("%C3%A9")),
            ("", None),
            (&"x".repeat(255), Some(&*"x".repeat(255))),
            (&"x".repeat(256), None),
            (&"/".repeat(86), None),
        ] {
            assert_eq!(Word::Name(word).file().as_deref(), file, "{word}");
        }
        let address = Word::Address("FD00:0::2".parse().unwrap());
        assert_eq!(address.file().as_deref(), Some("@fd00::2"));
    }
}
