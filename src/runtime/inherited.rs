//! What a command would have from whoever called ddock, as any program has it from who starts it. A daemon's command has
//! nothing of that: it is put back here.

use crate::sys::kernel;
use anyhow::{Context, Result};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{
    CapabilitiesSecureBits, CpuSet, capabilities_secure_bits, disable_transparent_huge_pages,
    no_new_privs, sched_setaffinity, set_capabilities_secure_bits, set_current_timer_slack,
};
use std::num::NonZeroU64;

/// The slack of a process that never asked for another, in nanoseconds (`PR_SET_TIMERSLACK`).
const TIMER_SLACK: NonZeroU64 = NonZeroU64::new(50_000).expect("it is not 0");

/// What the caller left that nobody here can put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// More than 0, if any: from less anybody can come back.
    nice: Option<i32>,
    is_idle: bool,
    no_new_privileges: bool,
}

impl Leftover {
    /// Puts back when and where this process and its children run, and what becoming another user means to them, and
    /// returns what stays. Limits (setrlimit(2)) are not touched: callers set them for what they start.
    pub(crate) fn of_caller() -> Result<Self> {
        // Before the priority: from the class for idle times no way leads to a priority.
        let is_idle = kernel::reset_scheduler().is_err();
        let nice = getpriority_process(None).context("reading the priority")?;
        let keeps_nice = nice != 0 && setpriority_process(None, 0).is_err();
        // What a kernel does not know nobody can have set, and what a sandbox forbids to set it forbade before.
        kernel::reset_io_priority().ok();
        kernel::reset_memory_policy().ok();
        let mut processors = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|processor| processors.set(processor));
        sched_setaffinity(None, &processors).context("taking all processors")?;
        set_current_timer_slack(Some(TIMER_SLACK)).context("setting the timer slack")?;
        disable_transparent_huge_pages(false).context("allowing huge pages")?;
        if !capabilities_secure_bits()?.is_empty() {
            // With them root may be nobody, or who stops being root may keep its capabilities (capabilities(7)).
            set_capabilities_secure_bits(CapabilitiesSecureBits::empty())
                .context("taking back the caller's securebits")?;
        }
        Ok(Self {
            nice: keeps_nice.then_some(nice),
            is_idle,
            no_new_privileges: no_new_privs().context("reading no_new_privs")?,
        })
    }

    /// Returns what the user should know: it is not what the same command does anywhere else.
    pub(crate) fn notices(self, wants_no_new_privileges: bool) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(nice) = self.nice {
            notices.push(format!(
                "the container has the nice value {nice} of its caller: lowering it takes CAP_SYS_NICE"
            ));
        }
        if self.is_idle {
            notices.push(
                "the container runs in idle times only, as its caller: leaving SCHED_IDLE takes CAP_SYS_NICE"
                    .to_owned(),
            );
        }
        if self.no_new_privileges && !wants_no_new_privileges {
            notices.push(
                "setuid programs and file capabilities give nobody in the container more rights: its caller has no_new_privs, which cannot be taken back"
                    .to_owned(),
            );
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_not_be_put_back_is_told() {
        let nothing = Leftover {
            nice: None,
            is_idle: false,
            no_new_privileges: false,
        };
        assert!(nothing.notices(false).is_empty());
        let all = Leftover {
            nice: Some(7),
            is_idle: true,
            no_new_privileges: true,
        };
        assert_eq!(all.notices(false).len(), 3);
        // What was asked for needs no word.
        assert_eq!(all.notices(true).len(), 2);
    }
}
