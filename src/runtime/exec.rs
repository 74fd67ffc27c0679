//! Finding the command inside the container, and becoming it.

use crate::runtime::diagnosis::Attempt;
use crate::runtime::failure::StartError;
use crate::runtime::program::path_of;
use crate::sys::kernel;
use crate::sys::program::Protected;
use std::ffi::{CStr, CString};
use std::io::{self, ErrorKind};

/// Replaces this process by the command; returns only if that failed, with the reason.
///
/// A name without a slash is looked for in the `PATH` of `environment`, as execvp(3) does. The command may be anything, this
/// process's own program too: that no container can write it is seen to before (`sys::program::Protected`).
pub(crate) fn become_command(
    arguments: &[CString],
    environment: &[CString],
    _program: Protected,
) -> StartError {
    let name = &arguments[0];
    let attempt = |path| Attempt {
        name,
        path,
        arguments,
        environment,
    };
    if name.as_bytes().contains(&b'/') || name.is_empty() {
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
