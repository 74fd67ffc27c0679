//! The end of a cgroup: everything in it is killed, its directories are removed.

use super::setting::overwrite;
use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes may take to die. The kernel frees their memory first: 10 GB take about a second.
pub(crate) const DEATH: Duration = Duration::from_secs(10);

/// How long a cgroup without processes may stay busy: the kernel takes them off it a moment after their parent was told.
pub(crate) const REMOVAL: Duration = Duration::from_secs(2);

/// How many processes are waited for at once, to stay far below the usual limit of 1024 descriptors.
const BATCH: usize = 256;

/// Kills what is in `directory` and below, the cgroup `path`, and returns when nothing is left: an error after `patience`.
///
/// Where the kernel has no `cgroup.kill` (v1; v2 before 5.14) forking is stopped first, so that one or two rounds find all.
pub(super) fn kill(directory: &Path, path: &Path, patience: Duration) -> Result<()> {
    if !write_if_there(&directory.join("cgroup.kill"), "1")? {
        write_if_there(&directory.join("pids.max"), "0")?;
    }
    let deadline = Instant::now() + patience;
    let mut was_killed = false;
    loop {
        let mut pids = Vec::new();
        processes(directory, &mut pids)?;
        if pids.is_empty() {
            return Ok(());
        }
        ensure!(
            !was_killed || Instant::now() < deadline,
            "killed, but still there: processes {pids:?}"
        );
        was_killed = true;
        for batch in pids.chunks(BATCH) {
            kill_batch(batch, path, deadline)?;
        }
    }
}

/// Writes to a control file; returns false if the kernel has no such file.
fn write_if_there(path: &Path, value: &str) -> io::Result<bool> {
    match overwrite(path, value) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

/// Adds the processes in `directory` and below to `pids`. None are in a directory that is gone.
fn processes(directory: &Path, pids: &mut Vec<i32>) -> Result<()> {
    let text = match fs_err::read_to_string(directory.join("cgroup.procs")) {
        // ENOENT, or ENODEV if it went between open and read.
        Err(_) if !directory.exists() => return Ok(()),
        text => text?,
    };
    for line in text.lines() {
        pids.push(
            line.parse()
                .with_context(|| format!("reading a PID from `{line}`"))?,
        );
    }
    for child in children(directory)? {
        processes(&child, pids)?;
    }
    Ok(())
}

fn children(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut children = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

/// Kills `pids` as far as they are still in the cgroup, and waits until they are dead or the deadline is over.
fn kill_batch(pids: &[i32], path: &Path, deadline: Instant) -> Result<()> {
    let mut dying = Vec::new();
    for &pid in pids {
        // 0 is a process of a PID namespace that we do not see into.
        let Some(pid) = Pid::from_raw(pid) else {
            continue;
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => continue,
            Err(error) => return Err(error).with_context(|| format!("opening process {pid}")),
        };
        // The number may have gone to a stranger since it was listed. What is read here is about the process that we
        // hold, or about its successor: then ours is dead, and the signal goes nowhere.
        let Ok(cgroups) = fs_err::read_to_string(format!("/proc/{pid}/cgroup")) else {
            continue;
        };
        if !cgroups.contains(&format!("/{}", path.display())) {
            continue;
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => dying.push(process),
            Err(error) => return Err(error).with_context(|| format!("killing process {pid}")),
        }
    }
    dying.iter().try_for_each(|process| wait(process, deadline))
}

fn wait(process: &OwnedFd, deadline: Instant) -> Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).context("a deadline in seconds")?;
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            result => return result.map(drop).context("waiting for a killed process"),
        }
    }
}

/// Removes `directory` and what the container made below it; that it is gone already is fine.
pub(super) fn remove(directory: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match rustix::fs::rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => {}
            Err(error) => {
                return Err(error).with_context(|| format!("removing `{}`", directory.display()));
            }
        }
        match children(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            children => children
                .unwrap_or_default()
                .iter()
                .try_for_each(|child| remove(child, patience))?,
        }
        // Nothing tells when a v1 cgroup is no longer busy.
        std::thread::sleep(Duration::from_millis(1));
    }
}
