//! `ddock info`: what this machine offers and what is used of it.

use crate::cli::{listing, output};
use crate::container::{self, Record, Status};
use crate::engine::place;
use crate::image;
use crate::platform::Platform;
use crate::runtime::apparmor;
use crate::spec;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Show so: `json`, or a template of Go's such as `{{.NCPU}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Prints what there is to know about this machine and the store.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    // A template that cannot be read is 64 here, as with Docker.
    let template = arguments.format.as_deref().map(listing::template);
    let template = template.transpose().map_err(|refusal| refusal.code(64))?;
    let facts = Value::Object(gather(root).context("cannot gather information")?);
    output::print(&match template {
        Some(template) => listing::fill(&template, &facts)? + "\n",
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
    for key in [
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
        "Images",
    ] {
        add(key, 0.into());
    }
    if let Some(store) = place::existing(root)? {
        let listing = image::list(&store)?;
        let containers = container::records(&store)?;
        let runs = |record: &&Record| matches!(record.status, Status::Running { .. });
        let running = containers.iter().filter(runs).count();
        let found = store.facts()?;
        add("Images", listing.images.len().into());
        add("Containers", containers.len().into());
        add("ContainersRunning", running.into());
        add("ContainersStopped", (containers.len() - running).into());
        add("BackingFilesystem", found.file_system.into());
        add("OverlayAttributes", serde_json::to_value(found.attributes)?);
    }
    add("Driver", "overlay2".into());
    add("LoggingDriver", "json-file".into());
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
    add("OSType", Platform::host().os.into());
    add("Architecture", kernel.machine().to_string_lossy().into());
    add("IndexServerAddress", "https://index.docker.io/v1/".into());
    add("Debug", false.into());
    add("ExperimentalBuild", false.into());
    add("LiveRestoreEnabled", true.into());
    add("Swarm", json!({"LocalNodeState": "inactive"}));
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

/// Docker's lines, for people: how deep, what it is called, and the fact.
const LINES: &[(usize, &str, &str)] = &[
    (1, "Containers", "Containers"),
    (2, "Running", "ContainersRunning"),
    (2, "Paused", "ContainersPaused"),
    (2, "Stopped", "ContainersStopped"),
    (1, "Images", "Images"),
    (1, "Server Version", "ServerVersion"),
    (1, "Storage Driver", "Driver"),
    (2, "Backing Filesystem", "BackingFilesystem"),
    (2, "Overlay Attributes", "OverlayAttributes"),
    (1, "Logging Driver", "LoggingDriver"),
    (1, "Cgroup Driver", "CgroupDriver"),
    (1, "Cgroup Version", "CgroupVersion"),
    (1, "Security Options", "SecurityOptions"),
    (1, "Rootless", "Rootless"),
    (2, "User Mapping", "UserMapping"),
    (2, "User Mapping Reason", "UserMappingReason"),
    (1, "Kernel Version", "KernelVersion"),
    (1, "Operating System", "OperatingSystem"),
    (1, "OSType", "OSType"),
    (1, "Architecture", "Architecture"),
    (1, "Platform", "Platform"),
    (1, "CPUs", "NCPU"),
    (1, "Total Memory", "MemTotal"),
    (1, "Name", "Name"),
    (1, "Docker Root Dir", "DockerRootDir"),
    (1, "Debug Mode", "Debug"),
    (1, "Experimental", "ExperimentalBuild"),
];

/// Returns the facts in Docker's words, without those that there are none of.
fn render(facts: &Value) -> String {
    let mut text = String::from(
        "Client: ddock\n Context:    default\n Debug Mode: false\n\nServer: without a daemon\n",
    );
    for (depth, name, key) in LINES {
        let value = match &facts[*key] {
            Value::Null => continue,
            Value::Array(values) => {
                let lines = values.iter().filter_map(Value::as_str);
                let lines = lines.map(|value| format!("\n{:depth$}{value}", "", depth = depth + 1));
                lines.collect()
            }
            Value::String(value) => format!(" {value}"),
            value if *key == "MemTotal" => {
                // In binary units, as Docker has it here alone.
                let bytes = value.as_u64().unwrap_or(0);
                format!(" {}.{}GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30)
            }
            value => format!(" {value}"),
        };
        writeln!(text, "{:depth$}{name}:{value}", "").expect("writing to a string cannot fail");
    }
    text
}
