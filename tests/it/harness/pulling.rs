//! A pull that is under way, to be stopped at any of its bytes.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::ddock::Ddock;
use crate::harness::fault_proxy::Proxy;

/// How long a pull may take, with all waits that a server asks for.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct Pulling {
    child: Child,
    log: PathBuf,
    /// The most memory that it was seen to have, in KiB.
    pub(crate) peak: u64,
}

impl Pulling {
    /// Starts `ddock pull` of what the proxy serves.
    pub(crate) fn start(ddock: &Ddock, proxy: &Proxy) -> Pulling {
        Self::of(ddock, &["pull", &proxy.reference()])
    }

    /// Starts a command of ddock's that begins with a pull.
    pub(crate) fn of(ddock: &Ddock, args: &[&str]) -> Pulling {
        let log = ddock.scratch().join("pull.log");
        let file = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log);
        let file = file.unwrap().into_file();
        let mut command = ddock.command(args);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Pulling {
            child: command.spawn().unwrap(),
            log,
            peak: 0,
        }
    }

    /// Waits until the proxy has delivered this many bytes; returns the exit code if the pull ends before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, proxy: &Proxy, bytes: u64) -> Option<i32> {
        let end = Instant::now() + DEADLINE;
        while proxy.delivered() < bytes {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(code(status));
            }
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            self.look_at_memory();
            std::thread::sleep(Duration::from_micros(300));
        }
        None
    }

    /// Sends a signal and waits for the end; returns the exit code, 128 + n when it died of a signal.
    #[track_caller]
    pub(crate) fn stop(&mut self, signal: Signal) -> i32 {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = Pid::from_raw(pid).expect("not 0");
        rustix::process::kill_process(pid, signal).unwrap();
        self.finish()
    }

    /// Waits for the end and returns the exit code.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> i32 {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return code(status);
            }
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            self.look_at_memory();
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Fails the test unless it ends well.
    #[track_caller]
    pub(crate) fn succeed(mut self) -> u64 {
        let code = self.finish();
        assert!(code == 0, "exit code {code}: {}", self.log());
        self.peak
    }

    /// Returns all that the pulls into this store printed.
    pub(crate) fn log(&self) -> String {
        fs_err::read_to_string(&self.log).unwrap()
    }

    fn look_at_memory(&mut self) {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs_err::read_to_string(status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().split(' ').next()?.parse().ok());
        self.peak = self.peak.max(peak.unwrap_or_default());
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let signal = || 128 + status.signal().expect("dead of a signal");
    status.code().unwrap_or_else(signal)
}
