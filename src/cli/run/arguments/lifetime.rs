//! The flags of `ddock run` about its life: who watches it, what is kept of it, and how it ends.

use crate::cli::failure::Refusal;
use crate::cli::run::lifetime::{Labels, Lifetime};
use crate::container::log::{Driver, Rotation};
use crate::container::{Log, Stop};
use crate::human;
use crate::sys::signal;
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

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
    cidfile: Option<PathBuf>,
    /// Run an init as PID 1 that passes signals on and reaps processes
    #[arg(long)]
    init: bool,
    /// Where the output is kept for `ddock logs`: `json-file`, `local` (rotated) or `none`
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Rotate the log: max-size=BYTES, max-file=NUMBER
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// Signal with which `ddock stop` asks the command to end [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until `ddock stop` kills; -1 is for ever [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<i64>,
    /// Kill the container after so many seconds, and exit with 255; 0 is never
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Mark the container, for people and scripts
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add an annotation to the OCI spec
    #[arg(long, value_name = "KEY[=VALUE]")]
    annotation: Vec<String>,
    /// Remove the container that has the name, first
    #[arg(long, requires = "name")]
    replace: bool,
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
    /// Checks what the flags say; `removes` is `--rm`.
    pub(super) fn check(self, removes: bool) -> Result<Lifetime, Refusal> {
        refuse_restart(self.restart.as_deref(), removes)?;
        if self.detach && !self.attach.is_empty() {
            // Docker's words and exit code.
            let message = "conflicting options: cannot specify both --attach and --detach";
            return Err(Refusal::new(message).code(1));
        }
        let handed = self.handed();
        if self.detach && !handed.is_empty() {
            return Err(Refusal::new(
                "conflicting options: cannot specify both --preserve-fds and --detach",
            ));
        }
        if let Some(text) = &self.stop_signal
            && signal::parse(text).is_none()
        {
            return Err(invalid_signal(text));
        }
        Ok(Lifetime {
            cidfile: self.cidfile,
            init: self.init,
            handed,
            log: log(self.log_driver.as_deref(), &self.log_opt)?,
            stop: Stop {
                signal: self.stop_signal,
                timeout: self.stop_timeout,
            },
            timeout: self
                .timeout
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            labels: Labels {
                files: self.label_file,
                given: self.label,
            },
            annotations: self.annotation,
            replace: self.replace,
        })
    }

    fn handed(&self) -> BTreeSet<RawFd> {
        let first = 3..3 + RawFd::from(self.preserve_fds);
        first.chain(self.preserve_fd.iter().copied()).collect()
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

fn log(driver: Option<&str>, options: &[String]) -> Result<Log, Refusal> {
    let (driver, mut rotation) = match driver {
        None | Some("json-file" | "") => (Driver::JsonFile, Rotation::default()),
        // Docker's numbers.
        Some("local") => (
            Driver::Local,
            Rotation {
                max_size: Some(20 << 20),
                max_files: 5,
            },
        ),
        Some("none") => (Driver::None, Rotation::default()),
        Some(other) => {
            return Err(
                Refusal::new(format!("`--log-driver {other}` is not there yet"))
                    .hint("there are `json-file`, `local` and `none`"),
            );
        }
    };
    let mut files = None;
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let bad = |expected| {
            Err(Refusal::new(format!(
                "invalid value `{value}` for `--log-opt {key}`: expected {expected}"
            )))
        };
        match key {
            "max-size" if value == "-1" => rotation.max_size = None,
            "max-size" => match human::parse_bytes(value).filter(|size| *size > 0) {
                Some(size) => rotation.max_size = Some(size),
                None => return bad("a size such as `10m`"),
            },
            "max-file" => match value.parse() {
                Ok(count @ 1..=999) => files = Some(count),
                _ => return bad("a number from 1 to 999"),
            },
            _ => {
                return Err(Refusal::new(format!(
                    "unknown log opt '{key}': there are `max-size` and `max-file`"
                )));
            }
        }
    }
    if files.is_some_and(|files| files > 1) && rotation.max_size.is_none() {
        return Err(Refusal::new(
            "`--log-opt max-file` needs `max-size`: without it no second file is ever begun",
        ));
    }
    rotation.max_files = files.unwrap_or(rotation.max_files);
    Ok(Log { driver, rotation })
}
