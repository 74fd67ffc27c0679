//! What a container may do to block devices: `DEVICE:NUMBER` of `--blkio-weight-device`, `--device-read-bps` and the like.

use crate::human::{parse_bytes, printable};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// How much of the block devices' time the container may use. Zero is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Io {
    /// `--blkio-weight`, 10 to 1000.
    pub(crate) weight: Option<u16>,
    /// `--blkio-weight-device`
    pub(crate) weight_devices: Vec<DeviceWeight>,
    /// `--device-read-bps`
    pub(crate) read_bytes: Vec<DeviceBytes>,
    /// `--device-write-bps`
    pub(crate) write_bytes: Vec<DeviceBytes>,
    /// `--device-read-iops`
    pub(crate) read_operations: Vec<DeviceOperations>,
    /// `--device-write-iops`
    pub(crate) write_operations: Vec<DeviceOperations>,
}

impl Io {
    pub(crate) fn check(&self) -> Result<()> {
        let is_weight = |weight| weight == 0 || (10..=1000).contains(&weight);
        ensure!(
            self.weight.is_none_or(is_weight),
            "Range of blkio weight is from 10 to 1000"
        );
        Ok(())
    }
}

/// A device's weight, 10 to 1000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceWeight {
    pub(crate) path: String,
    pub(crate) weight: u16,
}

/// Bytes a second of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceBytes {
    pub(crate) path: String,
    pub(crate) rate: u64,
}

/// Operations a second of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceOperations {
    pub(crate) path: String,
    pub(crate) rate: u64,
}

impl FromStr for DeviceWeight {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, weight) = split(text)?;
        let weight: Option<u16> = weight.parse().ok();
        let weight = weight.filter(|weight| *weight == 0 || (10..=1000).contains(weight));
        let weight = weight.with_context(|| {
            format!(
                "invalid weight for device: {}: expected a number from 10 to 1000",
                printable(text)
            )
        })?;
        Ok(Self { path, weight })
    }
}

impl FromStr for DeviceBytes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, rate) = split(text)?;
        let rate = parse_bytes(&rate).with_context(|| {
            invalid_rate(
                text,
                "<device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
            )
        })?;
        Ok(Self { path, rate })
    }
}

impl FromStr for DeviceOperations {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, rate) = split(text)?;
        let rate = rate.parse().ok().with_context(|| {
            invalid_rate(
                text,
                "<device-path>:<number>. Number must be a positive integer",
            )
        })?;
        Ok(Self { path, rate })
    }
}

fn invalid_rate(text: &str, format: &str) -> String {
    format!(
        "invalid rate for device: {}. The correct format is {format}",
        printable(text)
    )
}

/// Splits `/dev/sda:1mb`.
fn split(text: &str) -> Result<(String, String)> {
    let Some((path, value)) = text.split_once(':') else {
        bail!("bad format: {}", printable(text));
    };
    ensure!(
        path.starts_with("/dev/"),
        "bad format for device path: {}",
        printable(text)
    );
    Ok((path.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_limits_are_refused_in_dockers_words() {
        let refused = |error: Option<anyhow::Error>| error.unwrap().to_string();
        let weight = |text: &str| refused(text.parse::<DeviceWeight>().err());
        let bytes = |text: &str| refused(text.parse::<DeviceBytes>().err());
        let operations = |text: &str| refused(text.parse::<DeviceOperations>().err());
        for (error, expected) in [
            (weight("/dev/sda"), "bad format: /dev/sda"),
            (weight("sda:500"), "bad format for device path: sda:500"),
            (
                weight("/dev/sda:5"),
                "invalid weight for device: /dev/sda:5",
            ),
            (
                bytes("/dev/sda:x"),
                "invalid rate for device: /dev/sda:x. The correct format is <device-path>:<number>[<unit>]",
            ),
            (bytes("/dev/sda:-1"), "invalid rate for device: /dev/sda:-1"),
            (
                operations("/dev/sda:1k"),
                "invalid rate for device: /dev/sda:1k. The correct format is <device-path>:<number>. ",
            ),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
        for (weight, is_right) in [(5, false), (1001, false), (0, true), (10, true)] {
            let weight = Some(weight);
            let io = Io {
                weight,
                ..Io::default()
            };
            assert_eq!(io.check().is_ok(), is_right);
        }
    }
}
