//! Limits of block devices: weights, and bytes and operations a second.

use crate::options::Io;
use anyhow::{Context, Result, ensure};
use rustix::fs::{major, makedev, minor};
use serde_json::{Map, Value, json};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Returns the limits that were asked for as config.json's `linux.resources.blockIO`; zero is no limit.
pub(crate) fn build(io: &Io) -> Result<Map<String, Value>> {
    let mut limits = Map::new();
    if let Some(weight) = io.weight.filter(|&weight| weight != 0) {
        limits.insert("weight".to_owned(), weight.into());
    }
    let mut weights = Vec::new();
    for device in io.weight_devices.iter().filter(|it| it.weight != 0) {
        let (major, minor) = whole_disk(&device.path)?;
        weights.push(json!({ "major": major, "minor": minor, "weight": device.weight }));
    }
    insert(&mut limits, "weightDevice", weights);
    for (name, devices) in [
        ("throttleReadBpsDevice", &io.read_bytes),
        ("throttleWriteBpsDevice", &io.write_bytes),
    ] {
        let devices = devices.iter().map(|it| (&*it.path, it.rate));
        insert(&mut limits, name, throttles(devices)?);
    }
    for (name, devices) in [
        ("throttleReadIOPSDevice", &io.read_operations),
        ("throttleWriteIOPSDevice", &io.write_operations),
    ] {
        let devices = devices.iter().map(|it| (&*it.path, it.rate));
        insert(&mut limits, name, throttles(devices)?);
    }
    Ok(limits)
}

fn throttles<'a>(devices: impl Iterator<Item = (&'a str, u64)>) -> Result<Vec<Value>> {
    let mut throttles = Vec::new();
    for (path, rate) in devices.filter(|(_, rate)| *rate != 0) {
        let (major, minor) = whole_disk(path)?;
        throttles.push(json!({ "major": major, "minor": minor, "rate": rate }));
    }
    Ok(throttles)
}

fn insert(limits: &mut Map<String, Value>, name: &str, devices: Vec<Value>) {
    if !devices.is_empty() {
        limits.insert(name.to_owned(), devices.into());
    }
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

    fn bytes(text: &str) -> Io {
        Io {
            read_bytes: vec![text.parse().unwrap()],
            ..Io::default()
        }
    }

    #[test]
    fn only_block_devices_that_are_there_are_limited() {
        for (text, expected) in [
            ("/dev/absent:1mb", "/dev/absent"),
            ("/dev/null:1mb", "`/dev/null` is not a block device"),
        ] {
            let error = build(&bytes(text)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let io = Io {
            weight: Some(0),
            ..bytes("/dev/absent:0")
        };
        assert!(build(&io).unwrap().is_empty());
    }
}
