//! `--device` and `--device-cgroup-rule`: the devices that a container may use besides those that all have.

use crate::human::printable;
use crate::options::mount::clean;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The devices that the container may use besides those that all have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Devices {
    /// `--device`, in order.
    pub(crate) nodes: Vec<DeviceOptions>,
    /// `--device-cgroup-rule`, in order.
    pub(crate) rules: Vec<DeviceRule>,
}

/// `HOST[:CONTAINER[:ACCESS]]`: a device of the host, or all in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceOptions {
    pub(crate) host: PathBuf,
    pub(crate) container: PathBuf,
    /// Some of `r`, `w` and `m`.
    pub(crate) access: String,
}

impl FromStr for DeviceOptions {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
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
            host: clean(Path::new(host)),
            container: clean(Path::new(container)),
            access: access.to_owned(),
        })
    }
}

/// `TYPE MAJOR:MINOR ACCESS`: devices that may be used, by their numbers; -1 is all of them, as config.json has it
/// (config-linux.md, "Allowed Device list").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRule {
    /// `a`, `b` or `c`
    pub(crate) kind: String,
    pub(crate) major: i64,
    pub(crate) minor: i64,
    /// Some of `r`, `w` and `m`.
    pub(crate) access: String,
}

impl FromStr for DeviceRule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = || {
            let (kind, rest) = text.split_once(' ')?;
            let (numbers, access) = rest.split_once(' ')?;
            let (major, minor) = numbers.split_once(':')?;
            let number = |text: &str| match text {
                "*" => Some(-1),
                _ => text.parse::<u32>().ok().map(i64::from),
            };
            let is_right = matches!(kind, "a" | "b" | "c") && is_access(access);
            is_right.then_some(Self {
                kind: kind.to_owned(),
                major: number(major)?,
                minor: number(minor)?,
                access: access.to_owned(),
            })
        };
        parsed().with_context(|| {
            format!(
                "invalid device cgroup format '{}': expected one such as `c 1:* rwm`",
                printable(text)
            )
        })
    }
}

fn is_access(text: &str) -> bool {
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter)) && "rwm".chars().all(once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_devices_are_refused_in_dockers_words() {
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
                "nvidia.com/gpu=all",
                "`--device nvidia.com/gpu=all` names a CDI device",
            ),
        ] {
            let error = text.parse::<DeviceOptions>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn rules_have_a_kind_two_numbers_and_an_access() {
        for rule in [
            "c 1:3",
            "x 1:3 rwm",
            "c 1:3 x",
            "c 1:3 rwmr",
            "c 1 rwm",
            "c -1:3 r",
            " c 1:3 r",
        ] {
            let error = rule.parse::<DeviceRule>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid device cgroup format '{rule}'")),
                "{error}"
            );
        }
        for rule in ["c 1:3 rwm", "b *:* m", "a *:* rwm", "a 1:* r"] {
            assert!(rule.parse::<DeviceRule>().is_ok(), "{rule}");
        }
    }
}
