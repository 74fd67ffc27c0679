//! Whether mounts can spread from a source as a bind asks for (`mount_namespaces(7)`).

use crate::options::Bind;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Refuses a bind that asks for more than the mount that its source lies on gives. The words are Docker's.
pub(crate) fn check(bind: &Bind) -> Result<()> {
    let wants_shared = bind.propagation.is_shared();
    if !wants_shared && !bind.propagation.is_slave() {
        return Ok(());
    }
    let source = fs_err::canonicalize(&bind.source)?;
    let table = fs_err::read_to_string("/proc/self/mountinfo")?;
    let (mount, tags) = holder(&table, &source);
    let has = |tag: &str| tags.iter().any(|known| known.starts_with(tag));
    let (source, mount) = (bind.source.display(), mount.display());
    if wants_shared && !has("shared:") {
        bail!("path {source} is mounted on {mount} but it is not a shared mount");
    }
    if !has("shared:") && !has("master:") {
        bail!("path {source} is mounted on {mount} but it is not a shared or slave mount");
    }
    Ok(())
}

/// Returns the mount that `path` lies on and its optional fields (proc(5), `/proc/pid/mountinfo`).
fn holder<'a>(table: &'a str, path: &Path) -> (PathBuf, Vec<&'a str>) {
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let place = unescape(fields.nth(4)?);
        let tags = fields.skip(1).take_while(|field| *field != "-").collect();
        path.starts_with(&place).then_some((place, tags))
    });
    // Of several on one place the last is the one that is seen.
    mounts
        .max_by_key(|(place, _)| place.components().count())
        .unwrap_or_default()
}

/// Blanks and backslashes are written in octal.
fn unescape(text: &str) -> PathBuf {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let plain = escapes.iter().fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    });
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_on_the_deepest_and_latest_mount() {
        let table = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             30 22 0:30 / /mnt/a\\040b rw shared:7 master:3 - tmpfs tmpfs rw\n\
             31 30 0:31 / /mnt/a\\040b rw - tmpfs tmpfs rw\n";
        let on = |path: &str| {
            let (mount, tags) = holder(table, Path::new(path));
            format!("{} {}", mount.display(), tags.join(","))
        };
        assert_eq!(on("/home"), "/ shared:1");
        assert_eq!(on("/mnt/a bc"), "/ shared:1");
        assert_eq!(on("/mnt/a b/c"), "/mnt/a b ");
    }
}
