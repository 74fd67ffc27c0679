//! Exactness: what GNU tar makes of a tar, where GNU tar is right, and the rest entry by entry.

use crate::unpack::testing::{MTIME, Scene, Tar, listing, options};
use crate::unpack::{Options, OverlayAttributes, Owners, Skipped};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns what GNU tar makes of a tar.
fn unpacked_by_tar(bytes: &[u8]) -> String {
    let temp = tempfile::tempdir().unwrap();
    fs_err::write(temp.path().join("tar"), bytes).unwrap();
    let root = temp.path().join("root");
    fs_err::create_dir(&root).unwrap();
    let status = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--same-owner",
            "--numeric-owner",
        ])
        .args(["--warning=no-timestamp", "-xpf", "../tar"])
        .current_dir(&root)
        .status()
        .unwrap();
    assert!(status.success());
    listing(&root)
}

fn owned(header: &mut tar::Header, mode: u32, uid: u64, gid: u64) {
    header.set_mode(mode);
    header.set_uid(uid);
    header.set_gid(gid);
}

/// Every type, with owners, special bits and times; directories that nobody may write to come before their files.
fn everything() -> Tar {
    let mut tar = Tar::new()
        .entry(b'5', "./", b"", |header| owned(header, 0o1751, 3, 4))
        .entry(b'5', "closed/", b"", |header| owned(header, 0o555, 5, 6))
        .file("closed/file", "x")
        .entry(b'5', "group/", b"", |header| owned(header, 0o2775, 0, 50))
        .file("group/file", "x")
        .directory("group/directory")
        .entry(b'5', "none/", b"", |header| owned(header, 0, 7, 7))
        .file("none/file", "")
        .entry(b'5', "sticky", b"", |header| owned(header, 0o1777, 0, 0))
        .file("implied/by/file", "x")
        .entry(0, "old/", b"", |_| {})
        .entry(0, "old/file", b"old", |_| {})
        .entry(b'7', "contiguous", b"x", |_| {})
        .symlink("link", "closed/file")
        .symlink("dangling", "/nowhere/at/all")
        .symlink("long link", "long/".repeat(50))
        .hard_link("hard link", "closed/file")
        .hard_link("./hard link 2", "/hard link")
        .hard_link("hard link to link", "link")
        .device(b'3', "null", 1, 3)
        .device(b'4', "block", 0xfff, 0xf_ffff)
        .entry(b'6', "fifo", b"", |header| owned(header, 0o6620, 8, 9))
        .file(b"\xff\xfe\n\t", "not UTF-8")
        .long_name(format!("{}/{}", "n".repeat(255), "m".repeat(255)))
        .file("x", "long");
    for mode in [0o4755, 0o2755, 0o1755, 0o6711, 0o7000, 0o777, 0o000] {
        tar = tar
            .entry(b'0', format!("root {mode:o}"), b"x", |header| {
                owned(header, mode, 0, 0);
            })
            .entry(b'0', format!("other {mode:o}"), b"x", |header| {
                owned(header, mode, 1000, 65_534);
            });
    }
    tar.pax(&[("mtime", b"1234567890.123456789"), ("uid", b"3000000000")])
        .file("nanoseconds", "")
        .pax(&[("mtime", b"-1.25")])
        .symlink("before 1970", "x")
        .pax(&[("mtime", b"0")])
        .directory("epoch")
        .pax(&[("path", "p\u{e4}x\nnewline".as_bytes())])
        .file("x", vec![1; 700_000])
        .pax(&[
            ("SCHILY.xattr.user.binary", b"\0\n\xff"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
        ])
        .entry(b'0', "capable", b"x", |header| owned(header, 0o4755, 1, 1))
        .pax(&[("SCHILY.xattr.user.a=b", b"c")])
        .directory("attributes")
}

/// `cap_net_raw+ep`, as the kernel stores it (linux/capability.h, `struct vfs_cap_data`).
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn every_type_of_entry_is_as_gnu_tar_makes_it() {
    let bytes = everything().finish();
    let scene = Scene::new();
    let unpacked = scene.unpack(&bytes).unwrap();
    let implied = ["implied", "implied/by", &"n".repeat(255)];
    assert_eq!(
        unpacked.implied,
        implied.map(|path| path.as_bytes().to_vec())
    );
    assert_eq!(unpacked.skipped, BTreeSet::new());
    // GNU tar gives implied directories the time of day.
    let known = |list: &str| -> Vec<String> {
        let is_implied = |line: &&str| {
            implied
                .iter()
                .any(|path| line.starts_with(&format!("/{path} ")))
        };
        list.lines()
            .filter(|line| !is_implied(line))
            .map(str::to_owned)
            .collect()
    };
    let list = listing(&scene.root());
    assert_eq!(known(&list), known(&unpacked_by_tar(&bytes)));
    assert!(list.contains("/implied 40755 0:0 0.000000000\n"), "{list}");
}

#[test]
fn numbers_that_octal_digits_do_not_reach_are_as_gnu_tar_makes_them() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    fs_err::create_dir(&tree).unwrap();
    for (name, uid, seconds) in [
        ("owner", 3_000_000, 1),
        ("far off", 0, 9_000_000_000_i64),
        ("before 1970", 4_000_000_000, -9),
    ] {
        let path = tree.join(name);
        fs_err::write(&path, name).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
        let mut touch = Command::new("touch");
        touch.arg(format!("--date=@{seconds}")).arg(&path);
        assert!(touch.status().unwrap().success());
    }
    // Its own format writes them in base 256.
    let tar = Command::new("tar")
        .args(["--create", "--format=gnu", "."])
        .current_dir(&tree)
        .output()
        .unwrap();
    let scene = Scene::new();
    scene.unpack(&tar.stdout).unwrap();
    let list = listing(&scene.root());
    assert_eq!(list, unpacked_by_tar(&tar.stdout));
    for line in [
        "/owner 100644 3000000:3000000 1.000000000",
        "/far off 100644 0:0 9000000000.000000000",
        "/before 1970 100644 4000000000:4000000000 -9.000000000",
    ] {
        assert!(list.contains(line), "{line}: {list}");
    }
}

