//! The real binary with a store of its own, run by root or by an ordinary user.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::image::{ImageBuilder, busybox};
use crate::harness::registry::Registry;
use crate::harness::scratch::Scratch;
use crate::harness::user::User;

/// Returns the binary under test: `DDOCK_UNDER_TEST`, which scripts/test sets to the one that users get, or cargo's own.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("DDOCK_UNDER_TEST").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ddock")))
}

/// What a command said and how it ended.
pub(crate) struct Output {
    /// The exit code, or 128 + n when the process itself died of signal n.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Returns all three as one text: to be read when a test fails, and for snapshots.
    pub(crate) fn text(&self) -> String {
        format!(
            "exit code {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Output {
        assert!(self.code == code, "expected {code}, got {}", self.text());
        self
    }

    /// Fails the test unless stderr has this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Output {
        assert!(
            self.stderr.contains(text),
            "no `{text}` in stderr: {}",
            self.text()
        );
        self
    }

    /// Returns the lines of stdout.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

pub(crate) struct Ddock {
    scratch: Scratch,
    root: PathBuf,
    user: Option<User>,
    /// The user's own copy of the program, if that is what runs.
    own_copy: Option<PathBuf>,
}

impl Ddock {
    /// Returns ddock for root with an empty store.
    pub(crate) fn new() -> Ddock {
        let scratch = Scratch::new();
        let root = scratch.join("store");
        Ddock {
            scratch,
            root,
            user: None,
            own_copy: None,
        }
    }

    /// Returns ddock for root with its store on a tmpfs of `size`.
    pub(crate) fn with_little_space(size: &str) -> Ddock {
        let mut ddock = Ddock::new();
        ddock.root = ddock.scratch.tmpfs("small", size).join("store");
        ddock
    }

    /// Takes another directory for the store.
    pub(crate) fn move_root(&mut self, root: PathBuf) {
        self.root = root;
    }

    /// Returns ddock for an ordinary user, who owns the store's parent directory.
    pub(crate) fn for_user(user: User) -> Ddock {
        let mut ddock = Ddock::new();
        let own = ddock.scratch.dir("own");
        user.give(&own);
        ddock.root = own.join("store");
        ddock.user = Some(user);
        ddock
    }

    /// Returns the ordinary user.
    pub(crate) fn user(&self) -> &User {
        self.user.as_ref().expect("a user's")
    }

    /// Runs a copy of the program from now on, which belongs to the user; returns it.
    pub(crate) fn take_own_copy(&mut self) -> PathBuf {
        let copy = self.scratch.dir("bin").join("ddock");
        fs_err::copy(binary(), &copy).unwrap();
        if let Some(user) = &self.user {
            user.give(&copy);
        }
        self.own_copy = Some(copy.clone());
        copy
    }

    /// Returns ddock with an image made in code already pulled, its reference, and no registry left to ask.
    pub(crate) fn with(image: ImageBuilder) -> (Ddock, String) {
        let ddock = Ddock::new();
        let reference = ddock.pull(image);
        (ddock, reference)
    }

    /// Returns ddock with a busybox image pulled, and the image's reference.
    pub(crate) fn with_busybox() -> (Ddock, String) {
        Ddock::with(busybox())
    }

    /// Pulls an image made in code and returns its reference; the registry is gone afterwards.
    pub(crate) fn pull(&self, image: ImageBuilder) -> String {
        let registry = Registry::start();
        let reference = registry.push("test/image:latest", &image.build());
        self.ok(&["pull", "-q", &reference]);
        reference
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Returns the store's root, `--root`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the command, with an environment that holds nothing but what is named here.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match (&self.user, &self.own_copy) {
            (Some(user), Some(copy)) => user.command(copy),
            (Some(user), None) => user.command(&user.copy_of(&binary())),
            (None, Some(copy)) => Command::new(copy),
            (None, None) => Command::new(binary()),
        };
        command.env_clear().env("DDOCK_ROOT", &self.root).env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        let home = match &self.user {
            Some(user) => user.home.clone(),
            None => self.scratch.path().to_owned(),
        };
        command.env("HOME", home).args(args);
        command
    }

    /// Runs a command with an empty stdin.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(self.command(args).stdin(Stdio::null()))
    }

    /// Runs a command that must exit with 0, and returns its stdout.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.code == 0, "ddock {args:?}: {}", output.text());
        output.stdout
    }

    /// Runs `run --rm IMAGE sh -c SCRIPT`, which must exit with 0, and returns its stdout.
    #[track_caller]
    pub(crate) fn sh(&self, flags: &[&str], image: &str, script: &str) -> String {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([image, "sh", "-c", script]);
        self.ok(&args)
    }

    /// Runs a command with `input` through a pipe as stdin.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(input)));
            finished(&child.wait_with_output().unwrap())
        })
    }

    /// Returns the full IDs of all containers there are.
    pub(crate) fn containers(&self) -> Vec<String> {
        let ids = self.ok(&["ps", "-a", "-q", "--no-trunc"]);
        ids.lines().map(str::to_owned).collect()
    }
}

/// A test that failed half-way leaves no container running.
impl Drop for Ddock {
    fn drop(&mut self) {
        if std::thread::panicking() && self.root.exists() {
            drop(self.command(&["rm", "-f", "-a"]).output());
        }
    }
}

/// Runs any command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    finished(&command.output().unwrap())
}

/// Waits for the end of a process whose output goes to pipes.
pub(crate) fn finished_child(child: std::process::Child) -> Output {
    finished(&child.wait_with_output().unwrap())
}

fn finished(output: &std::process::Output) -> Output {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code();
    Output {
        code: code.unwrap_or_else(|| 128 + output.status.signal().expect("dead of a signal")),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
