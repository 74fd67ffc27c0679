//! Files of configuration that may be there: what they hold, and what keeps them from being read.

use rustix::fs::{FileType, Mode, OFlags};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Bytes of the largest file. Configuration of a thousand registries has a tenth of it.
const LARGEST: u64 = 4 << 20;

/// Returns the content of a file; `None` if there is none. Nobody is waited for: a file may be anything that somebody put in its
/// place.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match open(path) {
        Ok(content) => Ok(Some(content)),
        // A file in the place of one of the directories is as good as no directory.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => {
            let text = format!("`{}`: {error}", path.display());
            Err(io::Error::new(error.kind(), text))
        }
    }
}

fn open(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    // `/dev/null` is what says that there is nothing.
    if !matches!(kind, FileType::RegularFile | FileType::CharacterDevice) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut content = Vec::new();
    let file = fs_err::File::from_parts(file.into(), path);
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it has more than 4 MiB",
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn what_is_there_is_read_and_what_is_no_file_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::write(at("file"), "text").unwrap();
        fs_err::create_dir(at("directory")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read(&at("file")).unwrap().unwrap(), b"text");
        assert_eq!(read(Path::new("/dev/null")).unwrap().unwrap(), b"");
        for none in ["missing", "file/below", "missing/below"] {
            assert_eq!(read(&at(none)).unwrap(), None, "{none}");
        }
        for (unfit, said) in [
            (at("directory"), "no file"),
            (at("pipe"), "no file"),
            (at("loop"), "symbolic links"),
            ("/dev/zero".into(), "more than 4 MiB"),
        ] {
            let error = read(&unfit).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
