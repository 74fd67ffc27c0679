//! Whether processes can be found in `/proc`: they are there by the numbers of the PID namespace that it was mounted in.

use anyhow::{Result, ensure};

/// Refuses a `/proc` that shows another PID namespace than this process is in: a number would mean somebody else there.
pub(crate) fn are_shown() -> Result<()> {
    let shown = rustix::fs::readlink("/proc/self", Vec::new());
    let own = std::process::id().to_string();
    ensure!(
        shown.is_ok_and(|shown| shown.as_bytes() == own.as_bytes()),
        "`/proc` does not show the PID namespace that ddock is in, in which it would look for processes: mount one that does (`unshare --pid --fork --mount-proc`)"
    );
    Ok(())
}
