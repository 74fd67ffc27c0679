//! Limits of block devices: weights, and bytes and operations a second.

use crate::human::{parse_bytes, printable};
use crate::spec::request::Io;
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{major, makedev, minor};
use serde_json::{Map, Value, json};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Returns the limits that were asked for as config.json's `linux.resources.blockIO`.
pub(crate) fn build(io: &Io) -> Result<Map<String, Value>> {
    let mut limits = Map::new();
    if let Some(weight) = io.weight.filter(|&weight| weight != 0) {
        ensure!(
            (10..=1000).contains(&weight),
            "Range of blkio weight is from 10 to 1000"
        );
        limits.insert("weight".to_owned(), weight.into());
    }
    let mut weights = Vec::new();
    for text in &io.weight_devices {
        let (path, weight) = split(text)?;
        let weight: Option<u16> = weight.parse().ok();
        let weight = weight.filter(|weight| *weight == 0 || (10..=1000).contains(weight));
        let weight = weight.with_context(|| {
            format!(
                "invalid weight for device: {}: expected a number from 10 to 1000",
                printable(text)
            )
        })?;
        if weight != 0 {
            let (major, minor) = whole_disk(path)?;
            weights.push(json!({ "major": major, "minor": minor, "weight": weight }));
        }
    }
    insert(&mut limits, "weightDevice", weights);
    for (name, texts) in [
        ("throttleReadBpsDevice", &io.read_bytes),
        ("throttleWriteBpsDevice", &io.write_bytes),
    ] {
        insert(&mut limits, name, throttles(texts, BYTES, parse_bytes)?);
    }
    for (name, texts) in [
        ("throttleReadIOPSDevice", &io.read_operations),
        ("throttleWriteIOPSDevice", &io.write_operations),
    ] {
        let parse = |text: &str| text.parse().ok();
        insert(&mut limits, name, throttles(texts, OPERATIONS, parse)?);
    }
    Ok(limits)
}

const BYTES: &str = "<device-path>:<number>[<unit>]. Number must be a positive integer. \
    Unit is optional and can be kb, mb, or gb";
const OPERATIONS: &str = "<device-path>:<number>. Number must be a positive integer";

fn throttles(
    texts: &[String],
    format: &str,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<Vec<Value>> {
    let mut throttles = Vec::new();
    for text in texts {
        let (path, rate) = split(text)?;
        let rate = parse(rate).with_context(|| {
            format!(
                "invalid rate for device: {}. The correct format is {format}",
                printable(text)
            )
        })?;
        // Zero is no limit.
        if rate != 0 {
            let (major, minor) = whole_disk(path)?;
            throttles.push(json!({ "major": major, "minor": minor, "rate": rate }));
        }
    }
    Ok(throttles)
}

fn insert(limits: &mut Map<String, Value>, name: &str, devices: Vec<Value>) {
    if !devices.is_empty() {
        limits.insert(name.to_owned(), devices.into());
    }
}

/// Splits `/dev/sda:1mb`.
fn split(text: &str) -> Result<(&str, &str)> {
    let Some((path, value)) = text.split_once(':') else {
        bail!("bad format: {}", printable(text));
    };
    ensure!(
        path.starts_with("/dev/"),
        "bad format for device path: {}",
        printable(text)
    );
    Ok((path, value))
}

/// Returns the numbers of the block device at `path`; of the whole disk if that is a partition, as the
/// kernel limits nothing less.
fn whole_disk(path: &str) -> Result<(u32, u32)> {
    let metadata = fs_err::metadata(path)?;
    ensure!(
        metadata.file_type().is_block_device(),
        "`{path}` is not a block device, and only those can be limited"
    );
    let device = metadata.rdev();
    let (own_major, own_minor) = (major(device), minor(device));
    let directory = format!("/sys/dev/block/{own_major}:{own_minor}");
    if !fs_err::exists(format!("{directory}/partition"))? {
        return Ok((own_major, own_minor));
    }
    // A partition's directory lies in its disk's.
    let numbers = fs_err::read_to_string(format!("{directory}/../dev"))?;
    let disk = numbers
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some(makedev(major.parse().ok()?, minor.parse().ok()?)));
    let disk = disk.with_context(|| format!("finding the disk of `{path}`"))?;
    Ok((major(disk), minor(disk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn bad_limits_are_refused_in_dockers_words() {
        let weights = |text| Io {
            weight_devices: one(text),
            ..Io::default()
        };
        let bytes = |text| Io {
            read_bytes: one(text),
            ..Io::default()
        };
        let operations = |text| Io {
            write_operations: one(text),
            ..Io::default()
        };
        let weight = |weight| Io {
            weight: Some(weight),
            ..Io::default()
        };
        for (io, expected) in [
            (weight(5), "Range of blkio weight is from 10 to 1000"),
            (weight(1001), "Range of blkio weight is from 10 to 1000"),
            (weights("/dev/sda"), "bad format: /dev/sda"),
            (weights("sda:500"), "bad format for device path: sda:500"),
            (
                weights("/dev/sda:5"),
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
            (bytes("/dev/absent:1mb"), "/dev/absent"),
            (bytes("/dev/null:1mb"), "`/dev/null` is not a block device"),
        ] {
            let error = build(&io).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let io = Io {
            weight: Some(0),
            read_bytes: one("/dev/absent:0"),
            ..Io::default()
        };
        assert!(build(&io).unwrap().is_empty());
    }
}
