//! Hostile layers, one a rule: each is refused with that rule or made harmless, and nothing outside the root changes.

use crate::unpack::testing::{Scene, Tar, check, listing};

#[test]
fn names_do_not_leave_the_root() {
    let long = "a/".repeat(2048) + "a";
    check(&[
        ("..", "`../canary/file`: its name leaves", &|_| {
            Tar::new().file("../canary/file", "x")
        }),
        (".. in the middle", "leaves the layer", &|_| {
            Tar::new().file("a/../../canary/file", "x")
        }),
        ("rooted ..", "leaves the layer", &|_| {
            Tar::new().file("/../canary/file", "x")
        }),
        (".. as directory", "leaves the layer", &|_| {
            Tar::new().directory("../canary/")
        }),
        ("absolute names are rooted", "", &|canary| {
            Tar::new()
                .long_name(format!("{canary}/file"))
                .file("x", "x")
        }),
        (".. in the ustar prefix", "leaves the layer", &|_| {
            Tar::new().entry(b'0', "file", b"x", |header| {
                let prefix = &mut header.as_ustar_mut().unwrap().prefix;
                prefix[..9].copy_from_slice(b"../canary");
            })
        }),
        (".. in a GNU long name", "leaves the layer", &|_| {
            Tar::new().long_name("../canary/file").file("x", "x")
        }),
        (".. in a PAX path", "leaves the layer", &|_| {
            Tar::new()
                .pax(&[("path", b"../canary/file")])
                .file("x", "x")
        }),
        (".. in a sparse name", "leaves the layer", &|_| {
            let records: [(&str, &[u8]); 4] = [
                ("GNU.sparse.name", b"../canary/file"),
                ("GNU.sparse.map", b"0,1"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.size", b"1"),
            ];
            Tar::new().pax(&records).file("x", "x")
        }),
        ("long component", "longer than 255", &|_| {
            Tar::new().long_name("a".repeat(256)).file("x", "x")
        }),
        ("long path", "longer than 4096", &|_| {
            Tar::new().long_name(&long).file("x", "x")
        }),
        ("no name", "name is empty", &|_| Tar::new().file("", "x")),
        ("terminal codes in a name", "a\\u{1b}[2J\\n", &|_| {
            Tar::new().file("../a\x1b[2J\n", "x")
        }),
    ]);
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    check(&[
        ("file through an absolute link", "", &|canary| {
            Tar::new().symlink("x", canary).file("x/file", "x")
        }),
        ("file through a relative link", "", &|_| {
            Tar::new().symlink("x", "../canary").file("x/file", "x")
        }),
        ("file through a chain of links", "", &|_| {
            let tar = Tar::new().symlink("up", "..").symlink("x", "up/up/canary");
            tar.file("x/file", "x").file("up/canary/file", "x")
        }),
        ("a link is replaced, not followed", "", &|canary| {
            Tar::new()
                .symlink("x", format!("{canary}/file"))
                .file("x", "x")
        }),
        ("a directory replaces a link", "", &|canary| {
            let tar = Tar::new().symlink("x", canary);
            tar.entry(b'5', "x/", b"", |header| header.set_mode(0o777))
                .file("x/file", "x")
        }),
        ("link, directory and link again", "", &|canary| {
            let tar = Tar::new().symlink("x", canary).directory("x");
            tar.symlink("x", canary).file("x/file", "x")
        }),
        ("attributes on a link", "", &|canary| {
            Tar::new()
                .pax(&[("SCHILY.xattr.user.a", b"1")])
                .symlink("x", canary)
        }),
        ("owner and times of a link", "", &|canary| {
            Tar::new()
                .symlink("y", canary)
                .pax(&[("uid", b"7"), ("mtime", b"7.5")])
                .symlink("x", canary)
        }),
        ("links in a circle", "too many symbolic links", &|_| {
            Tar::new()
                .symlink("x", "y")
                .symlink("y", "x")
                .file("x/a", "")
        }),
        ("a file is no directory", "`x` is no directory", &|_| {
            Tar::new().file("x", "").file("x/y", "")
        }),
        ("whiteout through a link", "", &|canary| {
            Tar::new().symlink("x", canary).file("x/.wh.file", "")
        }),
        ("opaque through a link", "", &|canary| {
            Tar::new().symlink("x", canary).file("x/.wh..wh..opq", "")
        }),
        ("a link to nothing", "symbolic link to nothing", &|_| {
            Tar::new().symlink("x", "")
        }),
        ("device through a link", "", &|canary| {
            Tar::new().symlink("x", canary).device(b'3', "x/file", 1, 3)
        }),
    ]);
}

#[test]
fn hard_links_reach_nothing_outside() {
    check(&[
        ("absolute", "", &|canary| {
            Tar::new().hard_link("x", format!("{canary}/file"))
        }),
        ("..", "leaves the layer", &|_| {
            Tar::new().hard_link("x", "../canary/file")
        }),
        ("through a link", "", &|canary| {
            Tar::new().symlink("y", canary).hard_link("x", "y/file")
        }),
        ("to a link, then written", "", &|canary| {
            let tar = Tar::new().symlink("y", format!("{canary}/file"));
            tar.hard_link("x", "y").file("x", "x")
        }),
        ("to a link, metadata of its own", "", &|canary| {
            let tar = Tar::new().symlink("y", format!("{canary}/file"));
            tar.entry(b'1', "x", b"", |header| {
                header.as_old_mut().linkname[0] = b'y';
                header.set_mode(0o4777);
                header.set_uid(7);
            })
        }),
        ("to a directory", "no file of the layer", &|_| {
            Tar::new().directory("d").hard_link("x", "d")
        }),
        ("to the root", "no file of the layer", &|_| {
            Tar::new().hard_link("x", "/")
        }),
        ("to what comes later", "", &|_| {
            Tar::new().hard_link("x", "y").file("y", "")
        }),
        ("to a whiteout", "no file of the layer", &|_| {
            Tar::new().file(".wh.y", "").hard_link("x", "y")
        }),
        (
            "in a directory it replaces",
            "no file of the layer",
            &|_| Tar::new().file("d/f", "").hard_link("d", "d/f"),
        ),
    ]);
}

#[test]
fn the_root_and_whiteouts_keep_their_meaning() {
    check(&[
        ("root as a link", "root must be a directory", &|canary| {
            Tar::new().symlink("./", canary)
        }),
        ("root as a file", "name of a directory", &|_| {
            Tar::new().file("./", "x")
        }),
        ("root as a fifo", "root must be a directory", &|_| {
            Tar::new().entry(b'6', ".", b"", |_| {})
        }),
        ("root as a hard link", "root must be a directory", &|_| {
            Tar::new().file("x", "").hard_link("/", "x")
        }),
        ("whiteout of ..", "whiteout of no name", &|_| {
            Tar::new().file(".wh...", "")
        }),
        ("whiteout of .", "whiteout of no name", &|_| {
            Tar::new().file("d/.wh..", "")
        }),
        ("whiteout of nothing", "whiteout of no name", &|_| {
            Tar::new().file(".wh.", "")
        }),
        ("whiteout as parent", "whiteout for a directory", &|_| {
            Tar::new().file(".wh.d/f", "")
        }),
        ("opaque outside", "leaves the layer", &|_| {
            Tar::new().file("../canary/.wh..wh..opq", "")
        }),
        ("whiteout as a device", "would be a whiteout", &|_| {
            Tar::new().device(b'3', "x", 0, 0)
        }),
        ("an odd device number", "no device number", &|_| {
            Tar::new().device(b'4', "x", 0x1000, 0)
        }),
        ("a removed tree's links", "", &|canary| {
            let tar = Tar::new().symlink("d/e/x", canary).symlink("d/y", "../..");
            tar.file("d", "now a file")
        }),
    ]);
}

#[test]
fn owners_are_ids_or_refused() {
    let uid = |value: &'static [u8]| move |_: &str| Tar::new().pax(&[("uid", value)]).file("x", "");
    let gid = |value: &'static [u8]| move |_: &str| Tar::new().pax(&[("gid", value)]).file("x", "");
    check(&[
        ("uid -1", "no user ID", &uid(b"4294967295")),
        ("uid 2^32", "no user ID", &uid(b"4294967296")),
        ("negative uid", "no user ID", &uid(b"-1")),
        ("negative gid", "no group ID", &gid(b"-2")),
        ("gid 2^32 - 1", "no group ID", &gid(b"4294967295")),
        ("not a number", "not a number", &uid(b"root")),
        ("base-256 uid", "no user ID", &|_| {
            Tar::new().entry(b'0', "x", b"", |header| {
                header.as_old_mut().uid = [0xff; 8];
            })
        }),
    ]);
}

#[test]
fn attributes_that_speak_to_overlayfs_or_the_host_are_dropped() {
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.kept", b""),
        ])
        .directory("d")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
            ("LIBARCHIVE.xattr.trusted%2eoverlay.redirect", b"eA"),
            ("SCHILY.xattr.security.selinux", b"label"),
        ])
        .file("f", "");
    let scene = Scene::new();
    let unpacked = scene.unpack(&tar.finish()).unwrap();
    let list = listing(&scene.root());
    assert!(
        list.contains("user.kept=\n") && !list.contains("overlay"),
        "{list}"
    );
    assert!(!list.contains("selinux"), "{list}");
    assert_eq!(unpacked.skipped.len(), 2);
}
