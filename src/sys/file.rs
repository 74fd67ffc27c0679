//! Files that are not ours: a container, an image or anybody on this machine may have put anything in their place.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{File, OpenOptions};
use nix::libc;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The most that is read of a file, in bytes: more than any list of variables, certificates or filters ever was, and no harm to
/// a machine.
const LARGEST: u64 = 16 << 20;

/// Reads a regular file. One that somebody holds back by a lease is an error at once, as is one without an end.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_within(path, LARGEST)
}

/// As [`read`], as text.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    text(path, read(path)?)
}

/// As [`read`], for a file of at most so many bytes.
pub(crate) fn read_within(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = at_once(OpenOptions::new().read(true)).open(path)?;
    let kind = file.metadata()?.file_type();
    let what = match () {
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => return take(file, most),
    };
    let path = path.display();
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        format!("`{path}` is {what}, not a file"),
    ))
}

/// Reads what the user of this process names, which may be a pipe that somebody still writes to: `<(command)` of a shell.
///
/// Waits for that as long as the user does.
pub(crate) fn read_given(path: &Path) -> io::Result<Vec<u8>> {
    take(File::open(path)?, LARGEST)
}

/// As [`read_given`], as text.
pub(crate) fn read_given_to_string(path: &Path) -> io::Result<String> {
    text(path, read_given(path)?)
}

/// Has a file opened, or refused, without waiting for a pipe's other end or for whoever holds a lease (open(2), `O_NONBLOCK`).
pub(crate) fn at_once(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
}

fn take(file: File, most: u64) -> io::Result<Vec<u8>> {
    let path = file.path().display().to_string();
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("`{path}` is larger than {most} bytes"),
        ));
    }
    Ok(content)
}

fn text(path: &Path, content: Vec<u8>) -> io::Result<String> {
    String::from_utf8(content).map_err(|_| {
        let path = path.display();
        io::Error::new(ErrorKind::InvalidData, format!("`{path}` is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn what_is_no_file_or_has_no_end_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        File::create(at("sparse"))
            .unwrap()
            .set_len(LARGEST + 1)
            .unwrap();
        fs_err::write(at("text"), "text").unwrap();
        fs_err::write(at("bytes"), b"\xff").unwrap();
        for (path, reason) in [
            (at("pipe"), "is a named pipe, not a file"),
            ("/dev/zero".into(), "is a device, not a file"),
            (at("sparse"), "is larger than 16777216 bytes"),
            (at("absent"), "No such file or directory"),
            (at("bytes"), "is not UTF-8"),
        ] {
            let error = read_to_string(&path).unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        assert_eq!(read_to_string(&at("text")).unwrap(), "text");
        let error = read_given(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    }
}
