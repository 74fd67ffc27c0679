//! What `/proc/PID/stat` tells of a process.

use anyhow::{Context, Result, ensure};

/// Reads when a process started; it must exist, if only as a zombie.
pub(super) fn start_time(pid: u32) -> Result<u64> {
    Stat::of(pid).map(|stat| stat.start_time)
}

/// Reads when a process started that became another program since: one that was killed before it did is an error.
pub(super) fn executed(pid: u32) -> Result<u64> {
    let stat = Stat::of(pid)?;
    ensure!(
        stat.flags & FORKED_ONLY == 0,
        "the container was killed while it was being made: its memory limit may be too low"
    );
    Ok(stat.start_time)
}

/// Says that a process has not executed anything since it was forked (`PF_FORKNOEXEC`, linux/sched.h).
const FORKED_ONLY: u64 = 0x40;

/// What `/proc/PID/stat` tells of a process (proc(5)).
struct Stat {
    flags: u64,
    start_time: u64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name may hold spaces and parentheses: fields are counted from its end.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
        let mut fields = fields.unwrap_or_default().split_whitespace();
        let mut number = |skipped| fields.nth(skipped).and_then(|field| field.parse().ok());
        let (flags, start_time) = (number(6), number(12));
        let context = || format!("reading /proc/{pid}/stat");
        Ok(Self {
            flags: flags.with_context(context)?,
            start_time: start_time.with_context(context)?,
        })
    }
}
