//! The devices in a container's `/dev`, and which ones its device cgroup allows.

mod asked;

pub(crate) use asked::{Asked, Owner, find};

use anyhow::{Context, Result, ensure};
use rustix::fs::{major, minor};
use serde_json::{Value, json};
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    /// Where the host has it.
    pub(crate) host: PathBuf,
    /// As in config.json: `c` for characters, `b` for blocks.
    kind: &'static str,
    major: u32,
    minor: u32,
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The devices every container has (runtime-spec config-linux.md, "Default Devices"), all for everyone.
/// `/dev/ptmx` and `/dev/console` come with the terminal.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// What every container has of its own under `/dev`, so that the host's is not taken, and what no container gets.
const OWN: [&str; 9] = [
    "console", "core", "fd", "mqueue", "ptmx", "pts", "shm", ".lxc", ".udev",
];

/// Directories under the host's `/dev` are few and flat; this only stops a loop.
const DEPTH_LIMIT: usize = 16;

impl Device {
    /// Returns the host's device at `path`, if that is one.
    fn of(path: PathBuf, metadata: &Metadata) -> Option<Self> {
        let kind = metadata.file_type();
        let kind = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => return None,
        };
        Some(Self {
            host: path.clone(),
            path,
            kind,
            major: major(metadata.rdev()),
            minor: minor(metadata.rdev()),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    /// Returns the device as config.json's `linux.devices` has it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }
}

/// Returns the devices of every container, sorted by path.
pub(crate) fn default() -> Vec<Device> {
    let mut devices: Vec<Device> = DEFAULT
        .into_iter()
        .map(|(path, major, minor)| Device {
            path: path.into(),
            host: path.into(),
            kind: "c",
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    devices
}

/// Returns all devices of the host for a privileged container, sorted by path.
pub(crate) fn of_host() -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), 0, &mut devices)?;
    devices.retain(|device| {
        !DEFAULT
            .iter()
            .any(|(path, ..)| device.path == Path::new(path))
    });
    devices.extend(default());
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(devices)
}

fn collect(directory: &Path, depth: usize, devices: &mut Vec<Device>) -> Result<()> {
    ensure!(
        depth < DEPTH_LIMIT,
        "`{}` is nested too deeply",
        directory.display()
    );
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        // config.json cannot name it.
        if path.to_str().is_none() {
            continue;
        }
        if depth == 0 && OWN.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let metadata = match fs_err::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // Devices come and go.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context("looking for the host's devices"),
        };
        if metadata.is_dir() && rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_ok() {
            collect(&path, depth + 1, devices)?;
        } else {
            devices.extend(Device::of(path, &metadata));
        }
    }
    Ok(())
}

/// Adds the devices that were asked for; one at the path of another takes its place.
pub(crate) fn add(devices: &mut Vec<Device>, asked: Vec<Device>) {
    for device in asked {
        devices.retain(|other| other.path != device.path);
        devices.push(device);
    }
    devices.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Returns the rules of the device cgroup, the last that fits counts: everything for a privileged container,
/// otherwise what `/dev` has, and what was `asked` for.
pub(crate) fn cgroup_rules(privileged: bool, asked: Vec<Value>) -> Vec<Value> {
    if privileged {
        return vec![json!({ "allow": true, "type": "a", "access": "rwm" })];
    }
    // A node may be made of any device (CAP_MKNOD is a default), but not be opened.
    let mut rules = vec![
        json!({ "allow": false, "type": "a", "access": "rwm" }),
        json!({ "allow": true, "type": "c", "access": "m" }),
        json!({ "allow": true, "type": "b", "access": "m" }),
    ];
    let single = [
        (1, 3),    // null
        (1, 5),    // zero
        (1, 7),    // full
        (1, 8),    // random
        (1, 9),    // urandom
        (5, 0),    // tty
        (5, 1),    // console
        (5, 2),    // ptmx
        (10, 200), // net/tun: useless without CAP_NET_ADMIN, expected with it
    ];
    let allow = |(major, minor): (u32, u32)| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    rules.extend(single.map(allow));
    // The terminals of devpts (linux Documentation/admin-guide/devices.txt, 136-143).
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    rules.extend(asked);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(devices: &[Device]) -> Vec<&str> {
        let paths = devices.iter().map(|device| device.path.to_str().unwrap());
        paths.collect()
    }

    #[test]
    fn every_container_has_six_devices() {
        assert_eq!(
            paths(&default()),
            [
                "/dev/full",
                "/dev/null",
                "/dev/random",
                "/dev/tty",
                "/dev/urandom",
                "/dev/zero"
            ]
        );
        assert_eq!(
            default()[1].to_json(),
            json!({
                "path": "/dev/null", "type": "c", "major": 1, "minor": 3,
                "fileMode": 0o666, "uid": 0, "gid": 0,
            })
        );
    }

    #[test]
    fn a_privileged_container_has_the_hosts_devices_too() {
        let devices = of_host().unwrap();
        let found = paths(&devices);
        assert!(found.is_sorted());
        for expected in paths(&default()) {
            assert_eq!(
                found.iter().filter(|path| **path == expected).count(),
                1,
                "{expected}"
            );
        }
        for own in ["/dev/ptmx", "/dev/console", "/dev/pts/0", "/dev/pts/ptmx"] {
            assert!(!found.contains(&own), "{own}");
        }
    }

    #[test]
    fn the_rules_deny_all_but_the_list() {
        let rules = cgroup_rules(false, Vec::new());
        assert_eq!(
            rules[0],
            json!({ "allow": false, "type": "a", "access": "rwm" })
        );
        assert!(rules[1..].iter().all(|rule| rule["allow"] == true));
        assert_eq!(rules.len(), 13);
        let privileged = [json!({ "allow": true, "type": "a", "access": "rwm" })];
        assert_eq!(cgroup_rules(true, Vec::new()), privileged);
    }
}
