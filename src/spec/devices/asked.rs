//! The devices that the user asks for: `--device` and `--device-cgroup-rule`.

use super::{Device, collect};
use crate::human::printable;
use crate::options::{DeviceOptions, DeviceRule, Devices};
use crate::runtime::StartError;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;

/// Nodes to be made, and rules to be appended to those of every container.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) nodes: Vec<Device>,
    pub(crate) rules: Vec<Value>,
}

/// Who the container belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// It has all devices, whatever they are used for.
    pub(crate) is_privileged: bool,
    /// It has those of the host that its user may use, and there are no rules to be had.
    pub(crate) in_user_namespace: bool,
}

/// Finds the devices that were asked for.
pub(crate) fn find(asked: &Devices, owner: Owner) -> Result<Asked> {
    let mut found = Asked::default();
    for wish in &asked.nodes {
        if owner.is_privileged && wish.host == wish.container {
            continue;
        }
        // A user namespace makes no nodes, whether there is an `m` or not.
        if owner.in_user_namespace && !(wish.access.contains('r') && wish.access.contains('w')) {
            let host = printable(&wish.host.display().to_string());
            let what = format!("`{}` for `{host}`", wish.access);
            return Err(without_rules(&what, "ask for `rw`").into());
        }
        for device in devices_of(wish)? {
            if !owner.in_user_namespace && !owner.is_privileged {
                found.rules.push(json!({
                    "allow": true,
                    "type": device.kind,
                    "major": device.major,
                    "minor": device.minor,
                    "access": wish.access,
                }));
            }
            found.nodes.push(device);
        }
    }
    for DeviceRule {
        kind,
        major,
        minor,
        access,
    } in &asked.rules
    {
        let rule = json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": access });
        if owner.in_user_namespace {
            let number = |number: &i64| match number {
                -1 => "*".to_owned(),
                number => number.to_string(),
            };
            let (major, minor) = (number(major), number(minor));
            let what = format!("the device rule `{kind} {major}:{minor} {access}`");
            return Err(without_rules(&what, "leave it out").into());
        }
        found.rules.push(rule);
    }
    Ok(found)
}

fn without_rules(what: &str, instead: &str) -> StartError {
    StartError::Unenforceable {
        message: format!(
            "cannot enforce {what}: the device cgroup is root's, and here you may use what you may use on the host"
        ),
        cure: Some(format!("`sudo ddock run …` enforces it; or {instead}")),
    }
}

/// Returns the device, or all that are in the directory.
fn devices_of(wish: &DeviceOptions) -> Result<Vec<Device>> {
    let failed = |reason: &str| {
        let path = printable(&wish.host.display().to_string());
        anyhow::anyhow!(
            "error gathering device information while adding custom device \"{path}\": {reason}"
        )
    };
    let metadata = match std::fs::metadata(&wish.host) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(failed("no such file or directory"));
        }
        Err(error) => return Err(failed(&error.to_string())),
    };
    let mut devices = Vec::new();
    if metadata.is_dir() {
        let depth = usize::from(wish.host != Path::new("/dev"));
        collect(&wish.host, depth, &mut devices)?;
        for device in &mut devices {
            let below = device.path.strip_prefix(&wish.host);
            device.path = wish.container.join(below.unwrap_or(&device.path));
        }
    } else if let Some(device) = Device::of(wish.host.clone(), &metadata) {
        devices.push(Device {
            path: wish.container.clone(),
            ..device
        });
    }
    if devices.is_empty() {
        return Err(failed("not a device node"));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Owner = Owner {
        is_privileged: false,
        in_user_namespace: false,
    };

    fn found(nodes: &[&str], rules: &[&str], owner: Owner) -> Result<Asked> {
        let asked = Devices {
            nodes: nodes.iter().map(|text| text.parse().unwrap()).collect(),
            rules: rules.iter().map(|text| text.parse().unwrap()).collect(),
        };
        find(&asked, owner)
    }

    #[test]
    fn a_device_has_the_hosts_numbers_and_mode() {
        let found = found(&["/dev/zero:/dev/nought:rm"], &["c 7:* r"], ROOT).unwrap();
        let node = found.nodes[0].to_json();
        assert_eq!(
            (
                &node["path"],
                &node["type"],
                &node["major"],
                &node["minor"],
                &node["fileMode"]
            ),
            (
                &json!("/dev/nought"),
                &json!("c"),
                &json!(1),
                &json!(5),
                &json!(0o666)
            )
        );
        let rule = |major, minor, access| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": access });
        assert_eq!(found.rules, [rule(1, 5, "rm"), rule(7, -1, "r")]);
    }

    #[test]
    fn a_directory_is_all_devices_inside() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, minor| {
            let path = directory.path().join(name);
            let device = rustix::fs::makedev(1, minor);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RUSR, device)
        };
        fs_err::create_dir(directory.path().join("below")).unwrap();
        make("a", 3).unwrap();
        make("below/b", 5).unwrap();
        fs_err::write(directory.path().join("file"), "").unwrap();
        let text = format!("{}:/dev/all", directory.path().display());
        let found = found(&[&text], &[], ROOT).unwrap();
        let mut paths: Vec<_> = found.nodes.iter().map(|node| node.path.clone()).collect();
        paths.sort();
        assert_eq!(
            paths,
            [Path::new("/dev/all/a"), Path::new("/dev/all/below/b")]
        );
        assert_eq!(found.rules.len(), 2);
    }

    #[test]
    fn what_is_no_device_is_refused_in_dockers_words() {
        let gathering = "error gathering device information while adding custom device";
        for (text, expected) in [
            ("/dev/absent", "no such file or directory"),
            ("/etc/passwd", "not a device node"),
            ("/etc", "not a device node"),
        ] {
            let error = found(&[text], &[], ROOT).unwrap_err().to_string();
            assert_eq!(error, format!("{gathering} \"{text}\": {expected}"));
        }
    }

    #[test]
    fn rules_cannot_be_had_in_a_user_namespace() {
        let user = Owner {
            in_user_namespace: true,
            ..ROOT
        };
        let plain = found(&["/dev/null:/dev/x", "/dev/null:rw"], &[], user).unwrap();
        assert_eq!((plain.nodes.len(), plain.rules.len()), (2, 0));
        for (nodes, rules) in [(&["/dev/null:r"][..], &[][..]), (&[], &["c 1:3 r"])] {
            let error = found(nodes, rules, user).unwrap_err();
            assert!(error.is::<StartError>(), "{error}");
        }
    }

    #[test]
    fn a_privileged_container_has_them_already() {
        let privileged = Owner {
            is_privileged: true,
            ..ROOT
        };
        let found = found(&["/dev/null:r", "/dev/null:/dev/x:r"], &[], privileged).unwrap();
        assert_eq!((found.nodes.len(), found.rules.len()), (1, 0));
    }
}
