//! Room: what stays free on the file system, whatever a layer unpacks to.

use crate::human;
use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use std::path::Path;

/// The usual reserve is this part of the file system, and no more than [`ENOUGH`]: what else runs on the machine must be able
/// to go on, and images to be removed.
const PART: u64 = 50;

/// Bytes.
const ENOUGH: u64 = 1 << 30;

/// Refuses to go on when no more than the reserve is free.
pub(crate) fn check(directory: &Path, reserve: Option<u64>) -> Result<()> {
    let facts = rustix::fs::statvfs(directory).context("asking for free space")?;
    if facts.f_blocks == 0 {
        // It does not say.
        return Ok(());
    }
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    let reserve = reserve.unwrap_or(ENOUGH.min(bytes(facts.f_blocks) / PART));
    let free = bytes(facts.f_bavail);
    if free >= reserve {
        return Ok(());
    }
    let size = |bytes| human::size(bytes, 3);
    Err(anyhow!(Errno::NOSPC)).with_context(|| {
        format!(
            "{} are left on the file system of the store, and {} are to stay free (`DDOCK_LAYER_RESERVE`)",
            size(free),
            size(reserve)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::Limits;

    #[test]
    fn a_layer_may_unpack_to_so_many_times_its_size() {
        let most = |size, tar_size, ratio| {
            let limits = Limits {
                tar_size,
                ratio,
                ..Limits::default()
            };
            limits.of_compressed(size).tar_size.unwrap()
        };
        let usual = Limits::default().ratio;
        assert_eq!(most(1, None, usual), 1 << 30);
        assert_eq!(most(20 << 20, None, usual), 2000 << 20);
        assert_eq!(most(20 << 20, Some(7), usual), 7);
        assert_eq!(most(20 << 20, Some(u64::MAX), 1100), 22_000 << 20);
        assert_eq!(most(u64::MAX, None, u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_reserved_is_left() {
        let directory = tempfile::tempdir().unwrap();
        check(directory.path(), Some(0)).unwrap();
        let error = format!("{:#}", check(directory.path(), Some(u64::MAX)).unwrap_err());
        assert!(
            error.contains("are to stay free (`DDOCK_LAYER_RESERVE`): No space left"),
            "{error}"
        );
    }
}
