//! `--explain`: the steps of a container's life in the words of someone who teaches how it is made.

use crate::cli::output;
use crate::human;
use crate::narration::{self, Narration, Step};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;

/// `--explain[=FORM]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Explain {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Begins to listen, and says on stderr each step with the time since the one before; the first one's counts from now.
pub(super) fn listen(form: Explain) -> Result<Narration> {
    let last = Cell::new(narration::now());
    Narration::listen(move |told| {
        let took = told.at.saturating_sub(last.replace(told.at));
        let text = match form {
            Explain::Text => text(&told.step, took),
            // A step that cannot be written down is not worth the container's end.
            Explain::Json => line(&told.step, took).unwrap_or_default(),
        };
        output::tell(&text);
    })
}

fn line(step: &Step, took: Duration) -> Result<String> {
    let mut object = serde_json::to_value(step).context("writing a step")?;
    if let Value::Object(fields) = &mut object {
        fields.insert("microseconds".into(), json!(took.as_micros()));
    }
    Ok(format!("{object}\n"))
}

/// Returns the first line with its time, and the others below it.
fn text(step: &Step, took: Duration) -> String {
    let mut time = format!("{:>8.3} ms", took.as_secs_f64() * 1000.0);
    let mut text = String::new();
    for line in words(step) {
        let line = human::printable(&line);
        text = format!("{text}{time}  {line}\n");
        time = format!("{:13}", "");
    }
    text
}

/// Returns what there is to say, the sentence first.
fn words(step: &Step) -> Vec<String> {
    match step {
        Step::Image { .. }
        | Step::Rootfs { .. }
        | Step::Container { .. }
        | Step::Root { .. }
        | Step::Bundle { .. }
        | Step::Monitor { .. } => vec![preparation(step)],
        Step::Cgroup {
            directories,
            values,
        } => cgroup(directories, values),
        Step::Clone {
            pid,
            namespaces,
            shared,
            joined,
        } => clone(pid, namespaces, shared, joined),
        Step::Mount {
            target,
            kind,
            source,
            options,
        } => vec![mount(target, kind, source, options)],
        Step::Hide { masked, read_only } => vec![
            "covered what tells of the host or other containers:".into(),
            masked.join(" "),
            "and made read-only what would change the host:".into(),
            read_only.join(" "),
        ],
        Step::End {
            status,
            out_of_memory,
            usage,
        } => end(status, *out_of_memory, usage),
        _ => vec![inside(step)],
    }
}

/// Says what the command line does before there is a process of the container's.
fn preparation(step: &Step) -> String {
    match step {
        Step::Image { name, id, layers } => format!(
            "the image `{name}` is {id}: {}, each a directory in the store; nothing is copied",
            count(*layers, "layer")
        ),
        Step::Rootfs { directory } => {
            format!("there is no image: its root is the directory `{directory}` of the host")
        }
        Step::Container { id, directory } => {
            let id = id.get(..12).unwrap_or(id);
            format!("made the container {id}; what it changes goes to `{directory}`")
        }
        Step::Root { layers } => format!(
            "merged {} under the one for changes (overlayfs): its root, mounted nowhere yet",
            count(*layers, "directory")
        ),
        Step::Bundle { config } => {
            format!("wrote down what is to run, as the OCI runtime spec says it: `{config}`")
        }
        Step::Monitor { pid } => format!(
            "forked the monitor, process {pid}: it looks after the container, and ends it if this command dies"
        ),
        _ => String::new(),
    }
}

