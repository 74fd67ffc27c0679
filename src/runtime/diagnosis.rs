//! Why a command could not be executed: what the kernel's one error number means for this very file.

use crate::platform::Platform;
use crate::runtime::failure::StartError;
use crate::runtime::program::{Program, path_of};
use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
use std::ffi::{CStr, CString};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// How many scripts may name each other as interpreters (linux/binfmts.h, `bprm->recursion_depth`).
const INTERPRETERS: usize = 5;

/// The longest argument or variable, its NUL included (execve(2), `MAX_ARG_STRLEN`: 32 pages of 4 KiB).
const LONGEST_TEXT: usize = 32 * 4096;

/// What execve(2) was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// As the user called it.
    pub(crate) name: &'a CStr,
    pub(crate) path: &'a CStr,
    pub(crate) arguments: &'a [CString],
    pub(crate) environment: &'a [CString],
}

impl Attempt<'_> {
    /// Says what `error` means, and whether it counts as "not found" or as "not executable".
    pub(crate) fn explain(self, error: &std::io::Error) -> StartError {
        let said = |why: String| format!("exec: {:?}: {why}", self.name.to_string_lossy());
        let why = match Errno::from_io_error(error) {
            Some(Errno::NOENT) => return StartError::CommandNotFound(said(missing(self.path))),
            Some(Errno::NOTDIR) => "not a directory".to_owned(),
            Some(Errno::ACCESS) => denied(self.path),
            Some(Errno::NOEXEC) => format!("exec format error: {}", unknown(self.path)),
            Some(Errno::LOOP) => looped(self.path),
            Some(Errno::TOOBIG) => too_big(self.arguments, self.environment),
            Some(Errno::TXTBSY) => "text file busy: somebody has it open for writing".to_owned(),
            Some(Errno::PERM) => forbidden(self.path),
            Some(Errno::LIBBAD | Errno::IO | Errno::INVAL) => damaged(self.path, error),
            _ => error.to_string(),
        };
        StartError::CommandNotExecutable(said(why))
    }
}

/// A file on the way from a script to what is run in the end.
struct Step {
    path: CString,
    program: Program,
}

impl Step {
    /// Says in a message which file is meant: nothing if it is the command itself.
    fn named(&self, command: &CStr) -> String {
        if *self.path == *command {
            return String::new();
        }
        format!("its interpreter `{}`: ", self.path.to_string_lossy())
    }
}

/// Returns the command, the interpreter it names, that one's interpreter …, the first that is not there included.
fn steps(path: &CStr) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next.take_if(|_| steps.len() <= INTERPRETERS) {
        let program = Program::read(&path);
        next = program.interpreter().and_then(|it| CString::new(it).ok());
        steps.push(Step { path, program });
    }
    steps
}

fn last_step(path: &CStr) -> Step {
    let mut steps = steps(path);
    steps.pop().expect("the command itself is one")
}

/// The kernel says "no such file" of an interpreter too; a file that is there lacks that.
fn missing(path: &CStr) -> String {
    let Some(last) = steps(path)
        .into_iter()
        .find(|step| !path_of(&step.path).exists())
    else {
        let last = last_step(path);
        let loader = last.program.loader();
        let loader = loader.map_or_else(String::new, |loader| format!(" `{loader}`"));
        return format!(
            "{}its loader{loader} (ELF interpreter) is missing in the image",
            last.named(path)
        );
    };
    let missing = last.path.to_string_lossy();
    if *last.path == *path {
        return format!("stat {missing}: no such file or directory");
    }
    match missing.strip_suffix('\r') {
        Some(interpreter) => format!(
            "its interpreter `{interpreter}\\r` is missing: the script has Windows line ends (CRLF)"
        ),
        None => format!("its interpreter `{missing}` is missing in the image"),
    }
}

