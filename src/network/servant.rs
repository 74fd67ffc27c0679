//! A process that serves a container and is looked after: one that dies is started again.

use crate::network::helper::Helper;
use anyhow::Result;
use chrono::{SecondsFormat, Utc};
use fs_err as fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait at first until one that has died is started again, and at most: what ends it may go on doing so, and
/// each attempt costs a fork.
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);

/// Who has lived so long did what it was there for: its end is the first one.
const LIVED: Duration = Duration::from_secs(10);

/// What is kept at most of what is said of a container's connection, in bytes: then it begins anew.
const LONGEST: u64 = 64 << 10;

/// Returns the file in a container's directory that says what became of its connection to networks.
pub(super) fn log(directory: &Path) -> PathBuf {
    directory.join("network.log")
}

/// Writes down what is said of the processes that serve the container in a directory.
pub(crate) fn write_down(directory: &Path, said: &[String]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(log(directory))?;
    if file.metadata()?.len() > LONGEST {
        file.set_len(0)?;
    }
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let lines = said.iter().map(|line| format!("{now} {line}\n"));
    Ok(file.write_all(lines.collect::<String>().as_bytes())?)
}

pub(crate) struct Servant {
    /// What it does, in words for the user.
    name: &'static str,
    helper: Option<Helper>,
    since: Instant,
    /// How long to wait when it dies next.
    pause: Duration,
    /// When it is to be started again; meant where there is none.
    due: Instant,
}

impl Servant {
    pub(super) fn new(name: &'static str, helper: Helper) -> Self {
        let now = Instant::now();
        Self {
            name,
            helper: Some(helper),
            since: now,
            pause: FIRST,
            due: now,
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.helper.as_ref().map(Helper::pid)
    }

    /// Returns what becomes readable when it has died.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.helper.as_ref().map(|it| it.as_fd())
    }

    /// Tells when it is to be started again, if it has died.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.helper.is_none().then_some(self.due)
    }

    /// Buries it if it has died, and has it started again when it is time; returns what there is to say of that.
    pub(super) fn look_after(&mut self, start: impl FnOnce() -> Result<Helper>) -> Option<String> {
        if let Some(dead) = self.helper.take_if(|it| it.has_ended()) {
            let pid = dead.pid();
            if self.since.elapsed() >= LIVED {
                self.pause = FIRST;
            }
            let end = dead.end();
            return Some(self.put_off(&format!("(process {pid}) {end}")));
        }
        if self.helper.is_some() || Instant::now() < self.due {
            return None;
        }
        self.since = Instant::now();
        match start() {
            Ok(helper) => {
                let said = format!("{} is process {} now", self.name, helper.pid());
                self.helper = Some(helper);
                Some(said)
            }
            Err(error) => Some(self.put_off(&format!("could not be started: {error:#}"))),
        }
    }

    /// Returns what is to be said of an end, or of a start that failed.
    fn put_off(&mut self, what: &str) -> String {
        let pause = self.pause;
        self.due = Instant::now() + pause;
        self.pause = (pause * 2).min(LAST);
        let name = self.name;
        format!("{name} {what}; it is started again in {pause:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn who_cannot_be_started_is_tried_ever_more_seldom() {
        let mut servant = Servant {
            name: "it",
            helper: None,
            since: Instant::now(),
            pause: FIRST,
            due: Instant::now(),
        };
        let mut said = Vec::new();
        for _ in 0..12 {
            servant.due = Instant::now();
            said.extend(servant.look_after(|| bail!("no")));
            // Not yet.
            assert_eq!(servant.look_after(|| bail!("no")), None);
        }
        assert_eq!(
            said[0],
            "it could not be started: no; it is started again in 100ms"
        );
        assert!(said[1].ends_with("in 200ms"), "{said:?}");
        assert!(said[11].ends_with("in 30s"), "{said:?}");
    }
}
