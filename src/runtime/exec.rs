//! Finding the command inside the container, and becoming it.

use crate::runtime::failure::StartError;
use crate::sys::kernel;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use std::ffi::{CStr, CString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Replaces this process by the command; returns only if that failed, with the reason.
///
/// A name without a slash is looked for in the `PATH` of `environment`, as execvp(3) does.
pub(crate) fn become_command(arguments: &[CString], environment: &[CString]) -> StartError {
    let name = &arguments[0];
    let own = identity(Path::new("/proc/self/exe"));
    if name.as_bytes().contains(&b'/') || name.is_empty() {
        if leads_here(name, own) {
            return own_program(name);
        }
        let error = kernel::execute(name, arguments, environment);
        return diagnose(name, name, &error);
    }
    let mut denied = None;
    for directory in search_path(environment).split(|byte| *byte == b':') {
        let directory = if directory.is_empty() {
            b".".as_slice()
        } else {
            directory
        };
        let candidate = [directory, b"/", name.as_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        if is_missing(&candidate) {
            continue;
        }
        if leads_here(&candidate, own) {
            return own_program(name);
        }
        let error = kernel::execute(&candidate, arguments, environment);
        match error.kind() {
            // Another directory may hold one that can be run.
            ErrorKind::PermissionDenied => {
                denied.get_or_insert((candidate, error));
            }
            _ => return diagnose(name, &candidate, &error),
        }
    }
    match denied {
        Some((candidate, error)) => diagnose(name, &candidate, &error),
        None => StartError::CommandNotFound(format!(
            "exec: {:?}: executable file not found in $PATH",
            name.to_string_lossy()
        )),
    }
}

/// How many scripts may name each other as interpreters (linux/binfmts.h, `bprm->recursion_depth`).
const INTERPRETERS: usize = 5;

/// Tells whether `path`, or an interpreter on the way from it, is the program of this very process.
///
/// This process is ddock until the exec, and `/proc/self/exe` leads to the host's file of it: an image that gets it
/// to run as its command could be handed a way to write it (CVE-2019-5736). Nothing else runs in the new PID
/// namespace yet, so nobody is there to change the image's files after this look.
fn leads_here(path: &CStr, own: Option<(u64, u64)>) -> bool {
    let mut program = path.to_owned();
    for _ in 0..INTERPRETERS {
        if own.is_some() && identity(path_of(&program)) == own {
            return true;
        }
        let start = read_start(&program);
        let Some(Ok(next)) = interpreter(&start).map(CString::new) else {
            return false;
        };
        program = next;
    }
    false
}

/// Returns a file's device and inode, if it can be looked at.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|file| (file.dev(), file.ino()))
}

fn own_program(name: &CStr) -> StartError {
    StartError::CommandNotExecutable(format!(
        "exec: {:?}: it leads to ddock's own program, which is not the container's to run",
        name.to_string_lossy()
    ))
}

/// Returns the interpreter that a script names (execve(2), "Interpreter scripts").
fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    line.split(is_blank).find(|word| !word.is_empty())
}

fn search_path(environment: &[CString]) -> &[u8] {
    environment
        .iter()
        .rev()
        .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or_default()
}

fn path_of(name: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Tells whether nothing is there to be run; what may not be looked at may still say why.
fn is_missing(name: &CStr) -> bool {
    let missing =
        |error: io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    path_of(name).metadata().is_err_and(missing)
}

/// A symlink that leads nowhere is as good as nothing.
fn exists(name: &CStr) -> bool {
    path_of(name).exists()
}

/// Says what `error` means for `path`, which the user called `name`.
fn diagnose(name: &CStr, path: &CStr, error: &io::Error) -> StartError {
    let said = |what: &str| format!("exec: {:?}: {what}", name.to_string_lossy());
    match error.kind() {
        ErrorKind::NotFound if exists(path) => {
            StartError::CommandNotFound(said(&missing_interpreter(path)))
        }
        ErrorKind::NotFound => StartError::CommandNotFound(said(&format!(
            "stat {}: no such file or directory",
            path.to_string_lossy()
        ))),
        ErrorKind::NotADirectory => StartError::CommandNotExecutable(said("not a directory")),
        ErrorKind::PermissionDenied if path_of(path).is_dir() => {
            StartError::CommandNotExecutable(said("is a directory"))
        }
        ErrorKind::PermissionDenied => StartError::CommandNotExecutable(said("permission denied")),
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => StartError::CommandNotExecutable(said(
            &format!("exec format error: {}", unknown_format(path)),
        )),
        _ => StartError::CommandNotExecutable(said(&error.to_string())),
    }
}

/// The kernel says "no such file" of the interpreter too; a file that is there lacks that.
fn missing_interpreter(path: &CStr) -> String {
    let start = read_start(path);
    let Some(interpreter) = interpreter(&start) else {
        return "its loader (ELF interpreter) is missing in the image".to_owned();
    };
    let interpreter = String::from_utf8_lossy(interpreter);
    match interpreter.strip_suffix('\r') {
        Some(interpreter) => format!(
            "its interpreter `{interpreter}\\r` is missing: the script has Windows line ends (CRLF)"
        ),
        None => format!("its interpreter `{interpreter}` is missing in the image"),
    }
}

/// Says what a file is that the kernel cannot run.
fn unknown_format(path: &CStr) -> String {
    let start = read_start(path);
    match elf_machine(&start) {
        Some(machine) => format!(
            "it is an ELF file for {machine}, this machine is {}",
            std::env::consts::ARCH
        ),
        None => "it is no program, and has no `#!` line".to_owned(),
    }
}

/// Names the machine of an ELF header (elf(5), `e_machine`).
fn elf_machine(start: &[u8]) -> Option<String> {
    let machine = start.starts_with(b"\x7fELF").then(|| start.get(18..20))??;
    let little = start.get(5) == Some(&1);
    let bytes = [machine[0], machine[1]];
    let number = if little {
        u16::from_le_bytes(bytes)
    } else {
        u16::from_be_bytes(bytes)
    };
    Some(match number {
        3 => "386".to_owned(),
        20 | 21 => "ppc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("machine {other}"),
    })
}

/// Returns the first bytes of a regular file, as many as the kernel looks at; nothing if they cannot be read.
fn read_start(path: &CStr) -> Vec<u8> {
    let mut start = vec![0; 256];
    // A named pipe would block until someone writes to it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let read =
        rustix::fs::open(path, flags, Mode::empty()).and_then(
            |file| match FileType::from_raw_mode(fstat(&file)?.st_mode) {
                FileType::RegularFile => rustix::io::read(&file, &mut start),
                _ => Ok(0),
            },
        );
    // A file that cannot be read only makes a message less precise.
    start.truncate(read.unwrap_or(0));
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_path_counts() {
        let environment = [
            c"PATH=/a".to_owned(),
            c"X=PATH=/c".to_owned(),
            c"PATH=/b".to_owned(),
        ];
        assert_eq!(search_path(&environment), b"/b");
        assert_eq!(search_path(&[]), b"");
    }

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

    #[test]
    fn foreign_programs_are_named() {
        let mut header = [0; 20];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = 183;
        assert_eq!(elf_machine(&header).as_deref(), Some("aarch64"));
        assert_eq!(elf_machine(b"#!/bin/sh"), None);
    }
}
