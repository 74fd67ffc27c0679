//! Locks between processes, flock(2): every wait for one has an end, and says who is waited for.
//!
//! A lock is only ever on a file that nobody else can open: whoever can, could keep it for ever.

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock, fstat, major, minor};
use rustix::io::{Errno, retry_on_intr};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// How long is waited for a lock, in seconds, if not [`PATIENCE`].
const VARIABLE: &str = "DDOCK_LOCK_WAIT";

/// Locks are held for moments: who has one for longer is stopped, or waits for a disk that does not answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// When the user is told, or after half of the time.
const SILENCE: Duration = Duration::from_secs(5);

/// How often it is tried again: at first, and at last. flock(2) itself knows no end but a signal.
const PAUSES: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(5)];

static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

/// Has what users are to know of waiting told by `tell`; without it nobody is told.
pub(crate) fn on_waiting(tell: fn(&str)) {
    // Once: whoever is first speaks for this process.
    LISTENER.set(tell).ok();
}

/// What was waited for in vain.
#[derive(Debug, thiserror::Error)]
#[error("{what} is held by {holder}: gave up after {} s", .waited.as_secs())]
pub(crate) struct Held {
    what: String,
    holder: Holder,
    waited: Duration,
}

impl Held {
    /// Returns what ends the wait.
    pub(crate) fn hint(&self) -> String {
        match self.holder.process {
            Some((pid, _)) if self.holder.is_stopped => {
                format!("`kill -CONT {pid}` lets it go on; {VARIABLE} is how many seconds to wait")
            }
            _ => format!("try again; {VARIABLE} is how many seconds to wait"),
        }
    }
}

#[derive(Debug, Default)]
struct Holder {
    /// Its PID and its name.
    process: Option<(u32, String)>,
    is_stopped: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((pid, name)) = &self.process else {
            return formatter.write_str("a process that is not seen from here");
        };
        write!(formatter, "process {pid} (`{name}`)")?;
        if self.is_stopped {
            formatter.write_str(", which is stopped")?;
        }
        Ok(())
    }
}

/// Takes the lock of `file`, alone, waiting for it; `what` it is of is for the error, [`Held`].
pub(crate) fn exclusive(file: &impl AsFd, what: &str) -> Result<()> {
    wait(file, FlockOperation::NonBlockingLockExclusive, what)
}

/// Takes the lock of `file` beside others that have it so; as [`exclusive`] otherwise.
pub(crate) fn shared(file: &impl AsFd, what: &str) -> Result<()> {
    wait(file, FlockOperation::NonBlockingLockShared, what)
}

/// Takes the lock of `file`, alone, if nobody else has it.
pub(crate) fn take(file: &impl AsFd) -> Result<bool> {
    attempt(file, FlockOperation::NonBlockingLockExclusive)
}

fn attempt(file: &impl AsFd, operation: FlockOperation) -> Result<bool> {
    match retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).context("locking"),
    }
}

fn wait(file: &impl AsFd, operation: FlockOperation, what: &str) -> Result<()> {
    if attempt(file, operation).with_context(|| format!("locking {what}"))? {
        return Ok(());
    }
    let mut waiting = Waiting::begin(what)?;
    let [mut pause, longest] = PAUSES;
    loop {
        thread::sleep(pause);
        pause = (pause * 2).min(longest);
        if attempt(file, operation).with_context(|| format!("locking {what}"))? {
            return Ok(());
        }
        waiting.go_on(file)?;
    }
}

/// A wait for a lock that another has.
pub(crate) struct Waiting<'a> {
    what: &'a str,
    begun: Instant,
    patience: Duration,
    told: bool,
}

impl<'a> Waiting<'a> {
    /// Begins to wait for `what`, by which the user knows it.
    pub(crate) fn begin(what: &'a str) -> Result<Self> {
        let patience = match std::env::var(VARIABLE) {
            Err(_) => PATIENCE,
            Ok(text) => {
                let seconds = text.parse();
                seconds
                    .map(Duration::from_secs)
                    .with_context(|| format!("reading {VARIABLE}={text}: how many seconds"))?
            }
        };
        Ok(Self {
            what,
            begun: Instant::now(),
            patience,
            told: false,
        })
    }

