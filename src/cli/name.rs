//! What this program was called by: `ddock`, or `docker` by a link of that name. Its texts say the same.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

static IS_DOCKER: OnceLock<bool> = OnceLock::new();

/// Remembers the first word of the command line.
pub(super) fn remember(word: Option<&OsStr>) {
    let name = word.and_then(|word| Path::new(word).file_name());
    // Only the first counts.
    IS_DOCKER
        .set(name.is_some_and(|name| name == "docker"))
        .ok();
}

pub(super) fn is_docker() -> bool {
    IS_DOCKER.get().copied().unwrap_or(false)
}

/// Returns a text of ours with the name that the program was called by: where the name begins a line or a command, and
/// nowhere else, as in a path.
pub(super) fn called(text: &str) -> Cow<'_, str> {
    if is_docker() {
        Cow::Owned(renamed(text))
    } else {
        Cow::Borrowed(text)
    }
}

fn renamed(text: &str) -> String {
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("ddock") {
        let (before, after) = (&rest[..at], &rest[at + "ddock".len()..]);
        renamed.push_str(before);
        let is_first = renamed.ends_with([' ', '\n', '`', '\'']) || renamed.is_empty();
        let is_word = is_first && after.starts_with([' ', ':']);
        renamed.push_str(if is_word { "docker" } else { "ddock" });
        rest = after;
    }
    renamed + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_name_and_paths_do_not() {
        for (text, expected) in [
            (
                "ddock: no `ddock run` here\n",
                "docker: no `docker run` here\n",
            ),
            ("\nRun 'ddock ps --help'", "\nRun 'docker ps --help'"),
            (
                "Usage: ddock ps\n  ddock ps, ddock container ls",
                "Usage: docker ps\n  docker ps, docker container ls",
            ),
            ("/var/lib/ddock as root", "/var/lib/ddock as root"),
            ("`ddock`", "`ddock`"),
        ] {
            assert_eq!(renamed(text), expected);
        }
    }
}
