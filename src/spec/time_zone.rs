//! `--tz`: the time zone that the command's clock shows.

use anyhow::{Result, bail, ensure};
use std::path::{Component, Path, PathBuf};

/// Returns the file of the host that describes the zone `name`: the image may have none (zoneinfo(5)).
pub(crate) fn file(name: &str) -> Result<PathBuf> {
    let path = if name == "local" {
        "/etc/localtime".into()
    } else {
        let is_plain = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        ensure!(is_plain, "invalid time zone `{name}`");
        Path::new("/usr/share/zoneinfo").join(name)
    };
    match fs_err::canonicalize(&path) {
        Ok(file) if file.is_file() => Ok(file),
        _ => bail!(
            "unknown time zone `{name}`: this machine has no file `{}`",
            path.display()
        ),
    }
}
