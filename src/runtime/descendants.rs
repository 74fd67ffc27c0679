//! The end of processes that neither a PID namespace nor a cgroup holds together.

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};
use std::time::{Duration, Instant};

/// How long processes may go on starting others while they are killed.
const DEATH: Duration = Duration::from_secs(10);

/// Makes this process the parent of every orphan below it (prctl(2), `PR_SET_CHILD_SUBREAPER`).
pub(crate) fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("becoming the parent of orphans")
}

/// Kills all processes below this one: the children of those that die become its own.
pub(crate) fn kill() -> Result<()> {
    let own = std::process::id();
    let deadline = Instant::now() + DEATH;
    loop {
        let children = fs_err::read_to_string(format!("/proc/self/task/{own}/children"))?;
        let children: Vec<Pid> = children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect();
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
