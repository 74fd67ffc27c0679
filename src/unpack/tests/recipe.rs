//! Recipes: every tar is made again to the last bit, and no recipe is trusted.

use crate::unpack::recipe::{Rebuild, Recipe};
use crate::unpack::testing::{Scene, Tar};
use fs_err as fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};

/// Returns the tar that the recipe in the scene makes.
fn rebuilt(scene: &Scene) -> std::io::Result<Vec<u8>> {
    let (file, kept) = scene.recipe();
    let recipe = Recipe {
        file: &file,
        kept: &kept,
    };
    let mut tar = Vec::new();
    let mut rebuild = Rebuild::open(&scene.root(), recipe).map_err(std::io::Error::other)?;
    (&mut rebuild).take(1 << 20).read_to_end(&mut tar)?;
    Ok(tar)
}

/// Unpacks a tar and makes it again.
#[track_caller]
fn assert_rebuilt(tar: &[u8]) {
    let scene = Scene::new();
    scene.unpack(tar).unwrap();
    assert!(rebuilt(&scene).unwrap() == tar);
}

#[test]
fn what_later_entries_replace_is_in_the_tar_again() {
    let tar = Tar::new()
        .file("a", "first")
        .file("a", "second")
        .hard_link("b", "a")
        .file("a", "third")
        .directory("d/")
        .file("d/f", "first")
        .file("d/f", "second")
        .directory("d/e/")
        .file("d/e/g", "deep")
        .file("d", "a file")
        .file("d", "another")
        .directory("d/")
        .file("d/f", "third")
        .symlink("l", "d")
        .file("l/through", "a link")
        .file("l", "no link any more")
        .finish();
    assert_rebuilt(&tar);
}

#[test]
fn what_is_replaced_leaves_no_trace_among_the_files() {
    let scene = Scene::new();
    let tar = Tar::new()
        .file("a", "first")
        .hard_link("b", "a")
        .file("a", "second")
        .directory("d/")
        .file("d/f", "in d")
        .file("d/g", "in d too")
        .hard_link("c", "d/f")
        .symlink("d", "elsewhere")
        .finish();
    scene.unpack(&tar).unwrap();
    assert!(rebuilt(&scene).unwrap() == tar);
    for name in ["a", "b", "c"] {
        let links = fs::metadata(scene.root().join(name)).unwrap().nlink();
        assert_eq!(links, 1, "{name}");
    }
    assert!(!scene.recipe().1.join("1/f").exists());
    assert!(scene.recipe().1.join("1/g").exists());
}

#[test]
fn bodies_that_become_no_file_are_in_the_tar_again() {
    let tar = Tar::new()
        .file(".wh.gone", "a whiteout with a body")
        .file(".wh..wh.plnk/1.2", "AUFS")
        .directory("d/")
        .file("d/.wh..wh..opq", "opaque, with a body")
        .file("d/.wh.f", "")
        .file("d/f", "beside its whiteout")
        .file("gone", "")
        .finish();
    assert_rebuilt(&tar);
}

#[test]
fn what_follows_the_archive_is_in_the_tar_again() {
    let tar = Tar::new().file("f", "x").finish();
    assert_rebuilt(&tar[..tar.len() - 1024]);
    assert_rebuilt(&tar[..tar.len() - 512]);
    assert_rebuilt(&[&tar[..], &[0; 10_000]].concat());
    assert_rebuilt(&[&tar[..], b"garbage"].concat());
    assert_rebuilt(&[0; 1024]);
    assert_rebuilt(b"");
}

#[test]
fn sparse_files_are_in_the_tar_again() {
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let mut map = b"3\n0\n3\n4000\n2\n5000\n0\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abcde");
    let tar = Tar::new().pax(&records).file("x", map);
    let tar = tar.entry(b'S', "old", b"", |header| {
        header.set_size(3);
        let gnu = header.as_mut_bytes();
        gnu[257..265].copy_from_slice(b"ustar  \0");
        gnu[386..410].copy_from_slice(b"00000000005\x0000000000003\0");
        gnu[482..495].copy_from_slice(b"\x0100000000100\0");
    });
    let tar = tar.raw(&[0; 512]).padded(b"abc").finish();
    assert_rebuilt(&tar);
}

#[test]
fn a_name_that_looks_like_a_compressed_stream_is_a_name() {
    // Such a layer can come compressed, and is then read uncompressed from its recipe.
    let tar = Tar::new().file(b"\x1f\x8bname", "x").finish();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let scene = Scene::new();
    scene.unpack(&gzip.finish().unwrap()).unwrap();
    assert!(rebuilt(&scene).unwrap() == tar);
}

/// Compresses records.
fn recipe(records: &[u8]) -> Vec<u8> {
    zstd::encode_all(&[b"ddock recipe 2\n", records].concat()[..], 1).unwrap()
}

