//! Helpers: the programs `docker-credential-NAME` that keep credentials, and the talk with them.

use crate::human::printable;
use crate::registry::credentials::login::Pair;
use crate::registry::credentials::secret::Secret;
use crate::sys::lookup;
use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long a helper may think. One that asks its user for a passphrase needs some time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest output of a helper, in bytes; tokens have a few kilobytes.
const MAX_OUTPUT: usize = 1 << 20;

/// Longest words of a helper that are repeated to the user, in characters.
const MAX_WORDS: usize = 300;

/// What a helper that keeps nothing for a server says, and exits with 1.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// What a helper is given to keep, and gives back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept<'a> {
    #[serde(rename = "ServerURL", skip_deserializing)]
    server: &'a str,
    username: String,
    #[serde(serialize_with = "exposed")]
    secret: Secret,
}

fn exposed<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// Asks helper `name` for the user name and the secret that it keeps for `server`.
///
/// Starts no thread: what comes next may need a process with one.
pub(crate) fn get(name: &str, server: &str) -> Result<Option<Pair>> {
    let answer = answer(&program(name)?, "get", server.as_bytes(), PATIENCE)?;
    read_pair(name, &answer)
}

/// Gives helper `name` a user name and a secret to keep for `server`.
pub(crate) fn store(name: &str, server: &str, user: &str, secret: &Secret) -> Result<()> {
    let kept = Kept {
        server,
        username: user.to_owned(),
        secret: secret.clone(),
    };
    let json = serde_json::to_vec(&kept).context("writing JSON")?;
    let answer = answer(&program(name)?, "store", &Zeroizing::new(json), PATIENCE)?;
    answer.check(name)
}

/// Tells helper `name` to forget what it keeps for `server`.
pub(crate) fn erase(name: &str, server: &str) -> Result<()> {
    let answer = answer(&program(name)?, "erase", server.as_bytes(), PATIENCE)?;
    if answer.is_not_found() {
        return Ok(());
    }
    answer.check(name)
}

/// Returns the program of helper `name`, which is looked for in PATH.
fn program(name: &str) -> Result<PathBuf> {
    ensure!(
        !name.is_empty() && !name.contains('/'),
        "`{}` is no name of a credential helper",
        printable(name)
    );
    let program = format!("docker-credential-{name}");
    lookup::in_path(&program).with_context(|| {
        let program = printable(&program);
        format!("the credential helper `{program}` is not in PATH")
    })
}

fn read_pair(name: &str, answer: &Answer) -> Result<Option<Pair>> {
    if answer.is_not_found() {
        return Ok(None);
    }
    answer.check(name)?;
    // serde's own error would quote the output, and with it the secret.
    let kept: Option<Kept<'_>> = serde_json::from_slice(&answer.output).ok();
    let kept = kept.with_context(|| {
        let name = printable(name);
        format!("`docker-credential-{name}` gave no user name and secret")
    })?;
    let is_empty = kept.username.is_empty() && kept.secret.is_empty();
    Ok((!is_empty).then_some(Pair {
        user: kept.username,
        secret: kept.secret,
    }))
}

/// How a helper ended, and what it wrote.
struct Answer {
    status: ExitStatus,
    output: Zeroizing<Vec<u8>>,
    complaint: Zeroizing<Vec<u8>>,
}

impl Answer {
    fn is_not_found(&self) -> bool {
        let text = String::from_utf8_lossy(&self.output);
        !self.status.success() && text.contains(NOT_FOUND)
    }

    /// Fails with the helper's own words unless it did what it was asked.
    fn check(&self, name: &str) -> Result<()> {
        if self.status.success() {
            return Ok(());
        }
        // Helpers complain on stdout. What looks like their answer may hold a secret.
        let output = String::from_utf8_lossy(&self.output);
        let complaint = String::from_utf8_lossy(&self.complaint);
        let said = [output.trim(), complaint.trim()];
        let said = said.into_iter().find(|text| !text.is_empty());
        let said = said.filter(|text| !text.contains(['{', '}']));
        let words: String = said.unwrap_or_default().chars().take(MAX_WORDS).collect();
        let (name, words) = (printable(name), printable(&words));
        let colon = if words.is_empty() { "" } else { ": " };
        bail!(
            "`docker-credential-{name}` failed ({}){colon}{words}",
            self.status
        )
    }
}

/// Runs `program` and returns how it answered within `patience`; kills it if it did not.
fn answer(path: &Path, verb: &str, input: &[u8], patience: Duration) -> Result<Answer> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let program = printable(&name);
    let started = Command::new(path)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.with_context(|| format!("starting `{}`", path.display()))?;
    let listened = listen(&mut child, input, Instant::now() + patience);
    if !matches!(listened, Ok(Some(_))) {
        // It may have ended by itself meanwhile.
        child.kill().ok();
    }
    let status = child.wait().context("waiting for the helper")?;
    let listened = listened.with_context(|| format!("listening to `{program}`"))?;
    let Some([output, complaint]) = listened else {
        let seconds = patience.as_secs();
        bail!("`{program} {verb}` did not answer within {seconds} s")
    };
    Ok(Answer {
        status,
        output,
        complaint,
    })
}

