//! Random tars: the reader never panics and never takes more memory than it may; no sequence of entries leaves the root.

use crate::unpack::archive::{Archive, Kind};
use crate::unpack::testing::{Scene, Tar};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rustix::fd::AsFd;
use std::ffi::OsStr;

/// A tar with something of everything that the reader knows.
fn sample() -> Vec<u8> {
    let sparse: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let mut map = b"2\n0\n3\n4000\n2\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abcde");
    Tar::new()
        .directory("d/")
        .pax(&[("mtime", b"-1.5"), ("path", b"long"), ("size", b"3")])
        .file("x", "abc")
        .long_name("n".repeat(300))
        .hard_link("x", "y".repeat(200))
        .pax(&sparse)
        .file("x", map)
        .entry(b'S', "old sparse", b"", |header| {
            header.set_size(3);
            let gnu = header.as_mut_bytes();
            gnu[257..265].copy_from_slice(b"ustar  \0");
            gnu[386..410].copy_from_slice(b"00000000005\x0000000000003\0");
            gnu[482..495].copy_from_slice(b"\x0100000000100\0");
        })
        .raw(&[0; 512])
        .padded(b"abc")
        .device(b'3', "null", 1, 3)
        .finish()
}

/// Reads the whole archive; what is wrong with it ends it.
fn read(bytes: &[u8]) {
    let mut archive = Archive::new(bytes, 1000);
    while let Ok(Some(entry)) = archive.next() {
        assert!(entry.name.len() <= 1 << 20);
        if let Kind::File { map, .. } = &entry.kind {
            assert!(map.as_ref().is_none_or(|map| map.segments.len() <= 1 << 20));
        }
        while let Ok(chunk) = archive.chunk() {
            let length = chunk.len().min(100);
            if length == 0 {
                break;
            }
            archive.consume(length);
        }
    }
}

/// Makes the checksum of each block right, so that a change to a header is not the end of it.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[148..156].iter().any(|byte| *byte != 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Names that meet each other, in all the ways that names can.
fn name() -> impl Strategy<Value = String> {
    let component = select(vec![
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
        "up",
        "out",
        ".wh...",
    ]);
    vec(component, 1..4).prop_map(|components| components.join("/"))
}

fn append(tar: Tar, canary: &str, kind: u8, name: &str, target: &str) -> Tar {
    // Most names would only be refused, and end the layer, with a `..` too many.
    let name = name.trim_start_matches("../");
    match kind {
        0 => tar.file(name.trim_end_matches('/'), target),
        1 => tar.symlink(name, target),
        2 => tar.symlink("out", canary),
        3 => tar.hard_link(name, target),
        4 => tar.entry(b'6', name, b"", |_| {}),
        _ => tar.directory(name),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..3000)) {
        let mut bytes = bytes;
        read(&bytes);
        mend(&mut bytes);
        read(&bytes);
    }

    #[test]
    fn no_change_to_a_tar_makes_the_reader_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        mend(&mut bytes);
        read(&bytes);
        read(&bytes[..length.index(bytes.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_entries_leaves_the_root(entries in vec((0_u8..8, name(), name()), 1..12)) {
        let scene = Scene::new();
        let canary = scene.canary();
        // Entry by entry more, because the first that is refused ends a layer.
        let mut accepted = Tar::new().symlink("out", &canary).symlink("up", "..");
        for (kind, name, target) in entries {
            let layer = append(accepted.clone(), &canary, kind, &name, &target);
            if scene.unpack(&layer.clone().finish()).is_ok() {
                accepted = layer;
            }
            scene.assert_nothing_leaked("random");
            let temp = fs_err::File::open(scene.root().parent().unwrap()).unwrap();
            crate::sys::tree::remove(temp.as_fd(), OsStr::new("root")).unwrap();
            fs_err::create_dir(scene.root()).unwrap();
        }
    }
}

#[test]
fn the_sample_is_read_to_its_end() {
    let sample = sample();
    let mut archive = Archive::new(&sample[..], 1000);
    let mut names = Vec::new();
    while let Some(entry) = archive.next().unwrap() {
        names.push(String::from_utf8(entry.name).unwrap());
    }
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(names[4], "old sparse");
}
