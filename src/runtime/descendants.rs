//! The end of processes that neither a PID namespace nor a cgroup holds together.

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getsid, kill_process, set_child_subreaper, waitpid,
};
use std::time::{Duration, Instant};

/// How long processes may go on starting others while they are killed.
const DEATH: Duration = Duration::from_secs(10);

/// Makes this process the parent of every orphan below it (prctl(2), `PR_SET_CHILD_SUBREAPER`).
pub(crate) fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("becoming the parent of orphans")
}

/// Reaps orphans that have ended; not `command`, for whose end somebody waits, nor helpers of this process, which are in its
/// session as no process of a container is.
pub(crate) fn reap(command: Pid) -> Result<()> {
    let own = getsid(None).context("finding the own session")?;
    for child in children()? {
        if child == command || getsid(Some(child)).is_ok_and(|session| session == own) {
            continue;
        }
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(_) | Err(Errno::CHILD | Errno::INTR) => {}
            Err(error) => return Err(error).context("reaping an orphan"),
        }
    }
    Ok(())
}

fn children() -> Result<Vec<Pid>> {
    let own = std::process::id();
    let children = fs_err::read_to_string(format!("/proc/self/task/{own}/children"))?;
    let numbers = children.split_whitespace();
    Ok(numbers
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect())
}

/// Kills all processes below this one: the children of those that die become its own.
pub(crate) fn kill() -> Result<()> {
    let deadline = Instant::now() + DEATH;
    loop {
        let children = children()?;
        if children.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "killed, but still there: processes {children:?}"
        );
        for child in children {
            // A child of ours keeps its PID until we wait for it, so this is no stranger's.
            match kill_process(child, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                // It runs a set-user-ID program, and is not ours to kill.
                Err(error) => return Err(error).with_context(|| format!("killing {child:?}")),
            }
            match waitpid(Some(child), WaitOptions::empty()) {
                Ok(_) | Err(Errno::CHILD | Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for a killed process"),
            }
        }
    }
}
