//! Finding the command inside the container, and becoming it.

use crate::runtime::diagnosis::{Attempt, INTERPRETERS};
use crate::runtime::failure::StartError;
use crate::runtime::program::{Program, path_of};
use crate::sys::kernel;
use std::ffi::{CStr, CString};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Replaces this process by the command; returns only if that failed, with the reason.
///
/// A name without a slash is looked for in the `PATH` of `environment`, as execvp(3) does.
pub(crate) fn become_command(arguments: &[CString], environment: &[CString]) -> StartError {
    let name = &arguments[0];
    let own = identity(Path::new("/proc/self/exe"));
    let attempt = |path| Attempt {
        name,
        path,
        arguments,
        environment,
    };
    if name.as_bytes().contains(&b'/') || name.is_empty() {
        if leads_here(name, own) {
            return own_program(name);
        }
        let error = kernel::execute(name, arguments, environment);
        return attempt(name).explain(&error);
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
            _ => return attempt(&candidate).explain(&error),
        }
    }
    match denied {
        Some((candidate, error)) => attempt(&candidate).explain(&error),
        None => StartError::CommandNotFound(format!(
            "exec: {:?}: executable file not found in $PATH",
            name.to_string_lossy()
        )),
    }
}

/// Tells whether `path`, or an interpreter on the way from it, is the program of this very process.
///
/// This process is ddock until the exec, and `/proc/self/exe` leads to the host's file of it: an image that gets it
/// to run as its command could be handed a way to write it (CVE-2019-5736). In a new PID namespace nothing else runs
/// yet, so nobody is there to change the image's files after this look.
fn leads_here(path: &CStr, own: Option<(u64, u64)>) -> bool {
    let mut program = path.to_owned();
    for _ in 0..INTERPRETERS {
        if own.is_some() && identity(path_of(&program)) == own {
            return true;
        }
        let file = Program::read(&program);
        let Some(Ok(next)) = file.interpreter().map(CString::new) else {
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

fn search_path(environment: &[CString]) -> &[u8] {
    environment
        .iter()
        .rev()
        .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or_default()
}

/// Tells whether nothing is there to be run; what may not be looked at may still say why.
fn is_missing(name: &CStr) -> bool {
    let missing =
        |error: io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    path_of(name).metadata().is_err_and(missing)
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
}