#[test]
fn global_headers_that_say_nothing_of_entries_are_passed_over() {
    // As `git archive` writes it.
    let comment = crate::unpack::testing::pax_record("comment", b"0123456789abcdef");
    let tar = |tar: Tar| tar.file("one", "1").directory("two");
    let global = |tar: Tar| tar.entry(b'g', "pax_global_header", &comment, |_| {});
    let expected = lines(tar(Tar::new()));
    assert_eq!(lines(tar(global(Tar::new()))), expected);
    assert_eq!(lines(global(tar(Tar::new()))), expected);
}

#[test]
fn the_umask_does_not_matter() {
    let scene = Scene::new();
    let other = Scene::new();
    let bytes = everything().finish();
    other.unpack(&bytes).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
            scene.unpack(&bytes).unwrap();
        });
    });
    assert_eq!(listing(&scene.root()), listing(&other.root()));
}

#[test]
fn what_the_store_stands_in_does_not_matter() {
    let scene = Scene::new();
    let other = Scene::new();
    let bytes = everything().finish();
    other.unpack(&bytes).unwrap();
    rustix::fs::chown(
        scene.root(),
        Some(rustix::fs::Uid::from_raw(5)),
        Some(rustix::fs::Gid::from_raw(5)),
    )
    .unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o2777);
    rustix::fs::chmod(scene.root(), mode).unwrap();
    scene.unpack(&bytes).unwrap();
    assert_eq!(listing(&scene.root()), listing(&other.root()));
}

/// Makes a sparse file's tar with GNU tar.
fn sparse_tar(format: &[&str]) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let file = fs_err::File::create(temp.path().join("sparse")).unwrap();
    // More runs than an old GNU header has room for, and a hole at the end.
    for at in 0..40_u64 {
        rustix::io::pwrite(&file, &[b'x'; 4096], at * 65_536 + 4096).unwrap();
    }
    rustix::fs::ftruncate(&file, 10_000_000).unwrap();
    let output = Command::new("tar")
        .args(["-cS", "--mtime=@1000000000", "--numeric-owner"])
        .args(format)
        .arg("-C")
        .arg(temp.path())
        .arg("sparse")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn sparse_files_are_expanded_with_their_holes() {
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let bytes = sparse_tar(format);
        let scene = Scene::new();
        scene.unpack(&bytes).unwrap();
        let file = fs_err::metadata(scene.root().join("sparse")).unwrap();
        assert_eq!(file.len(), 10_000_000, "{format:?}");
        // ext4 needs a block more to say where they are, from when it has written them.
        let blocks = file.blocks() * 512 / 4096;
        assert!((40..=41).contains(&blocks), "{format:?}: {blocks}");
        let last_line = |list: &str| list.lines().last().unwrap().to_owned();
        let list = listing(&scene.root());
        assert_eq!(
            last_line(&list),
            last_line(&unpacked_by_tar(&bytes)),
            "{format:?}"
        );
    }
}

