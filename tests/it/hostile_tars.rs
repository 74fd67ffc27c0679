//! Hostile whiteouts, metadata, tars and streams, one a rule: each is refused with that rule or made harmless.

use std::process::Command;

use tar::EntryType;

use crate::harness::ddock::{Ddock, output};
use crate::harness::hostile::{changed, check, one, raw};
use crate::harness::image::{Compression, ImageBuilder, compress};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

#[test]
fn whiteouts_and_the_root_keep_their_meaning() {
    check(&[
        ("whiteout of ..", "whiteout of no name", |_| {
            one(Tree::new().file(".wh...", 0o644, ""))
        }),
        ("whiteout of .", "whiteout of no name", |_| {
            one(Tree::new().file("bin/.wh..", 0o644, ""))
        }),
        ("whiteout of nothing", "whiteout of no name", |_| {
            one(Tree::new().file(".wh.", 0o644, ""))
        }),
        ("whiteout as a parent", "whiteout for a directory", |_| {
            one(Tree::new().file(".wh.bin/f", 0o644, ""))
        }),
        ("opaque outside", "leaves the layer", |_| {
            one(Tree::new().file("../.wh..wh..opq", 0o644, ""))
        }),
        ("AUFS's own", "", |_| {
            one(Tree::new().file(".wh..wh.plnk/1.2", 0o644, ""))
        }),
        ("whiteout as a device", "would be a whiteout", |_| {
            one(Tree::new().device("x", 0, 0))
        }),
        ("root as a link", "root must be a directory", |canary| {
            one(Tree::new().symlink("./", canary))
        }),
        ("root as a pipe", "root must be a directory", |_| {
            one(Tree::new().fifo("."))
        }),
        ("root as a hard link", "root must be a directory", |_| {
            one(Tree::new().file("x", 0o644, "").hardlink("/", "x"))
        }),
    ]);
}

#[test]
fn metadata_is_the_images_or_nothing() {
    check(&[
        ("user ID -1", "no user ID", |_| {
            one(Tree::new().pax("uid", "4294967295").file("x", 0o4755, ""))
        }),
        ("user ID 2^32", "no user ID", |_| {
            one(Tree::new().pax("uid", "4294967296").file("x", 0o4755, ""))
        }),
        ("negative group ID", "no group ID", |_| {
            one(Tree::new().pax("gid", "-2").file("x", 0o644, ""))
        }),
        ("user ID in words", "not a number", |_| {
            one(Tree::new().pax("uid", "root").file("x", 0o644, ""))
        }),
        ("negative time", "", |_| {
            one(Tree::new().pax("mtime", "-1.5").file("x", 0o644, ""))
        }),
        ("time far off", "", |_| {
            one(Tree::new().pax("mtime", "99999999999").file("x", 0o644, ""))
        }),
        ("overlayfs's opaque", "", |_| {
            one(Tree::new()
                .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
                .dir("bin/", 0o755))
        }),
        ("overlayfs's opaque for users", "", |_| {
            one(Tree::new()
                .pax("SCHILY.xattr.user.overlay.opaque", "y")
                .dir("bin/", 0o755))
        }),
        ("overlayfs's redirect", "", |_| {
            let tree = Tree::new().pax("SCHILY.xattr.trusted.overlay.redirect", "/etc");
            one(tree
                .pax("SCHILY.xattr.user.overlay.redirect", "/etc")
                .dir("bin/", 0o755))
        }),
        ("labels of the host", "", |_| {
            one(Tree::new()
                .pax("SCHILY.xattr.security.selinux", "x")
                .file("x", 0o644, ""))
        }),
        ("no such device number", "no device number", |_| {
            changed(Tree::new().device("x", 1, 3), |tar| {
                tar[329..337].copy_from_slice(b"0010000\0");
            })
        }),
    ]);
}

