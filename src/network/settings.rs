//! What the host may not learn from containers: routes and neighbours that one of them tells it of.
//!
//! Set on each bridge and on each port before it is up, and nowhere else: what the host believes of its other links, and
//! of links that come later (`all`, `default`), is not ours to say.

use anyhow::{Context, Result};
use std::io::{ErrorKind, Write as _};

/// Advertisements of routers, by which everybody on the link could have the host send its traffic there (CVE-2020-13401),
/// and redirects. For IPv4 the request that brings a link up says the same (`link::distrust`).
const BELIEFS: [&str; 2] = ["accept_ra", "accept_redirects"];

/// Has the host, in this network namespace, believe nothing that arrives by a link, which is not up yet.
pub(super) fn distrust(link: &str) -> Result<()> {
    for belief in BELIEFS {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/{belief}");
        match write(&path, "0") {
            // No IPv6, or none on a link of such small packets: then nothing arrives by it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            written => written.context("keeping routers in containers from the host")?,
        }
    }
    Ok(())
}

/// Does without IPv6 on all links of this network namespace that come later: on those of an ordinary user's switch the
/// kernel has nothing to say.
pub(super) fn keep_silent() -> Result<()> {
    match write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        // Where nothing may be set, nothing that is learnt leads anywhere either: a switch has no way out.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        written => Ok(written?),
    }
}

/// Sets what is there: a file that is not cannot be made, and trying to would say so instead.
pub(super) fn write(path: &str, value: &str) -> std::io::Result<()> {
    let mut file = fs_err::OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}