    /// Returns if the wait for the lock of `file` may go on; tells the user once who has it.
    pub(crate) fn go_on(&mut self, file: &impl AsFd) -> Result<()> {
        let waited = self.begun.elapsed();
        if waited >= self.patience {
            return Err(Held {
                what: self.what.to_owned(),
                holder: holder(file),
                waited,
            }
            .into());
        }
        if !self.told && waited >= SILENCE.min(self.patience / 2) {
            self.told = true;
            if let Some(tell) = LISTENER.get() {
                tell(&format!(
                    "waiting for {}, which is held by {}",
                    self.what,
                    holder(file)
                ));
            }
        }
        Ok(())
    }
}

/// Finds who has the lock of `file`, by what the kernel says of all locks (`proc_locks(5)`), or of all open files: a fork may
/// have it still of who took it.
fn holder(file: &impl AsFd) -> Holder {
    let Ok(status) = fstat(file) else {
        return Holder::default();
    };
    let device = status.st_dev;
    let exact = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        status.st_ino
    );
    // Some file systems show another device to stat(2) than to this table.
    let alike = format!(":{}", status.st_ino);
    let table = fs_err::read_to_string("/proc/locks").unwrap_or_default();
    let locks: Vec<[&str; 2]> = table.lines().filter_map(lock_of).collect();
    let found = |is_it: &dyn Fn(&str) -> bool| {
        let mut of = locks.iter().filter(|[_, place]| is_it(place));
        of.find_map(|[pid, _]| describe(pid))
    };
    found(&|place| place == exact)
        .or_else(|| found(&|place| place.ends_with(&alike)))
        .or_else(|| by_open_files(&alike))
        .unwrap_or_default()
}

/// Returns the PID and the file of a line of `/proc/locks`, `1: FLOCK  ADVISORY  WRITE 42 08:01:5 0 EOF`.
fn lock_of(line: &str) -> Option<[&str; 2]> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // One who waits has an arrow for the kind.
    (fields.get(1) == Some(&"FLOCK")).then_some(())?;
    Some([*fields.get(4)?, *fields.get(5)?])
}

fn by_open_files(place: &str) -> Option<Holder> {
    let processes = fs_err::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let files = fs_err::read_dir(process.path().join("fdinfo")).ok()?;
        let has = files.flatten().any(|file| {
            let text = fs_err::read_to_string(file.path()).unwrap_or_default();
            let mut locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
            locks.any(|line| lock_of(line).is_some_and(|[_, found]| found.ends_with(place)))
        });
        let name = process.file_name();
        has.then(|| describe(name.to_str()?)).flatten()
    })
}

/// Returns what is said of a process; `None` if there is none.
fn describe(pid: &str) -> Option<Holder> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses too.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    Some(Holder {
        process: Some((pid.parse().ok()?, name.to_owned())),
        is_stopped: matches!(after.trim_start().chars().next(), Some('T' | 't')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_lock_is_named_and_who_waits_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        fs_err::write(&path, "").unwrap();
        let [one, other] = [(); 2].map(|()| fs_err::File::open(&path).unwrap());
        exclusive(&one, "it").unwrap();
        assert!(!take(&other).unwrap());
        let found = holder(&other);
        assert_eq!(found.process.unwrap().0, std::process::id());
        assert!(!found.is_stopped);
        drop(one);
        assert!(take(&other).unwrap());
        drop(other);
        let unlocked = fs_err::File::open(&path).unwrap();
        assert!(holder(&unlocked).process.is_none());
    }

    #[test]
    fn lines_of_locks_are_read() {
        let line = "1: FLOCK  ADVISORY  WRITE 42 08:01:5 0 EOF";
        assert_eq!(lock_of(line), Some(["42", "08:01:5"]));
        for line in [
            "1: -> FLOCK  ADVISORY  WRITE 42 08:01:5 0 EOF",
            "1: POSIX  ADVISORY  WRITE 42 08:01:5 0 EOF",
            "",
        ] {
            assert_eq!(lock_of(line), None, "{line}");
        }
    }
}
