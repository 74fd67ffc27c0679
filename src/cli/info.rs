//! `ddock info`: what this machine offers and what is used of it.

use crate::cli::output;
use crate::platform::Platform;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print JSON instead of text
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
}

/// Prints what there is to know about this machine and the store.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let facts = gather(root).context("cannot gather information")?;
    output::print(&match arguments.format {
        Some(Format::Json) => format!("{}\n", Value::Object(facts)),
        None => render(&facts),
    })
}

/// Keys are Docker's where Docker has one.
fn gather(root: &Path) -> Result<Map<String, Value>> {
    let kernel = rustix::system::uname();
    let is_root = rustix::process::geteuid().is_root();
    let facts = json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DockerRootDir": root.to_string_lossy(),
        "Driver": "overlay",
        "CgroupVersion": cgroup_version()?,
        "CgroupDriver": "cgroupfs",
        "Rootless": !is_root,
        "KernelVersion": kernel.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "Platform": Platform::host().to_string(),
        "NCPU": std::thread::available_parallelism()?.get(),
        "MemTotal": rustix::system::sysinfo().totalram,
        "Name": kernel.nodename().to_string_lossy(),
    });
    match facts {
        Value::Object(facts) => Ok(facts),
        _ => unreachable!("the literal above is an object"),
    }
}

/// `2`, `1`, or `hybrid`: version 1 with an empty version 2 tree beside it.
fn cgroup_version() -> Result<&'static str> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
    let has = |kind: &str| mounts.contains(&format!(" - {kind} "));
    Ok(match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "1",
        (false, true) => "2",
        (false, false) => "none",
    })
}

/// Returns the distribution's name for itself (os-release(5)).
fn operating_system() -> String {
    // A machine without the file has no name to show; that is no failure of ours.
    let text = fs_err::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn render(facts: &Map<String, Value>) -> String {
    let width = facts.keys().map(String::len).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (key, value) in facts {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        writeln!(text, "{:<width$} {value}", format!("{key}:"))
            .expect("writing to a string cannot fail");
    }
    text
}