#[test]
fn tars_that_readers_disagree_on_are_refused() {
    check(&[
        ("bad checksum", "checksum", |_| {
            let mut tar = Tree::new().file("x", 0o644, "").tar();
            tar[0] = b'y';
            vec![tar]
        }),
        ("unknown type", "is not known", |_| {
            one(raw(EntryType::new(b'Z'), b"x", ""))
        }),
        ("file named as a directory", "name of a directory", |_| {
            one(Tree::new().file("x/", 0o644, ""))
        }),
        ("two long names", "two long names", |_| {
            let name = |tree: Tree| tree.entry(EntryType::GNULongName, b"x", 0, b"", b"y\0");
            one(name(name(Tree::new())).file("x", 0o644, ""))
        }),
        ("different long names", "two different names", |_| {
            let tree = Tree::new().entry(EntryType::GNULongName, b"x", 0, b"", b"y\0");
            one(tree.pax("path", "z").file("x", 0o644, ""))
        }),
        ("a name without an entry", "no entry after it", |_| {
            one(Tree::new().entry(EntryType::GNULongName, b"x", 0, b"", b"y\0"))
        }),
        (
            "a record that lies about its length",
            "extended header",
            |_| {
                one(Tree::new()
                    .entry(EntryType::XHeader, b"x", 0, b"", b"99 path=x\n")
                    .file("x", 0o644, ""))
            },
        ),
        ("a global path", "global", |_| {
            one(Tree::new().entry(EntryType::XGlobalHeader, b"x", 0, b"", b"10 path=x\n"))
        }),
        ("a name of 2 MiB", "longer than 1 MiB", |_| {
            let name = vec![b'a'; 2 << 20];
            one(Tree::new()
                .entry(EntryType::GNULongName, b"x", 0, b"", &name)
                .file("x", 0o644, ""))
        }),
        ("a negative size", "negative", |_| {
            changed(Tree::new().file("x", 0o644, ""), |tar| {
                tar[124..136].fill(0xff);
            })
        }),
        ("cut off", "ends too early", |_| {
            let tar = Tree::new().file("x", 0o644, [b'x'; 2000]).tar();
            vec![tar[..1000].to_vec()]
        }),
        ("one block of zeros", "one block of zeros", |_| {
            let mut tar = Tree::new().file("x", 0o644, "").tar();
            tar.truncate(1024);
            tar.extend(Tree::new().file("y", 0o644, "").tar());
            vec![tar]
        }),
    ]);
}

#[test]
fn streams_that_are_not_what_they_seem_are_refused() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let tar = || Tree::new().file("x", 0o644, "x").tar();
    let gzip = || compress(tar(), Compression::Gzip);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = gzip();
        change(&mut bytes);
        bytes
    };
    for (number, (case, refusal, bytes)) in [
        (
            "something behind the end",
            "reading the layer",
            changed(|bytes| bytes.extend(b"more")),
        ),
        (
            "a wrong checksum",
            "corrupt",
            changed(|bytes| {
                let at = bytes.len() - 8;
                bytes[at] ^= 1;
            }),
        ),
        (
            "cut off",
            "reading the layer",
            changed(|bytes| bytes.truncate(bytes.len() - 9)),
        ),
        ("xz", "xz", b"\xfd7zXZ\0and more".to_vec()),
        ("bzip2", "bzip2", b"BZh9and more".to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        // It claims the diff ID of what it would be.
        let claimed = crate::harness::image::digest(&tar());
        let image = ImageBuilder::new().layer_as(bytes, Compression::None);
        let image = image.claim_diff_ids(vec![claimed]).build();
        let reference = registry.push(&format!("test/stream:{number}"), &image);
        let output = ddock.run(&["pull", "-q", &reference]);
        assert!(
            output.code == 1 && output.stderr.contains(refusal),
            "{case}: {}",
            output.text()
        );
    }
}

#[test]
fn what_a_layer_may_demand_is_the_users_to_say() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let add = |tree: Tree, number| tree.file(&format!("d{number}/file"), 0o644, [0; 1000]);
    let image = ImageBuilder::new().layer((0..20).fold(Tree::new(), add));
    let reference = registry.push("test/image:latest", &image.build());
    for (name, value, said) in [
        (
            "DDOCK_LAYER_ENTRIES",
            "10",
            "more than 10 entries (`DDOCK_LAYER_ENTRIES` allows more)",
        ),
        (
            "DDOCK_LAYER_SIZE",
            "10k",
            "unpacks to more than 10240 bytes",
        ),
        ("DDOCK_LAYER_DIRECTORIES", "1k", "too many directories"),
        (
            "DDOCK_LAYER_RESERVE",
            "8000p",
            "are to stay free (`DDOCK_LAYER_RESERVE`)",
        ),
        (
            "DDOCK_LAYER_SIZE",
            "much",
            "`DDOCK_LAYER_SIZE` is `much`: expected a number",
        ),
    ] {
        let mut pull = ddock.command(&["pull", "-q", &reference]);
        output(pull.env(name, value)).exits(1).says(said);
    }
    ddock.ok(&["pull", "-q", &reference]);
}

#[test]
fn zeros_take_no_room() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let tree = Tree::new().file("zeros", 0o644, vec![0; 64 << 20]);
    let image = ImageBuilder::new().layer_as(tree.tar(), Compression::Zstd);
    ddock.ok(&["pull", "-q", &registry.push("zeros:1", &image.build())]);
    let used = Command::new("du").arg("-sk").arg(ddock.root()).output();
    let used = String::from_utf8(used.unwrap().stdout).unwrap();
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!(used < 8 << 10, "{used} KiB");
    ddock.ok(&["system", "check"]);
}