/// Says what the container's first process does to itself.
fn inside(step: &Step) -> String {
    match step {
        Step::EnterCgroup => {
            "entered its cgroup: the limits hold before anything of the image runs".into()
        }
        Step::Session => "began a session of its own: no way to your terminal by `/dev/tty`".into(),
        Step::Pivot => {
            "made that root its `/` (pivot_root) and let go of the host's: what it can reach".into()
        }
        Step::Devices { nodes } => format!("made the devices {}", nodes.join(" ")),
        Step::Terminal { rows, columns } => format!(
            "opened a terminal in its own `/dev/pts`, {rows} rows by {columns} columns before the command looks"
        ),
        Step::Hostname { name } => format!("set the hostname `{name}`"),
        Step::Network {
            network,
            link,
            addresses,
            gateway,
        } => format!(
            "connected it to the network `{network}`: `{link}` inside has {}{}",
            addresses.join(" and "),
            way_out(gateway.as_deref())
        ),
        Step::Responder { pid, address } => format!(
            "forked process {pid} to answer for names at {address}: containers' itself, others' by asking elsewhere"
        ),
        Step::Loopback => "brought the interface `lo` up".into(),
        Step::Sysctl { name, value } => format!("set the kernel parameter {name} = {value}"),
        Step::ReadOnlyRoot => "made `/` read-only".into(),
        Step::Directory { path } => format!("opened the directory to start in, `{path}`"),
        Step::Capabilities { kept } => format!(
            "gave up for good what root may do, but for {}: {}",
            count(kept.len(), "capability"),
            kept.join(" ")
        ),
        Step::User { uid, gid, groups } => {
            let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
            format!(
                "became user {uid}, group {gid}, in the groups [{}]",
                groups.join(" ")
            )
        }
        Step::Descriptors { count: number } => format!(
            "kept {} of the caller's open for the command, from number 3 on",
            count(*number, "descriptor")
        ),
        Step::Profile { name } => format!(
            "has the kernel confine it by the AppArmor profile `{name}`, as soon as it is the command"
        ),
        Step::Filter { instructions } => format!(
            "has the kernel filter its system calls (seccomp, {}): what it may ask for",
            count(*instructions, "instruction")
        ),
        Step::Exec { arguments } => format!("becomes the command: {}", arguments.join(" ")),
        Step::CleanUp { removed } => clean_up(*removed).into(),
        _ => String::new(),
    }
}

fn way_out(gateway: Option<&str>) -> String {
    gateway.map_or_else(String::new, |it| format!(", the way out is {it}"))
}

fn clean_up(removed: bool) -> &'static str {
    if removed {
        "removed the cgroup and the container's directory; namespaces and mounts went by themselves"
    } else {
        "removed the cgroup; namespaces and mounts went by themselves; its changes stay until `ddock rm`"
    }
}

fn cgroup(directories: &[String], values: &[(String, String)]) -> Vec<String> {
    if directories.is_empty() {
        return vec![
            "made no cgroup: there is no right to one here, and no limit was asked for".into(),
        ];
    }
    let first = "made its cgroup: what it can use; the kernel says of it:".to_owned();
    let directories = directories.iter().cloned();
    std::iter::once(first)
        .chain(directories)
        .chain(values.iter().map(value))
        .collect()
}

/// Returns a file of a cgroup and what it says, on one line.
fn value((file, value): &(String, String)) -> String {
    format!("{file} = {}", value.replace('\n', ", "))
}

fn clone(pid: &str, namespaces: &[String], shared: &[String], joined: &[String]) -> Vec<String> {
    let first = format!(
        "cloned its first process, {pid} to the host, into {}, what it can see:",
        count(namespaces.len(), "new namespace")
    );
    let why = |name: &String| {
        let why = match name.as_str() {
            "pid" => "it is process 1 inside, and sees only what it starts",
            "mount" => "what is mounted inside is seen inside only",
            "uts" => "a hostname of its own",
            "ipc" => "shared memory, semaphores and message queues of its own",
            "network" => "interfaces, addresses and ports of its own",
            "cgroup" => "its cgroup looks like the top of them all",
            _ => "its own",
        };
        format!("{name}: {why}")
    };
    let shared = shared
        .iter()
        .map(|name| format!("{name}: shared with the host"));
    let joined = joined
        .iter()
        .map(|path| format!("`{path}`: joined, another container's"));
    std::iter::once(first)
        .chain(namespaces.iter().map(why))
        .chain(shared)
        .chain(joined)
        .collect()
}

fn mount(target: &str, kind: &str, source: &str, options: &str) -> String {
    let why = match (target, kind) {
        (_, "bind") => format!("`{source}` of the host"),
        ("/proc", _) => "the processes of its PID namespace, and no others".into(),
        ("/dev", _) => "empty, for a few harmless devices".into(),
        ("/dev/pts", _) => "terminals of its own".into(),
        ("/dev/shm", _) => "shared memory of its own".into(),
        ("/dev/mqueue", _) => "the message queues of its IPC namespace".into(),
        ("/sys", _) => "devices as the kernel shows them".into(),
        ("/sys/fs/cgroup", _) => "its own limits, to be read".into(),
        _ => "new and empty".into(),
    };
    let comma = if options.is_empty() { "" } else { "," };
    format!("mounted {target}: {why} ({kind}{comma}{options})")
}

fn end(status: &str, out_of_memory: bool, usage: &[(String, String)]) -> Vec<String> {
    let memory = if out_of_memory {
        "; the kernel killed a process because the memory limit was reached"
    } else {
        ""
    };
    let first = format!("the command {status}{memory}");
    std::iter::once(first)
        .chain(usage.iter().map(value))
        .collect()
}

/// Returns `1 layer`, `2 layers`, `3 capabilities`.
fn count(number: usize, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {what}s"),
    }
}
