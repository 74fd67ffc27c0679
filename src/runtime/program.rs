//! What a file is to execve(2): a script, an ELF program, or something the kernel cannot run.

use rustix::fs::{Mode, OFlags};
use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much of a file's start is looked at: the kernel reads 256 bytes; the program headers of an ELF file follow there.
const START: u64 = 4096;

/// The longest name of a loader that is believed (`PATH_MAX`).
const LOADER_LIMIT: u64 = 4096;

/// A file that is to be executed; empty if it cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) start: Vec<u8>,
    pub(crate) size: u64,
    file: Option<fs_err::File>,
}

impl Program {
    /// Reads the start of a regular file; what cannot be read only makes a message less precise.
    pub(crate) fn read(path: &CStr) -> Self {
        // A named pipe would block until someone writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else {
            return Self::default();
        };
        let file = fs_err::File::from_parts(file.into(), path_of(path));
        let Some(size) = file
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|it| it.len())
        else {
            return Self::default();
        };
        let mut start = Vec::new();
        // As above.
        (&file).take(START).read_to_end(&mut start).ok();
        Self {
            start,
            size,
            file: Some(file),
        }
    }

    /// Returns the interpreter that a script names.
    pub(crate) fn interpreter(&self) -> Option<&[u8]> {
        interpreter(&self.start)
    }

    pub(crate) fn elf(&self) -> Option<Elf> {
        Elf::parse(&self.start)
    }

    /// Returns the loader that an ELF program names (elf(5), `PT_INTERP`).
    pub(crate) fn loader(&self) -> Option<String> {
        let (offset, size) = self.elf()?.loader(&self.start)?;
        let mut name = vec![0; usize::try_from(size.min(LOADER_LIMIT)).ok()?];
        let file = self.file.as_ref()?;
        file.file().read_exact_at(&mut name, offset).ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

pub(crate) fn path_of(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// Returns the interpreter that a script names (execve(2), "Interpreter scripts").
fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    line.split(is_blank).find(|word| !word.is_empty())
}

/// The header of an ELF file (elf(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elf {
    is_wide: bool,
    is_little: bool,
    kind: u64,
    machine: u64,
    headers: u64,
    header_size: u64,
    header_count: u64,
}

impl Elf {
    /// Returns the header at the start of a file; the numbers of one that is cut off are 0.
    fn parse(start: &[u8]) -> Option<Self> {
        start.starts_with(b"\x7fELF").then_some(())?;
        let is_wide = start.get(4) == Some(&2);
        let is_little = start.get(5) != Some(&2);
        let at = |offset, size| number(start, offset, size, is_little).unwrap_or(0);
        let (headers, header_size, header_count) = if is_wide {
            (at(32, 8), at(54, 2), at(56, 2))
        } else {
            (at(28, 4), at(42, 2), at(44, 2))
        };
        Some(Self {
            is_wide,
            is_little,
            kind: at(16, 2),
            machine: at(18, 2),
            headers,
            header_size,
            header_count,
        })
    }

    /// Tells whether the file can be run at all (`ET_EXEC`, `ET_DYN`).
    pub(crate) fn is_program(self) -> bool {
        matches!(self.kind, 2 | 3)
    }

    /// Returns where its program headers end.
    pub(crate) fn headers_end(self) -> u64 {
        let size = self.header_size.saturating_mul(self.header_count);
        self.headers.saturating_add(size)
    }

    /// Names its machine as images do (`GOARCH`).
    pub(crate) fn architecture(self) -> String {
        let name = match (self.machine, self.is_wide, self.is_little) {
            (3, ..) => "386",
            (8, false, false) => "mips",
            (8, false, true) => "mipsle",
            (8, true, false) => "mips64",
            (8, true, true) => "mips64le",
            (20, ..) => "ppc",
            (21, _, false) => "ppc64",
            (21, _, true) => "ppc64le",
            (22, ..) => "s390x",
            (40, ..) => "arm",
            (62, true, _) => "amd64",
            (62, false, _) => "amd64 (x32)",
            (183, ..) => "arm64",
            (243, ..) => "riscv64",
            (258, ..) => "loong64",
            (other, ..) => return format!("machine {other}"),
        };
        name.to_owned()
    }