/// Says who or what keeps `path`, or an interpreter of it, from being executed.
fn denied(path: &CStr) -> String {
    let found = steps(path).into_iter().find_map(|step| {
        let why = denies(path_of(&step.path))?;
        Some(format!("{}{why}", step.named(path)))
    });
    match found {
        Some(why) if why.ends_with("is a directory") => why,
        Some(why) => format!("permission denied: {why}"),
        None => "permission denied".to_owned(),
    }
}

fn denies(path: &Path) -> Option<String> {
    let user = geteuid();
    let may_execute = |path: &Path| accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS);
    let above = path
        .ancestors()
        .skip(1)
        .filter(|it| !it.as_os_str().is_empty());
    if let Some(closed) = above
        .filter(|it| may_execute(it) == Err(Errno::ACCESS))
        .last()
    {
        return Some(format!("user {user} may not enter `{}`", closed.display()));
    }
    let file = path.metadata().ok()?;
    let (kind, mode) = (file.file_type(), file.mode() & 0o7777);
    if kind.is_dir() {
        return Some("is a directory".to_owned());
    }
    if !kind.is_file() {
        let what = if kind.is_fifo() || kind.is_socket() {
            "a pipe or socket"
        } else {
            "a device"
        };
        return Some(format!("it is {what}, not a program"));
    }
    if mode & 0o111 == 0 {
        return Some(format!(
            "nobody may execute it (mode {mode:04o}; `chmod +x` makes it a program)"
        ));
    }
    if statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Some("it is on a mount with the option `noexec`".to_owned());
    }
    may_execute(path).err().map(|_| {
        let (owner, group) = (file.uid(), file.gid());
        format!("user {user} may not execute it (mode {mode:04o}, owner {owner}:{group})")
    })
}

/// Says what a file is that the kernel cannot run.
fn unknown(path: &CStr) -> String {
    let last = last_step(path);
    format!("{}{}", last.named(path), format_of(&last.program))
}

fn format_of(program: &Program) -> String {
    let (start, size) = (&program.start, program.size);
    if let Some(elf) = program.elf() {
        let (found, own) = (elf.architecture(), Platform::host().architecture);
        return if size < 52 || elf.headers_end() > size {
            format!("it is an ELF file that was cut off after {size} bytes")
        } else if !elf.is_program() {
            "it is an ELF object file, not a program".to_owned()
        } else if found == own {
            "it is a damaged ELF file".to_owned()
        } else {
            format!("file is linux/{found}, host is linux/{own}")
        };
    }
    let known: [(&[u8], &str); 7] = [
        (
            b"\xef\xbb\xbf#!",
            "it begins with a byte order mark (BOM), before its `#!` line: save it as UTF-8 without one",
        ),
        (b"\xff\xfe", "it is UTF-16 text: save it as UTF-8"),
        (b"\xfe\xff", "it is UTF-16 text: save it as UTF-8"),
        (b"MZ", "it is a Windows program"),
        (b"\xcf\xfa\xed\xfe", "it is a macOS program"),
        (b"\xca\xfe\xba\xbe", "it is a macOS program or a Java class"),
        (b"#!", "its `#!` line names no interpreter"),
    ];
    let known = known.iter().find(|(prefix, _)| start.starts_with(prefix));
    match known {
        Some((_, what)) => (*what).to_owned(),
        None if size == 0 => "it is empty".to_owned(),
        None if start.is_empty() => "it cannot be read to say more".to_owned(),
        None => "it is no program, and has no `#!` line that names an interpreter".to_owned(),
    }
}

/// Too many symlinks, or scripts that have each other as interpreters.
fn looped(path: &CStr) -> String {
    if path_of(path).metadata().is_err() {
        return "too many levels of symbolic links".to_owned();
    }
    format!("more than {INTERPRETERS} scripts are each other's interpreters")
}