/// Unpacks and returns the listing without its root, each line without the default time.
fn lines(tar: Tar) -> Vec<String> {
    let scene = Scene::new();
    scene.unpack(&tar.directory("./").finish()).unwrap();
    let list = listing(&scene.root()).replace(&format!(" {MTIME}.000000000"), "");
    list.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_last_of_several_entries_holds() {
    let of_x = "1 bytes 2d711642b726";
    for (case, tar, expected) in [
        (
            "file over file",
            Tar::new().file("a", "y").file("./a", "x"),
            vec![format!("/a 100644 0:0 {of_x}")],
        ),
        (
            "a new file does not change the old one's other name",
            Tar::new().file("a", "").hard_link("b", "a").file("a", "x"),
            vec![
                format!("/a 100644 0:0 {of_x}"),
                "/b 100644 0:0 0 bytes e3b0c44298fc".to_owned(),
            ],
        ),
        (
            "a directory keeps its content and takes the metadata",
            Tar::new()
                .pax(&[("SCHILY.xattr.user.old", b"1")])
                .directory("d")
                .file("d/f", "x")
                .pax(&[("SCHILY.xattr.user.new", b"1")])
                .entry(b'5', "d/", b"", |header| owned(header, 0o700, 1, 2)),
            vec![
                "/d 40700 1:2 user.new=1".to_owned(),
                format!("/d/f 100644 0:0 {of_x}"),
            ],
        ),
    ] {
        assert_eq!(lines(tar), expected, "{case}");
    }
}

#[test]
fn what_an_entry_replaces_is_gone() {
    let of_x = "1 bytes 2d711642b726";
    for (case, tar, expected) in [
        (
            "a file replaces a directory and all in it",
            Tar::new()
                .file("d/e/f", "")
                .file("d/.wh.w", "")
                .file("d", "x"),
            vec![format!("/d 100644 0:0 {of_x}")],
        ),
        (
            "a link to itself",
            Tar::new().file("a", "x").hard_link("a", "./a"),
            vec![format!("/a 100644 0:0 {of_x}")],
        ),
        (
            "a link in the place of a file",
            Tar::new().file("a", "x").file("b", "").hard_link("b", "a"),
            vec![
                format!("/a 100644 0:0 first a {of_x}"),
                format!("/b 100644 0:0 first a {of_x}"),
            ],
        ),
    ] {
        assert_eq!(lines(tar), expected, "{case}");
    }
}

#[test]
fn parents_that_are_links_lead_where_they_lead_in_the_layer() {
    let tar = Tar::new()
        .directory("usr/lib")
        .symlink("lib", "/usr/lib/../lib")
        .symlink("usr/up", "../../../new/deep")
        .file("lib/f", "x")
        .file("usr/up/g", "x");
    let expected = [
        "/lib 120777 0:0 -> /usr/lib/../lib",
        "/new 40755 0:0 0.000000000",
        "/new/deep 40755 0:0 0.000000000",
        "/new/deep/g 100644 0:0 1 bytes 2d711642b726",
        "/usr 40755 0:0 0.000000000",
        "/usr/lib 40755 0:0",
        "/usr/lib/f 100644 0:0 1 bytes 2d711642b726",
        "/usr/up 120777 0:0 -> ../../../new/deep",
    ];
    assert_eq!(lines(tar), expected);
}

#[test]
fn everything_is_ours_where_there_is_one_id() {
    let scene = Scene::new();
    let options = Options {
        owners: Owners::Squashed,
        overlay: OverlayAttributes::User,
        ..options()
    };
    let tar = everything().file("epoch/.wh..wh..opq", "").finish();
    scene.unpack_with(&tar, &options).unwrap();
    let list = listing(&scene.root());
    assert!(list.lines().all(|line| line.contains(" 0:0 ")), "{list}");
    assert!(list.contains("/other 6711 106711 0:0"), "{list}");
    assert!(list.contains("user.overlay.opaque=y"), "{list}");
}

#[test]
fn what_an_ordinary_user_cannot_make_is_noted() {
    // CAP_MKNOD is what an ordinary user's own namespace does not give.
    let scene = Scene::new();
    let tar = Tar::new()
        .device(b'3', "null", 1, 3)
        .file(".wh.gone", "")
        .entry(b'6', "fifo", b"", |_| {})
        .pax(&[("SCHILY.xattr.user.a", b"1")])
        .symlink("link", "fifo")
        .file(".wh..wh.plnk/1", "");
    let unpacked = std::thread::scope(|scope| {
        let unpack = || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            sets.effective.remove(rustix::thread::CapabilitySet::MKNOD);
            rustix::thread::set_capabilities(None, sets).unwrap();
            scene.unpack(&tar.finish()).unwrap()
        };
        scope.spawn(unpack).join().unwrap()
    });
    let expected = [
        Skipped::Device,
        Skipped::UnsupportedAttribute,
        Skipped::Aufs,
    ];
    assert_eq!(unpacked.skipped, BTreeSet::from(expected));
    let list = listing(&scene.root());
    assert!(
        !list.contains("null") && list.contains("/fifo 10644"),
        "{list}"
    );
    assert!(list.contains("/gone 20000 0:0"), "{list}");
    assert!(!Path::new(&scene.root().join(".wh..wh.plnk")).exists());
}