/// Gives `child` its input and reads what it writes to stdout and stderr until it ends. `None`: that takes too long.
///
/// Its end is what counts, not that of its output: an agent that it started may hold that open.
fn listen(
    child: &mut Child,
    input: &[u8],
    end: Instant,
) -> io::Result<Option<[Zeroizing<Vec<u8>>; 2]>> {
    let pid = Pid::from_child(child);
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let mut stdin = child.stdin.take().expect("piped");
    match stdin.write_all(input) {
        // It did not want to hear it; its answer tells why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    drop(stdin);
    let mut output = Pipe::new(child.stdout.take().expect("piped").into())?;
    let mut complaint = Pipe::new(child.stderr.take().expect("piped").into())?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let pipes = [&output, &complaint].into_iter();
        let open = pipes.filter_map(|pipe| pipe.end.as_ref());
        let mut waited: Vec<_> = std::iter::once(&ended)
            .chain(open)
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let ready = match poll(&mut waited, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        let has_ended = !waited[0].revents().is_empty();
        if ready == 0 {
            return Ok(None);
        }
        output.read()?;
        complaint.read()?;
        if has_ended {
            return Ok(Some([output.bytes, complaint.bytes]));
        }
    }
}

/// The reading end of a pipe, and what came through it.
struct Pipe {
    /// `None` once it was closed on the other side.
    end: Option<OwnedFd>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Pipe {
    fn new(end: OwnedFd) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&end, OFlags::NONBLOCK)?;
        // Never grown: growing would leave a copy of a secret behind.
        let bytes = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT));
        let end = Some(end);
        Ok(Self { end, bytes })
    }

    /// Reads what is there.
    fn read(&mut self) -> io::Result<()> {
        while let Some(end) = &self.end {
            if self.bytes.len() == MAX_OUTPUT {
                return Err(io::Error::other("it wrote more than 1 MiB"));
            }
            let room = rustix::buffer::spare_capacity(&mut self.bytes);
            match rustix::io::read(end, room) {
                Ok(0) => self.end = None,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Runs a helper made of `script`.
    fn helped(script: &str, patience: Duration) -> Result<Option<Pair>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker-credential-test");
        fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        read_pair("test", &answer(&path, "get", b"r.example", patience)?)
    }

    fn told(script: &str) -> String {
        let error = helped(script, PATIENCE).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn a_helper_is_asked_on_stdin_and_answers_on_stdout() {
        let script =
            r#"[ "$1" = get ] && printf '{"ServerURL":"r","Username":"%s","Secret":"s"}' "$(cat)""#;
        let pair = helped(script, PATIENCE).unwrap().unwrap();
        assert_eq!(
            (pair.user.as_str(), pair.secret.expose()),
            ("r.example", "s")
        );
        // One that does not listen is as good.
        let deaf = r#"echo '{"Username":"u","Secret":"s"}'"#;
        assert!(helped(deaf, PATIENCE).unwrap().is_some());
        assert!(
            helped(r#"echo '{"Username":"","Secret":""}'"#, PATIENCE)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_is_not_found_is_no_failure_and_a_failure_is_told_in_its_words() {
        let missing = format!("echo {NOT_FOUND}; exit 1");
        assert!(helped(&missing, PATIENCE).unwrap().is_none());
        assert_eq!(
            told("echo 'the vault is locked'; exit 3"),
            "`docker-credential-test` failed (exit status: 3): the vault is locked"
        );
        assert!(told("printf 'a\\033[2Jb' >&2; exit 1").ends_with(": a\\u{1b}[2Jb"));
    }

    #[test]
    fn no_output_that_may_be_secret_is_shown() {
        for script in [
            "echo hidden",
            r#"echo '{"Username":"u","Secret":["hidden"]}'"#,
            r#"echo '{"Username":"u","Secret":"hidden"}'; exit 1"#,
        ] {
            let error = told(script);
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn a_helper_that_hangs_is_killed() {
        let start = Instant::now();
        let error = helped("exec sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not answer"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn an_agent_that_a_helper_leaves_behind_is_not_waited_for() {
        let script = r#"sleep 20 & echo '{"Username":"u","Secret":"s"}'"#;
        let start = Instant::now();
        assert!(helped(script, Duration::from_mins(1)).unwrap().is_some());
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn endless_output_ends() {
        assert!(told("exec cat /dev/zero").contains("more than 1 MiB"));
    }

    #[test]
    fn a_helper_is_named_by_a_plain_name_and_missing_ones_are_named() {
        for name in ["", "../x", "a/b"] {
            assert!(get(name, "r").unwrap_err().to_string().contains("no name"));
        }
        assert_eq!(
            get("ddock-none", "r").unwrap_err().to_string(),
            "the credential helper `docker-credential-ddock-none` is not in PATH"
        );
    }
}