#[test]
fn a_recipe_of_the_first_format_is_read() {
    let scene = Scene::new();
    let tar = Tar::new().file("f", "inside").finish();
    scene.unpack(&tar).unwrap();
    let records = b"ddock recipe 1\n\x01\x03abc\x02\x01f\x00\x06\xb4\xf2\xfe\xba\x00";
    let (file, kept) = scene.recipe();
    fs::write(&file, zstd::encode_all(&records[..], 1).unwrap()).unwrap();
    let recipe = Recipe {
        file: &file,
        kept: &kept,
    };
    let mut rebuild = Rebuild::open(&scene.root(), recipe).unwrap();
    let mut tar = Vec::new();
    rebuild.read_to_end(&mut tar).unwrap();
    assert_eq!(tar, b"abcinside");
    let (spoilt, failure) = rebuild.finish();
    assert!(spoilt.is_empty() && failure.is_none(), "{spoilt:?}");
}

#[test]
fn a_recipe_of_several_frames_is_read_to_its_end() {
    let scene = Scene::new();
    let archive = Tar::new().file("f", "x").finish();
    let noise: Vec<u8> = (0..100_000_u32)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect();
    let tar = [&archive[..], &noise, b"the end"].concat();
    scene.unpack(&tar).unwrap();
    assert!(rebuilt(&scene).unwrap() == tar);
    let recipe = fs::read(scene.recipe().0).unwrap();
    let frames = recipe
        .windows(4)
        .filter(|bytes| *bytes == b"\x28\xb5\x2f\xfd");
    assert!(frames.count() > 1);
    // Frames that are whole, and too few.
    let last = recipe
        .windows(4)
        .rposition(|bytes| bytes == b"\x28\xb5\x2f\xfd");
    fs::write(scene.recipe().0, &recipe[..last.unwrap()]).unwrap();
    assert!(rebuilt(&scene).unwrap_err().to_string().contains("cut off"));
}

#[test]
fn a_recipe_reads_nothing_but_files_of_its_layer() {
    let scene = Scene::new();
    scene
        .unpack(&Tar::new().file("f", "inside").finish())
        .unwrap();
    let root = scene.root();
    symlink(scene.canary(), root.join("out")).unwrap();
    symlink("f", root.join("link")).unwrap();
    let null = rustix::fs::makedev(1, 5);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("zero"), kind, mode, null).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), kind, mode, 0).unwrap();
    let canary = format!("{}/file", scene.canary());
    let paths = [
        "../canary/file",
        "out/file",
        &canary,
        "/f",
        "link",
        "zero",
        "fifo",
        "f\0",
        "",
        ".",
        "f/",
        "../root/f",
        "/proc/self/exe",
        "f/../../canary/file",
    ];
    for path in paths {
        let length = u8::try_from(path.len()).unwrap();
        let content = [&[2, length], path.as_bytes(), &[0, 6, 1, 2, 3, 4, 0]].concat();
        fs::write(scene.recipe().0, recipe(&content)).unwrap();
        assert_eq!(rebuilt(&scene).unwrap(), [0; 6], "{path}");
    }
    let content = recipe(b"\x02\x01f\x00\x06\0\0\0\0\x00");
    fs::write(scene.recipe().0, content).unwrap();
    assert_eq!(rebuilt(&scene).unwrap(), b"inside");
}

#[test]
fn recipes_that_make_no_sense_are_refused() {
    let scene = Scene::new();
    for (records, why) in [
        (&b""[..], "cut off"),
        (b"\x07", "not known"),
        (b"\0\0", "behind its end"),
        (b"\x01\x05abc", "cut off"),
        (
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc",
            "cut off",
        ),
        (
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02abc",
            "too large",
        ),
        (
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "too large",
        ),
        (b"\x02\x81\x20f", "too long"),
        (b"\x05", "cut off"),
        (b"\x05\x07", "cut off"),
        (b"\x02\x03f", "cut off"),
        (b"\x03\x05f\0", "cut off"),
    ] {
        fs::write(scene.recipe().0, recipe(records)).unwrap();
        let error = rebuilt(&scene).unwrap_err().to_string();
        assert!(error.contains(why), "{}: {error}", records.escape_ascii());
    }
    fs::write(
        scene.recipe().0,
        zstd::encode_all(&b"ddock recipe 3\n\0"[..], 1).unwrap(),
    )
    .unwrap();
    assert!(rebuilt(&scene).unwrap_err().to_string().contains("format"));
    // More of a file than there can be: zeros, as many as are asked for.
    let content = recipe(b"\x02\x01f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0");
    fs::write(scene.recipe().0, content).unwrap();
    assert_eq!(rebuilt(&scene).unwrap().len(), 1 << 20);
}
