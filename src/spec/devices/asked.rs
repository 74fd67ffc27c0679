//! The devices that the user asks for: `--device` and `--device-cgroup-rule`.

use super::{Device, collect};
use crate::human::printable;
use crate::runtime::StartError;
use crate::spec::request::Devices;
use crate::spec::tree;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

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
    for text in &asked.nodes {
        let wish = Wish::parse(text)?;
        if owner.is_privileged && wish.host == wish.container {
            continue;
        }
        // A user namespace makes no nodes, whether there is an `m` or not.
        if owner.in_user_namespace && !(wish.access.contains('r') && wish.access.contains('w')) {
            let what = format!("`{}` for `{}`", wish.access, printable(text));
            return Err(without_rules(&what, "ask for `rw`").into());
        }
        for device in wish.devices()? {
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
    for text in &asked.rules {
        let rule = rule(text)?;
        if owner.in_user_namespace {
            let what = format!("the device rule `{}`", printable(text));
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

/// `HOST[:CONTAINER[:ACCESS]]`
struct Wish {
    host: PathBuf,
    container: PathBuf,
    access: String,
}

impl Wish {
    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, access) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, access] if is_access(access) => (host, host, access),
            [host, container] => (host, container, "rwm"),
            [host, container, access] => (host, container, access),
            _ => bail!("bad format for path: {}", printable(text)),
        };
        ensure!(
            is_access(access),
            "bad mode specified: {}: expected some of r, w and m",
            printable(access)
        );
        ensure!(
            host.starts_with('/') || !host.contains('='),
            "`--device {}` names a CDI device, which is not there yet: name its nodes under /dev",
            printable(text)
        );
        for path in [host, container] {
            ensure!(
                path.starts_with('/'),
                "{} is not an absolute path",
                printable(path)
            );
        }
        Ok(Self {
            host: tree::clean(Path::new(host)),
            container: tree::clean(Path::new(container)),
            access: access.to_owned(),
        })
    }

    /// Returns the device, or all that are in the directory.
    fn devices(&self) -> Result<Vec<Device>> {
        let failed = |reason: &str| {
            let path = printable(&self.host.display().to_string());
            anyhow::anyhow!(
                "error gathering device information while adding custom device \"{path}\": {reason}"
            )
        };
        let metadata = match std::fs::metadata(&self.host) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(failed("no such file or directory"));
            }
            Err(error) => return Err(failed(&error.to_string())),
        };
        let mut devices = Vec::new();
        if metadata.is_dir() {
            let depth = usize::from(self.host != Path::new("/dev"));
            collect(&self.host, depth, &mut devices)?;
            for device in &mut devices {
                let below = device.path.strip_prefix(&self.host);
                device.path = self.container.join(below.unwrap_or(&device.path));
            }
        } else if let Some(device) = Device::of(self.host.clone(), &metadata) {
            devices.push(Device {
                path: self.container.clone(),
                ..device
            });
        }
        if devices.is_empty() {
            return Err(failed("not a device node"));
        }
        Ok(devices)
    }
}

fn is_access(text: &str) -> bool {
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter)) && "rwm".chars().all(once)
}

/// Returns `c 1:* rwm` as config.json has it.
fn rule(text: &str) -> Result<Value> {
    let parsed = || {
        let (kind, rest) = text.split_once(' ')?;
        let (numbers, access) = rest.split_once(' ')?;
        let (major, minor) = numbers.split_once(':')?;
        // -1 is all of them (config-linux.md, "Allowed Device list").
        let number = |text: &str| match text {
            "*" => Some(-1),
            _ => text.parse::<u32>().ok().map(i64::from),
        };
        let is_right = matches!(kind, "a" | "b" | "c") && is_access(access);
        is_right.then_some((kind, number(major)?, number(minor)?, access))
    };
    let Some((kind, major, minor, access)) = parsed() else {
        bail!(
            "invalid device cgroup format '{}': expected one such as `c 1:* rwm`",
            printable(text)
        );
    };
    Ok(json!({
        "allow": true, "type": kind, "major": major, "minor": minor, "access": access,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Owner = Owner {
        is_privileged: false,
        in_user_namespace: false,
    };

    fn found(nodes: &[&str], rules: &[&str], owner: Owner) -> Result<Asked> {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let asked = Devices {
            nodes: own(nodes),
            rules: own(rules),
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
    fn bad_devices_are_refused_in_dockers_words() {
        let gathering = "error gathering device information while adding custom device";
        for (text, expected) in [
            ("/dev/null:/dev/x:rx", "bad mode specified: rx"),
            ("/dev/null:/dev/x:rr", "bad mode specified: rr"),
            (
                "/dev/null:/dev/x:r:w",
                "bad format for path: /dev/null:/dev/x:r:w",
            ),
            ("dev/null", "dev/null is not an absolute path"),
            ("/dev/null:x", "x is not an absolute path"),
            (
                "/dev/absent",
                &format!("{gathering} \"/dev/absent\": no such file or directory"),
            ),
            (
                "/etc/passwd",
                &format!("{gathering} \"/etc/passwd\": not a device node"),
            ),
            ("/etc", &format!("{gathering} \"/etc\": not a device node")),
            (
                "nvidia.com/gpu=all",
                "`--device nvidia.com/gpu=all` names a CDI device",
            ),
        ] {
            let error = found(&[text], &[], ROOT).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for rule in [
            "c 1:3",
            "x 1:3 rwm",
            "c 1:3 x",
            "c 1:3 rwmr",
            "c 1 rwm",
            "c -1:3 r",
            " c 1:3 r",
        ] {
            let error = found(&[], &[rule], ROOT).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid device cgroup format '{rule}'")),
                "{error}"
            );
        }
        for rule in ["c 1:3 rwm", "b *:* m", "a *:* rwm", "a 1:* r"] {
            assert!(found(&[], &[rule], ROOT).is_ok(), "{rule}");
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
