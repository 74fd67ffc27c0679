//! Nobody waits for ever: not for who is stopped, not for a stranger, and not against a signal.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{FlockOperation, flock};

use crate::harness::ddock::{Ddock, finished_child};
use crate::harness::image::busybox;
use crate::harness::registry::Registry;
use crate::harness::scratch::command_succeeds;
use crate::harness::{network, wait_for};

/// A process that has a lock and is stopped.
struct Holder(Child);

impl Holder {
    fn of(path: &Path) -> Self {
        let child = Command::new("flock")
            .arg(path)
            .args(["sh", "-c", "echo held; exec sleep 1000000"])
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = Self(child.unwrap());
        let mut said = String::new();
        let mut stdout = BufReader::new(holder.0.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        kill(holder.pid(), Signal::SIGSTOP).unwrap();
        holder
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        for child in fs_err::read_to_string(children).unwrap().split_whitespace() {
            kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns the file by which changes of this network namespace's networks are locked.
fn of_networks() -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let namespace = fs_err::metadata("/proc/thread-self/ns/net").unwrap().ino();
    PathBuf::from(format!("/run/ddock/networks-{namespace}"))
}

#[test]
fn who_has_a_lock_for_too_long_is_named() {
    network::enter_own();
    let registry = Registry::start();
    let image = registry.push("busybox:latest", &busybox().build());
    let ddock = Ddock::new();
    ddock.ok(&["pull", &image]);
    ddock.ok(&["volume", "create", "data"]);
    ddock.ok(&["network", "create", "net"]);
    ddock.sh(&["--network", "net"], &image, "true");
    let store = ddock.root().join("v1");
    let run = ["run", "--rm", &image, "true"];
    let cases: [(PathBuf, &[&str]); 8] = [
        (store.join("lock"), &["pull", &image]),
        (store.join("lock"), &run),
        (store.join("lock"), &["rmi", &image]),
        (store.join("lock"), &["volume", "rm", "data"]),
        (store.join("lock"), &["network", "rm", "net"]),
        (of_networks(), &["network", "rm", "net"]),
        (of_networks(), &run),
        (
            store.join("volumes/data"),
            &["run", "--rm", "-v", "data:/data", &image, "true"],
        ),
    ];
    let mut locks: Vec<&PathBuf> = cases.iter().map(|(lock, _)| lock).collect();
    locks.dedup();
    for lock in locks {
        let holder = Holder::of(lock);
        let words = format!(
            "is held by process {} (`flock`), which is stopped",
            holder.pid()
        );
        let waiting = cases.iter().filter(|(of, _)| of == lock).map(|(_, args)| {
            let mut command = ddock.command(args);
            command.env("DDOCK_LOCK_WAIT", "1").stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (args, command.spawn().unwrap())
        });
        let waiting: Vec<_> = waiting.collect();
        for (args, child) in waiting {
            let output = finished_child(child);
            assert!(
                [1, 125].contains(&output.code),
                "{args:?}: {}",
                output.stderr
            );
            for word in ["waiting for ", &words, "gave up after 1 s", "kill -CONT"] {
                assert!(output.stderr.contains(word), "{args:?}: {}", output.stderr);
            }
        }
        drop(holder);
    }
    // All of them do what they are for as soon as nobody has it.
    for (_, args) in &cases[..2] {
        ddock.run(args).exits(0);
    }
}

#[test]
fn a_monitor_that_is_stopped_is_named() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let id = ddock.ok(&["run", "-d", "--name", "one", &image, "sleep", "1000"]);
    let document: serde_json::Value =
        serde_json::from_str(&ddock.ok(&["inspect", id.trim()])).unwrap();
    let pid = &document[0]["State"]["Pid"];
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let monitor = Pid::from_raw(parent.unwrap().trim().parse().unwrap());
    kill(monitor, Signal::SIGSTOP).unwrap();
    let mut command = ddock.command(&["rm", "-f", "one"]);
    command.env("DDOCK_LOCK_WAIT", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finished_child(command.spawn().unwrap());
    kill(monitor, Signal::SIGCONT).unwrap();
    let words = format!("container `one` is held by process {monitor} (`ddock`), which is stopped");
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains(&words), "{}", output.stderr);
    ddock.run(&["rm", "-f", "one"]);
    wait_for("the container to go", || {
        ddock.containers().is_empty().then_some(())
    });
}

#[test]
fn who_is_in_the_hosts_network_cannot_keep_it_from_others() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "net"]);
    let namespace = fs_err::File::open("/proc/thread-self/ns/net").unwrap();
    flock(&namespace, FlockOperation::LockExclusive).unwrap();
    for network in ["bridge", "net"] {
        ddock.sh(&["--network", network], &image, "true");
    }
    ddock.ok(&["network", "rm", "net"]);
    let shown = command_succeeds(Command::new("stat").args(["-c", "%a %u", "/run/ddock"]));
    assert_eq!(shown.trim(), "700 0");
    let shown = command_succeeds(
        Command::new("stat")
            .args(["-c", "%a %u"])
            .arg(of_networks()),
    );
    assert_eq!(shown.trim(), "600 0");
}

#[test]
fn a_pull_that_waits_ends_when_it_is_told_to() {
    let registry = Registry::start();
    let image = registry.push("busybox:latest", &busybox().build());
    let ddock = Ddock::new();
    ddock.ok(&["pull", &image]);
    let _holder = Holder::of(&ddock.root().join("v1/lock"));
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = ddock.command(&["pull", &image]);
        command.env("DDOCK_LOCK_WAIT", "4").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut lines = stderr.lines().map(Result::unwrap);
        let said: Vec<String> = lines.by_ref().take(1).collect();
        assert!(said[0].contains("waiting for the lock"), "{said:?}");
        let told = Instant::now();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        let number = signal as i32;
        let is_by_signal = status.code() == Some(128 + number) || status.signal() == Some(number);
        assert!(is_by_signal, "{status}");
        assert!(
            told.elapsed() < Duration::from_secs(1),
            "{:?}",
            told.elapsed()
        );
    }
}