/// Says which text is too long, or how much all of them are.
fn too_big(arguments: &[CString], environment: &[CString]) -> String {
    let size = |texts: &[CString]| -> usize { texts.iter().map(|it| it.count_bytes() + 1).sum() };
    let is_long = |text: &&CString| text.count_bytes() >= LONGEST_TEXT;
    if let Some(at) = arguments.iter().position(|it| is_long(&it)) {
        let length = arguments[at].count_bytes();
        return format!(
            "argument list too long: argument {at} has {length} bytes, the kernel takes {LONGEST_TEXT} at most"
        );
    }
    if let Some(variable) = environment.iter().find(is_long) {
        let length = variable.count_bytes();
        let name = variable.to_string_lossy();
        let name = name.split('=').next().unwrap_or_default();
        return format!(
            "argument list too long: the environment variable `{name}` has {length} bytes, the kernel takes {LONGEST_TEXT} at most"
        );
    }
    // execve(2), "Limits on size of arguments and environment".
    let limit = getrlimit(Resource::Stack)
        .current
        .map_or_else(String::new, |stack| {
            format!(
                ", the kernel takes {} at most",
                (stack / 4).clamp(128 << 10, 6 << 20)
            )
        });
    format!(
        "argument list too long: the arguments have {} bytes and the environment {}{limit}",
        size(arguments),
        size(environment)
    )
}

/// A file that brings capabilities with it can be run only where it may have them all (capabilities(7), "Safety checking").
fn forbidden(path: &CStr) -> String {
    let mut value = [0; 24];
    let path = last_step(path).path;
    let length = rustix::fs::getxattr(&path, "security.capability", &mut value).unwrap_or(0);
    // linux/capability.h, `struct vfs_cap_data`: the low halves at 4 and 8, the high ones at 12 and 16.
    let half = |at: usize| {
        let bytes = value.get(at..at + 4).filter(|_| at + 4 <= length);
        bytes.map_or(0, |it| {
            u64::from(u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
        })
    };
    let brought = CapabilitySet::from_bits_retain(half(4) | half(12) << 32);
    let lacking = brought
        .iter_names()
        .filter(|(_, one)| !capability_is_in_bounding_set(*one).unwrap_or(true))
        .map(|(name, _)| name)
        .collect::<Vec<_>>();
    if lacking.is_empty() {
        return "operation not permitted".to_owned();
    }
    let lacking = lacking.join(", ");
    format!(
        "operation not permitted: the file has capabilities that the container may not have: {lacking} (`--cap-add` gives them)"
    )
}

fn damaged(path: &CStr, error: &std::io::Error) -> String {
    let last = last_step(path);
    match last.program.loader() {
        Some(loader) => format!(
            "{}it, or its loader `{loader}`, is a damaged ELF file: {error}",
            last.named(path)
        ),
        None => format!("{}{}", last.named(path), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(start: &[u8]) -> Program {
        let mut program = Program::default();
        start.clone_into(&mut program.start);
        program.size = start.len() as u64;
        program
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        for (start, said) in [
            (&b""[..], "it is empty"),
            (b"echo hello\n", "no `#!` line"),
            (b"#!\n", "names no interpreter"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
            (b"\xff\xfe#\0!\0", "UTF-16"),
            (b"MZ\x90\0", "Windows"),
            (b"\x7fELF\x02\x01\x01\0", "cut off after 8 bytes"),
        ] {
            let found = format_of(&program(start));
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn what_is_too_long_is_named() {
        let long =
            |prefix: &str| CString::new(format!("{prefix}{}", "x".repeat(LONGEST_TEXT))).unwrap();
        let short = c"x".to_owned();
        for (arguments, environment, said) in [
            (
                vec![short.clone(), long("")],
                vec![],
                "argument 1 has 131072 bytes",
            ),
            (
                vec![short.clone()],
                vec![long("BIG=")],
                "variable `BIG` has 131076 bytes",
            ),
            (
                vec![short.clone(); 5],
                vec![short; 7],
                "arguments have 10 bytes and the environment 14",
            ),
        ] {
            let found = too_big(&arguments, &environment);
            assert!(found.contains(said), "{found}");
        }
    }
}