    /// Returns where in the file the name of its loader is, and how long.
    fn loader(self, start: &[u8]) -> Option<(u64, u64)> {
        const PT_INTERP: u64 = 3;
        (0..self.header_count).find_map(|index| {
            let header = self.headers.checked_add(index * self.header_size)?;
            let header = usize::try_from(header).ok()?;
            let at = |offset: usize, size| {
                number(start, header.checked_add(offset)?, size, self.is_little)
            };
            let (offset, size) = if self.is_wide {
                (at(8, 8)?, at(32, 8)?)
            } else {
                (at(4, 4)?, at(16, 4)?)
            };
            (at(0, 4)? == PT_INTERP).then_some((offset, size))
        })
    }
}

/// Reads a number of `size` bytes.
fn number(bytes: &[u8], offset: usize, size: usize, is_little: bool) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(if is_little {
        bytes.iter().rev().fold(0, add)
    } else {
        bytes.iter().fold(0, add)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word() {
        for (start, found) in [
            (&b"#! /bin/sh -e\nexit"[..], Some(&b"/bin/sh"[..])),
            (b"#!/bin/sh\r\n", Some(b"/bin/sh\r")),
            (b"#!\n/bin/sh", None),
            (b"\x7fELF", None),
        ] {
            assert_eq!(interpreter(start), found);
        }
    }

    /// An ELF header and one program header that names a loader, of a wide or narrow, little- or big-endian machine.
    fn elf(is_wide: bool, is_little: bool, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[..6].copy_from_slice(b"\x7fELF\x01\x02");
        (bytes[4], bytes[5]) = (1 + u8::from(is_wide), 2 - u8::from(is_little));
        let mut put = |offset: usize, size: usize, number: u64| {
            let big = number.to_be_bytes();
            let big = &big[8 - size..];
            let field = &mut bytes[offset..offset + size];
            field.copy_from_slice(big);
            if is_little {
                field.reverse();
            }
        };
        let mut fields = vec![(16, 2, 2), (18, 2, machine.into())];
        if is_wide {
            fields.extend([(32, 8, 64), (54, 2, 56), (56, 2, 1)]);
            fields.extend([(64, 4, 3), (72, 8, 200), (96, 8, 4)]);
        } else {
            fields.extend([(28, 4, 52), (42, 2, 32), (44, 2, 1)]);
            fields.extend([(52, 4, 3), (56, 4, 200), (68, 4, 4)]);
        }
        for (at, size, to) in fields {
            put(at, size, to);
        }
        bytes
    }

    #[test]
    fn programs_of_every_machine_are_understood() {
        for (is_wide, is_little, machine, name) in [
            (true, true, 183, "arm64"),
            (true, true, 62, "amd64"),
            (false, true, 40, "arm"),
            (true, false, 22, "s390x"),
            (true, true, 21, "ppc64le"),
            (false, false, 8, "mips"),
            (false, true, 9999, "machine 9999"),
        ] {
            let bytes = elf(is_wide, is_little, machine);
            let elf = Elf::parse(&bytes).unwrap();
            assert_eq!(elf.architecture(), name);
            assert!(elf.is_program());
            assert_eq!(elf.loader(&bytes), Some((200, 4)), "{name}");
            assert_eq!(elf.headers_end(), if is_wide { 120 } else { 84 });
        }
        assert_eq!(Elf::parse(b"#!/bin/sh"), None);
    }

    #[test]
    fn a_header_that_is_cut_off_or_lies_is_no_panic() {
        let whole = elf(true, true, 62);
        for length in 4..whole.len() {
            let elf = Elf::parse(&whole[..length]).unwrap();
            elf.loader(&whole[..length]);
        }
        let mut lies = whole;
        lies[32..64].fill(0xff);
        let elf = Elf::parse(&lies).unwrap();
        assert_eq!((elf.loader(&lies), elf.headers_end()), (None, u64::MAX));
    }
}
