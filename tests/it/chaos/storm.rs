//! What rages while the loops work: processes of the store's are killed, and its disk is full, at moments of chance.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, set_child_subreaper,
    waitpid,
};

use crate::harness::chance::Chance;
use crate::harness::ddock::{Ddock, Output, finished_child};

/// How many loops work at a time.
pub(super) const LOOPS: usize = 8;

/// The store, and what happens to it.
pub(super) struct Storm {
    pub(super) ddock: Ddock,
    pub(super) end: Instant,
    disk: PathBuf,
    /// The clients that run, and whose they are. Locked while one is started, so that none is there that is not here.
    clients: Mutex<BTreeMap<u32, usize>>,
    /// How often something of a loop's was killed.
    hits: [AtomicU64; LOOPS],
    /// How often the disk became full or had room again: it is full while this is odd.
    tides: AtomicU64,
    /// All containers that were ever seen.
    pub(super) ids: Mutex<BTreeSet<String>>,
    /// A loop has found a fault: the others need not go on.
    pub(super) has_failed: AtomicBool,
}

/// When an operation began, in terms of what may excuse its failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    hits: u64,
    tides: u64,
}

impl Storm {
    pub(super) fn new(ddock: Ddock, disk: &Path, lasts: Duration) -> Storm {
        // Whoever loses his parent is this process's child: all that is of this store is below it.
        set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        Storm {
            ddock,
            end: Instant::now() + lasts,
            disk: disk.to_owned(),
            clients: Mutex::default(),
            hits: Default::default(),
            tides: AtomicU64::new(0),
            ids: Mutex::default(),
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        Instant::now() < self.end && !self.has_failed.load(Ordering::Relaxed)
    }

    /// Runs a command for a loop.
    pub(super) fn ask(&self, of: usize, args: &[&str]) -> Output {
        let mut command = self.ddock.command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.start(of, &mut command);
        let pid = child.id();
        let output = finished_child(child);
        self.clients.lock().unwrap().remove(&pid);
        output
    }

    fn start(&self, of: usize, command: &mut Command) -> Child {
        let mut clients = self.clients.lock().unwrap();
        let child = command.spawn().unwrap();
        clients.insert(child.id(), of);
        child
    }

    pub(super) fn begin(&self, of: usize) -> Begun {
        Begun {
            hits: self.hits[of].load(Ordering::SeqCst),
            tides: self.tides.load(Ordering::SeqCst),
        }
    }

    /// Tells whether nothing of the loop's was killed since.
    pub(super) fn is_unhurt(&self, of: usize, begun: Begun) -> bool {
        self.hits[of].load(Ordering::SeqCst) == begun.hits
    }

    /// Tells whether there was room on the disk all the time since.
    pub(super) fn had_room(&self, begun: Begun) -> bool {
        begun.tides.is_multiple_of(2) && self.tides.load(Ordering::SeqCst) == begun.tides
    }

    /// Kills something of the store's now and then.
    pub(super) fn kill_now_and_then(&self, mut chance: Chance) -> u64 {
        let mut killed = 0;
        while self.goes_on() {
            thread::sleep(Duration::from_millis(20 + chance.below(200) as u64));
            self.note_containers();
            let candidates = self.candidates();
            if candidates.is_empty() {
                continue;
            }
            let (victim, of) = candidates[chance.below(candidates.len())];
            killed += u64::from(self.kill(victim, of));
            self.reap();
        }
        killed
    }

    /// Kills a process if it is this loop's still.
    fn kill(&self, victim: u32, of: usize) -> bool {
        let pid = Pid::from_raw(victim.cast_signed()).unwrap();
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        // Looked at again: what is held by now may be another process of that number.
        if !self.candidates().contains(&(victim, of)) {
            return false;
        }
        // First: whoever sees it happen finds it counted.
        self.hits[of].fetch_add(1, Ordering::SeqCst);
        pidfd_send_signal(&process, Signal::KILL).is_ok()
    }

    /// Returns the processes of the store's, each with the loop that it is there for.
    fn candidates(&self) -> Vec<(u32, usize)> {
        let clients = self.clients.lock().unwrap();
        let parents = parents();
        let own = std::process::id();
        let of_whom = |pid: u32| {
            let mut at = pid;
            let mut of = None;
            while at != own {
                of = of.or_else(|| clients.get(&at).copied().or_else(|| named_in(at)));
                at = *parents.get(&at)?;
            }
            of
        };
        let all = parents.keys();
        all.filter_map(|pid| Some((*pid, of_whom(*pid)?))).collect()
    }

    fn note_containers(&self) {
        let containers = self.ddock.root().join("v1/containers");
        let Ok(entries) = fs_err::read_dir(containers) else {
            return;
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        self.ids.lock().unwrap().extend(names);
    }

    /// Reaps those that lost their parent, and nobody for whom a loop waits.
    pub(super) fn reap(&self) {
        let clients = self.clients.lock().unwrap();
        for (pid, parent) in parents() {
            if parent == std::process::id() && !clients.contains_key(&pid) && is_zombie(pid) {
                let pid = Pid::from_raw(pid.cast_signed()).unwrap();
                waitpid(Some(pid), WaitOptions::NOHANG).ok();
            }
        }
    }

    /// Fills the disk now and then.
    pub(super) fn fill_now_and_then(&self, mut chance: Chance) {
        while self.goes_on() {
            thread::sleep(Duration::from_millis(200 + chance.below(1500) as u64));
            self.tides.fetch_add(1, Ordering::SeqCst);
            let filler = self.disk.join("filler");
            fill(&filler);
            thread::sleep(Duration::from_millis(20 + chance.below(300) as u64));
            fs_err::remove_file(&filler).unwrap();
            self.tides.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Takes all the room that there is.
fn fill(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    let file = fs_err::File::create(path).unwrap();
    let (mut length, mut size) = (0, 64_u64 << 20);
    while size >= 4096 {
        let flags = rustix::fs::FallocateFlags::empty();
        if rustix::fs::fallocate(&file, flags, length, size).is_ok() {
            length += size;
        } else {
            size /= 2;
        }
    }
    // Or there would be room in its last block.
    drop(file.file().write_at(b"x", length));
}

/// Returns the parents of all processes.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs_err::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = |pid: &u32| stat(*pid)?.1.parse().ok();
    numbers
        .filter_map(|pid| Some((pid, parent(&pid)?)))
        .collect()
}

/// Returns a process's state and parent.
fn stat(pid: u32) -> Option<(String, String)> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ').map(str::to_owned);
    Some((words.next()?, words.next()?))
}

fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == "Z")
}

/// Returns the loop whose container a process names among its words.
fn named_in(pid: u32) -> Option<usize> {
    let words = fs_err::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words);
    let (_, rest) = words.split_once("chaos-")?;
    rest.split('-').next()?.parse().ok()
}

/// Returns the processes below this one, but for the one that is named.
pub(super) fn descendants_but(server: u32) -> Vec<String> {
    let parents = parents();
    let is_below = |pid: u32| {
        let mut at = pid;
        while let Some(parent) = parents.get(&at) {
            if *parent == std::process::id() {
                return at != server;
            }
            at = *parent;
        }
        false
    };
    let below = parents.keys().filter(|pid| is_below(**pid));
    let words = |pid: &u32| {
        let words = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", String::from_utf8_lossy(&words))
    };
    below.map(words).collect()
}
