//! Compressed streams: what is inflated, what is hashed, and what is refused.

use crate::digest::Digest;
use crate::unpack::layer;
use crate::unpack::testing::{Scene, Tar, options};
use std::io::{self, Read, Write as _};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A tar of several chunks, with bytes behind its end.
fn sample() -> Vec<u8> {
    let noise: Vec<u8> = (0..3_000_000_u32)
        .map(|at| at.to_le_bytes()[at as usize % 3])
        .collect();
    let mut tar = Tar::new().file("big", noise).file("small", "x").finish();
    tar.resize(tar.len() + 1_000_000, 7);
    tar
}

#[test]
fn every_way_to_compress_gives_the_same_layer() {
    let tar = sample();
    let (one, two) = tar.split_at(700_000);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    for (case, stream) in [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("gzip members", [gzip(one), gzip(b""), gzip(two)].concat()),
        ("padded gzip", [gzip(&tar), vec![0; 5000]].concat()),
        ("zstd", zstd(&tar)),
        ("zstd frames", [zstd(one), zstd(two)].concat()),
        (
            "skippable frames",
            [&skippable[..], &zstd(&tar), &skippable].concat(),
        ),
    ] {
        let scene = Scene::new();
        let unpacked = scene.unpack(&stream).unwrap();
        assert_eq!(unpacked.diff_id, Digest::of(&tar), "{case}");
        assert_eq!(unpacked.tar_size, tar.len() as u64, "{case}");
        assert_eq!(unpacked.size, 3_000_001, "{case}");
        assert_eq!(unpacked.entries, 2, "{case}");
    }
}

#[test]
fn streams_that_are_not_right_to_the_end_are_refused() {
    let tar = sample();
    let (gzipped, zstandard) = (gzip(&tar), zstd(&tar));
    let mut flipped = gzipped.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    for (case, stream) in [
        ("cut gzip", gzipped[..gzipped.len() - 1].to_vec()),
        ("cut zstd", zstandard[..zstandard.len() - 1].to_vec()),
        ("gzip with a wrong checksum", flipped),
        ("garbage behind gzip", [&gzipped[..], b"garbage"].concat()),
        (
            "garbage behind the padding",
            [&gzipped[..], b"\0\0x"].concat(),
        ),
        ("garbage behind zstd", [&zstandard[..], b"garbage"].concat()),
        ("xz", b"\xfd7zXZ\0\0".to_vec()),
        ("bzip2", b"BZh91AY&SY".to_vec()),
        ("an HTML page", b"<!doctype html>".repeat(50)),
    ] {
        let scene = Scene::new();
        assert!(scene.unpack(&stream).is_err(), "{case}");
    }
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    for stream in [vec![], vec![0; 1024], gzip(&[0; 1024]), gzip(b"")] {
        let unpacked = Scene::new().unpack(&stream).unwrap();
        assert_eq!(unpacked.entries, 0);
        assert_eq!(unpacked.implied, [b""]);
    }
}

/// Gives its bytes one by one, and then fails.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.split_first() {
            None => Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset")),
            Some((first, rest)) => {
                buffer[0] = *first;
                self.0 = rest;
                Ok(1)
            }
        }
    }
}

#[test]
fn the_streams_own_error_is_the_cause() {
    let scene = Scene::new();
    let gzipped = gzip(&Tar::new().file("x", "x").finish());
    let error = layer(&mut Broken(&gzipped), &scene.root(), None, &options()).unwrap_err();
    let cause = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!(cause.unwrap().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_full_disk_says_so() {
    let scene = Scene::new();
    let script = "mount -t tmpfs -o size=64k none \"$1\" && exec \"$2\" --exact \"$3\" --nocapture";
    if std::env::var_os("UNPACK_ROOT").is_none() {
        let status = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(scene.root())
            .arg(std::env::current_exe().unwrap())
            .arg("unpack::tests::stream::a_full_disk_says_so")
            .env("UNPACK_ROOT", scene.root())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let root = std::path::PathBuf::from(std::env::var_os("UNPACK_ROOT").unwrap());
    let tar = Tar::new().file("x", vec![1; 1 << 20]).finish();
    let error = layer(&mut &tar[..], &root, None, &options()).unwrap_err();
    let cause = error.chain().find_map(|cause| cause.downcast_ref());
    assert_eq!(cause, Some(&rustix::io::Errno::NOSPC), "{error:#}");
    assert!(format!("{error:#}").contains("layer entry `x`: writing it"));
}
