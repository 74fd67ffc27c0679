//! The flags of `ddock run` about its life: who watches it, what is kept of it, and how it ends.

use crate::cli::failure::Refusal;
use crate::options::{Driver, Log, LogOption, Pair, Stop, Streams, labels_of_file};
use crate::sys::{file, signal};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(next_help_heading = "Lifetime")]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(super) struct LifetimeFlags {
    /// Leave the container running, and print its ID
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Attach to this stream only; may be repeated
    #[arg(short, long, value_enum, value_name = "STREAM", ignore_case = true)]
    pub(super) attach: Vec<StreamName>,
    /// Hand so many of this process's descriptors, from 3 on, to the command too
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    preserve_fds: u16,
    /// Hand these of this process's descriptors on to the command too
    #[arg(
        long,
        value_name = "NUMBER,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(RawFd).range(3..)
    )]
    preserve_fd: Vec<RawFd>,
    /// Keys that leave a container with a terminal running; empty for none [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub(super) detach_keys: Option<String>,
    /// Pass signals on to the command
    #[arg(long, default_value = "true")]
    pub(super) sig_proxy: bool,
    /// Write the container's ID to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<PathBuf>,
    /// Run an init as PID 1 that passes signals on and reaps processes
    #[arg(long)]
    pub(super) init: bool,
    /// Where the output is kept for `ddock logs`: `json-file`, `local` (rotated) or `none`
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<Driver>,
    /// Rotate the log: max-size=BYTES, max-file=NUMBER
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<LogOption>,
    /// Signal with which `ddock stop` asks the command to end [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    stop_signal: Option<String>,
    /// Seconds until `ddock stop` kills; -1 is for ever [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<i64>,
    /// Kill the container after so many seconds, and exit with 255; 0 is never
    #[arg(long, value_name = "SECONDS")]
    pub(super) timeout: Option<u64>,
    /// Mark the container, for people and scripts
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<Pair>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add an annotation to the OCI spec
    #[arg(long, value_name = "KEY[=VALUE]")]
    annotation: Vec<Pair>,
    /// Remove the container that has the name, first
    #[arg(long, requires = "name")]
    pub(super) replace: bool,
    /// Whether to start the container again when it ends: `no`
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
}

/// `-a`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamName {
    Stdin,
    Stdout,
    Stderr,
}

impl LifetimeFlags {
    /// Refuses what makes no sense together; `removes` is `--rm`.
    pub(super) fn check(&self, removes: bool) -> Result<(), Refusal> {
        refuse_restart(self.restart.as_deref(), removes)?;
        if self.detach && !self.attach.is_empty() {
            // Docker's words and exit code.
            let message = "conflicting options: cannot specify both --attach and --detach";
            return Err(Refusal::new(message).code(1));
        }
        if self.detach && !self.handed().is_empty() {
            return Err(Refusal::new(
                "conflicting options: cannot specify both --preserve-fds and --detach",
            ));
        }
        Ok(())
    }

    /// Returns which streams whoever starts the command sees.
    pub(super) fn attached(&self, interactive: bool) -> Streams {
        let has = |stream| self.attach.is_empty() || self.attach.contains(&stream);
        // Who gives a command its input and sees nothing of it waits for its code all the same, as Docker's client does.
        Streams {
            stdin: interactive && !self.detach && has(StreamName::Stdin),
            stdout: !self.detach && has(StreamName::Stdout),
            stderr: !self.detach && has(StreamName::Stderr),
        }
    }

    pub(super) fn handed(&self) -> BTreeSet<RawFd> {
        let first = 3..3 + RawFd::from(self.preserve_fds);
        first.chain(self.preserve_fd.iter().copied()).collect()
    }

    pub(super) fn stop(&self) -> Stop {
        Stop {
            signal: self.stop_signal.clone(),
            timeout: self.stop_timeout,
        }
    }

    pub(super) fn log(&self) -> Result<Log> {
        Log::new(self.log_driver.unwrap_or_default(), &self.log_opt)
    }

    /// Reads the labels; those on the command line count before those of files.
    pub(super) fn labels(&self) -> Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for path in &self.label_file {
            let text = file::read_given_to_string(path).context("reading labels")?;
            let found = labels_of_file(&text);
            let found = found.with_context(|| format!("reading `{}`", path.display()))?;
            labels.extend(found.into_iter().map(<(String, String)>::from));
        }
        labels.extend(self.label.iter().cloned().map(<(String, String)>::from));
        Ok(labels)
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let annotations = self.annotation.iter().cloned();
        annotations.map(<(String, String)>::from).collect()
    }
}

fn signal(text: &str) -> Result<String, Refusal> {
    match signal::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(invalid_signal(text)),
    }
}

/// Refuses a signal that there is not, in Docker's words.
pub(crate) fn invalid_signal(text: &str) -> Refusal {
    Refusal::new(format!("invalid signal: {text}"))
        .hint("a signal is a number or a name such as `TERM` or `SIGRTMIN+3`")
}

/// There is nobody who could start a container again: its monitor ends with it.
fn refuse_restart(policy: Option<&str>, removes: bool) -> Result<(), Refusal> {
    match policy {
        None | Some("no" | "") => Ok(()),
        Some(_) if removes => Err(Refusal::new(
            "conflicting options: cannot specify both --restart and --rm",
        )),
        Some(policy) => Err(Refusal::new(format!(
            "`--restart {policy}` is not there yet: no daemon is left that could start the container again"
        ))
        .hint("a service manager such as systemd can: let it call `ddock run --rm`")),
    }
}
