//! `ddock info`: what this machine offers and what is used of it.

use crate::cli::output;
use crate::container::{self, Record, Status};
use crate::engine::place;
use crate::image;
use crate::platform::Platform;
use crate::runtime::apparmor;
use crate::spec;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
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
    let mapping = place::recorded(root, &Mapping::of_caller())?;
    let mut facts = Map::new();
    let mut add = |key: &str, value: Value| {
        facts.insert(key.to_owned(), value);
    };
    add("ServerVersion", env!("CARGO_PKG_VERSION").into());
    add("DockerRootDir", root.to_string_lossy().into());
    if let Some(store) = place::existing(root)? {
        let listing = image::list(&store)?;
        let containers = container::records(&store)?;
        let runs = |record: &&Record| matches!(record.status, Status::Running { .. });
        let running = containers.iter().filter(runs).count();
        let found = store.facts()?;
        add("Images", listing.images.len().into());
        add("Containers", containers.len().into());
        add("ContainersRunning", running.into());
        add("BackingFilesystem", found.file_system.into());
        add("OverlayAttributes", serde_json::to_value(found.attributes)?);
    }
    add("Driver", "overlay2".into());
    add("CgroupVersion", cgroup_version()?.into());
    add("CgroupDriver", "cgroupfs".into());
    add("Rootless", (!mapping.is_root()).into());
    add("UserMapping", mapping.to_string().into());
    if let Mapping::Single { reason, .. } = &mapping {
        add("UserMappingReason", reason.to_string().into());
    }
    add(
        "SecurityOptions",
        security_options(mapping.is_root()).into(),
    );
    add("KernelVersion", kernel.release().to_string_lossy().into());
    add("OperatingSystem", operating_system().into());
    add("Platform", Platform::host().to_string().into());
    add("NCPU", std::thread::available_parallelism()?.get().into());
    add("MemTotal", rustix::system::sysinfo().totalram.into());
    add("Name", kernel.nodename().to_string_lossy().into());
    Ok(facts)
}

/// What confines a container here besides capabilities, as Docker words it; a security module that is at work but has
/// nothing to say about containers is told as such.
fn security_options(is_root: bool) -> Vec<String> {
    let mut options = Vec::new();
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        options.push("name=seccomp,profile=builtin".to_owned());
    }
    if apparmor::is_on() {
        // Loaded by now if it can be, as by the first container.
        let profile = is_root.then(apparmor::provide).and_then(Result::ok);
        let profile = profile.flatten().unwrap_or("none");
        options.push(format!("name=apparmor,profile={profile}"));
    }
    if spec::has_selinux() {
        options.push("name=selinux,profile=none".to_owned());
    }
    options.push("name=cgroupns".to_owned());
    if !is_root {
        options.push("name=rootless".to_owned());
    }
    options
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
