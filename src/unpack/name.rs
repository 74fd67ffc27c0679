//! Entry names: what path in the layer they mean, and which of them are whiteouts.

use crate::human;
use anyhow::{Result, ensure};

/// Longest path that the kernel takes (`PATH_MAX`), and longest component (`NAME_MAX`).
const MAX_PATH: usize = 4096;
const MAX_COMPONENT: usize = 255;

/// What marks a whiteout (image-spec layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// What an AUFS of long ago kept in the tree for itself; `.wh..wh..opq` alone still has a meaning.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name asks for. Paths are relative to the layer's root, clean, and empty for the root itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The entry itself is to stand there.
    Path(Vec<u8>),
    /// What lower layers have there is hidden.
    Whiteout(Vec<u8>),
    /// What lower layers have in that directory is hidden.
    Opaque(Vec<u8>),
    /// Nothing: AUFS's own book-keeping.
    Aufs,
}

/// Tells what an entry's name asks for.
pub(crate) fn target(name: &[u8]) -> Result<Target> {
    let path = clean(name)?;
    let (parent, base) = split(&path);
    if components(&path).any(|component| component.starts_with(AUFS) && component != OPAQUE) {
        return Ok(Target::Aufs);
    }
    ensure!(
        !components(parent).any(|component| component.starts_with(WHITEOUT)),
        "its name has a whiteout for a directory"
    );
    if base == OPAQUE {
        return Ok(Target::Opaque(parent.to_vec()));
    }
    let Some(hidden) = base.strip_prefix(WHITEOUT) else {
        return Ok(Target::Path(path));
    };
    ensure!(
        !matches!(hidden, b"" | b"." | b".."),
        "it is a whiteout of no name"
    );
    Ok(Target::Whiteout(join(parent, hidden)))
}

/// Returns the path a name means: rooted in the layer, without empty components, `.` and `..`.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>> {
    ensure!(!name.is_empty(), "its name is empty");
    ensure!(
        name.len() <= MAX_PATH,
        "its name is longer than {MAX_PATH} bytes"
    );
    let mut path = Vec::with_capacity(name.len());
    for component in components(name) {
        ensure!(
            component.len() <= MAX_COMPONENT,
            "its name has a component longer than {MAX_COMPONENT} bytes"
        );
        match component {
            b"." => {}
            b".." => {
                ensure!(!path.is_empty(), "its name leaves the layer");
                path.truncate(split(&path).0.len());
            }
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Ok(path)
}

/// Returns what is between the slashes, empty parts left out.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|component| !component.is_empty())
}

/// Splits a clean path into its parent, which may be the root, and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Returns the clean path of `name` in `parent`.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        name.to_vec()
    } else {
        [parent, b"/", name].concat()
    }
}

/// Returns an untrusted name for an error message: one line, of bounded length.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    let more = if name.len() > LONGEST { "…" } else { "" };
    human::printable(&text) + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rooted_and_cleaned() {
        for (name, path) in [
            (&b"a"[..], &b"a"[..]),
            (b"./a/b", b"a/b"),
            (b"/a//b/", b"a/b"),
            (b"a/../b", b"b"),
            (b"a/b/../../c", b"c"),
            (b"./", b""),
            (b"/", b""),
            (b"a/..", b""),
            (b"...", b"..."),
            (b"a\xff\n", b"a\xff\n"),
        ] {
            assert_eq!(clean(name).unwrap(), path, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_that_leave_the_layer_are_refused() {
        for bad in [
            &b""[..],
            b"..",
            b"../a",
            b"/..",
            b"/../a",
            b"a/../../b",
            b"./../a",
            &[b'a'; 256],
            &b"a/".repeat(2049),
        ] {
            assert!(clean(bad).is_err(), "{}", shown(bad));
        }
    }

    #[test]
    fn whiteouts_are_known_by_their_last_component() {
        let path = |path: &str| path.as_bytes().to_vec();
        for (name, expected) in [
            ("a/b", Target::Path(path("a/b"))),
            (".wh.a", Target::Whiteout(path("a"))),
            ("d/.wh.a", Target::Whiteout(path("d/a"))),
            ("d/.wh..a", Target::Whiteout(path("d/.a"))),
            ("d/.wh..wh", Target::Whiteout(path("d/.wh"))),
            (".wh..wh..opq", Target::Opaque(path(""))),
            ("d/.wh..wh..opq", Target::Opaque(path("d"))),
            (".wh..wh.plnk", Target::Aufs),
            (".wh..wh.plnk/1.2", Target::Aufs),
            ("d/.wh..wh.aufs", Target::Aufs),
            ("d/x.wh.a", Target::Path(path("d/x.wh.a"))),
        ] {
            assert_eq!(target(name.as_bytes()).unwrap(), expected, "{name}");
        }
        for bad in [
            ".wh.",
            ".wh..",
            ".wh...",
            "d/.wh...",
            ".wh.d/f",
            "d/.wh..wh..opq/f",
        ] {
            assert!(target(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
