//! What a process in a container finds, made comparable.

use crate::harness::ddock::Output;
use std::collections::BTreeSet;
use std::fmt;

/// Prints a line a fact; the first word says what it is about.
pub(crate) const PROBE: &str = r#"#!/bin/sh
say() { while IFS= read -r line; do echo "$1 $line"; done; }
env | sort | say env
id | say id
grep -E '^(Groups|Umask|Cap|NoNewPrivs|Seccomp:|SigBlk|SigIgn)' /proc/$$/status | say status
say limit < /proc/self/limits
say mount < /proc/self/mountinfo
find /dev -maxdepth 2 -path /dev/pts -prune -o -path '/dev/shm/*' -prune -o -print | while read -r path; do
    stat -c '%n %F %a %t:%T %u:%g' "$path"; done | sort | say device
stat -c '%n %F %a %u:%g' /.dockerenv /run/.containerenv /etc/mtab / /data /data/file /declared /declared/file /anonymous /other /private /home/alice /run /t /dev/shm \
    /tmp /in /in/file /new /new/dir 2>/dev/null | say file
for file in hosts hostname resolv.conf; do say "$file" < "/etc/$file"; done
for name in pid ipc uts mnt net cgroup user; do echo "namespace $name $(readlink "/proc/self/ns/$name")"; done
for path in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/scsi /proc/interrupts /sys/firmware; do
    [ -d "$path" ] && echo "hidden $path $(ls "$path" | wc -l) entries"; [ -f "$path" ] && echo "hidden $path $(head -c 1 "$path" 2>&1 | wc -c) bytes"; done
for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness \
    memory/memory.oom_control cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max \
    blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_bps_device blkio/blkio.throttle.read_iops_device blkio/blkio.throttle.write_iops_device devices/devices.list; do
    [ -f "/sys/fs/cgroup/$file" ] && say "cgroup $file" < "/sys/fs/cgroup/$file"; done
for name in net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range kernel/shmmax kernel/msgmax fs/mqueue/msg_max; do
    echo "sysctl $name $(cat "/proc/sys/$name")"; done
echo "oom $(cat /proc/self/oom_score_adj)"
echo "directory $(pwd)"
echo "hostname $(hostname)"
echo "domainname $(cat /proc/sys/kernel/domainname)"
set -- /proc/[0-9]*; [ $# -gt 9 ] && echo "processes many" || echo "processes $#"
[ $$ -gt 99 ] && echo "pid of many" || echo "pid $$"
echo "first $(tr '\0' ' ' < /proc/1/cmdline)"
echo "terminal $(tty)"
echo "time $(date +%Z)"
echo "links $(ls /sys/class/net | tr '\n' ' ')"
"#;

/// How a command ended, and the facts that it printed.
pub(crate) struct View {
    code: i32,
    facts: BTreeSet<String>,
    said: String,
}

/// A fact that only one of both has.
pub(crate) struct Difference {
    pub(crate) fact: String,
    pub(crate) is_ours: bool,
    /// What the one that failed said, to be read by who looks into it.
    said: String,
}

impl View {
    pub(crate) fn of(output: &Output) -> View {
        let mut view = View {
            code: output.code,
            facts: BTreeSet::new(),
            said: output.stderr.clone(),
        };
        let hostname = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("hostname "))
            .map(str::trim)
            .filter(|name| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        for line in output.stdout.lines() {
            match hostname {
                Some(name) => view.add(&line.replace(name, "ID")),
                None => view.add(line),
            }
        }
        view
    }

    /// Adds what a line says.
    pub(crate) fn add(&mut self, line: &str) {
        self.facts.extend(fact(without_ids(line).trim_end()));
    }

    pub(crate) fn differences(&self, theirs: &View) -> Vec<Difference> {
        let code = |view: &View| BTreeSet::from([format!("exit code {}", view.code)]);
        let (ours, others) = (&self.facts | &code(self), &theirs.facts | &code(theirs));
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, is_ours, said: &str| {
            let only = one.difference(other);
            let only = only.map(|fact| Difference {
                fact: fact.clone(),
                is_ours,
                said: said.to_owned(),
            });
            only.collect::<Vec<_>>()
        };
        let mut all = only(&ours, &others, true, &self.said);
        all.extend(only(&others, &ours, false, &theirs.said));
        all
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.is_ours { "ours" } else { "theirs" };
        write!(formatter, "{who}: {}", self.fact)?;
        if self.fact.starts_with("exit code") {
            write!(formatter, " ({})", self.said.trim())?;
        }
        Ok(())
    }
}

/// Replaces every ID of a container or volume, 64 hex digits.
pub(crate) fn without_ids(line: &str) -> String {
    let is_end = |c: char| !c.is_ascii_hexdigit();
    let parts = line.split_inclusive(is_end).map(|part| {
        let digits = part.trim_end_matches(is_end);
        if digits.len() == 64 {
            part.replace(digits, "ID")
        } else {
            part.to_owned()
        }
    });
    parts.collect()
}

/// Leaves out of a line what is never the same twice.
fn fact(line: &str) -> Option<String> {
    if line == "resolv.conf" {
        return None;
    }
    let line = match line.split_once(' ') {
        Some(("mount", rest)) => mount(rest)?,
        Some(("namespace", rest)) => namespace(rest)?,
        // Set by the shell itself.
        Some(("env", rest)) if rest.starts_with("_=") || rest.starts_with("SHLVL=") => return None,
        // Who made it.
        Some(("resolv.conf", rest)) if rest.starts_with('#') => return None,
        _ => line.to_owned(),
    };
    Some(line)
}

/// `36 35 98:0 /root /place rw,noatime shared:1 - ext3 /dev/root rw` as place, type and options (`proc_pid_mountinfo(5)`).
fn mount(line: &str) -> Option<String> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(4);
    let (place, options) = (fields.next()?, fields.next()?);
    // The host's, where tests are at work.
    if place.starts_with("/dev/shm/") {
        return None;
    }
    let propagation: Vec<&str> = fields.filter_map(|field| field.split(':').next()).collect();
    let mut fields = file_system.split(' ');
    let (kind, _, own) = (fields.next()?, fields.next()?, fields.next()?);
    let own: BTreeSet<&str> = match kind {
        // Its directories; and of the host's file systems nothing is the container's.
        "overlay" | "ext4" => BTreeSet::new(),
        // Where it is accounted, and how the host mounted it.
        _ => own
            .split(',')
            .filter(|word| {
                !["inode64", "ro", "rw"].contains(word) && !word.starts_with("nr_inodes")
            })
            .collect(),
    };
    let own: Vec<&str> = own.into_iter().collect();
    Some(format!(
        "mount {place} {kind} {options} {} {}",
        own.join(","),
        propagation.join(",")
    ))
}

/// Says whether a namespace is the host's.
fn namespace(line: &str) -> Option<String> {
    let (name, identity) = line.split_once(' ')?;
    let host = std::fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
    let whose = if host.to_string_lossy() == identity {
        "the host's"
    } else {
        "its own"
    };
    Some(format!("namespace {name} {whose}"))
}
