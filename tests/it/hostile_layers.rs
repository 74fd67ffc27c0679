//! Hostile names and links, one a rule: each is refused with that rule or made harmless, and nothing outside the store changes.

use tar::EntryType;

use crate::harness::hostile::{check, one, raw, two};
use crate::harness::tree::Tree;

#[test]
fn names_stay_in_the_layer() {
    check(&[
        ("..", "its name leaves the layer", |_| {
            one(Tree::new().file("../canary/file", 0o644, "x"))
        }),
        (".. further on", "its name leaves the layer", |_| {
            one(Tree::new().file("a/../../x", 0o644, "x"))
        }),
        ("rooted ..", "its name leaves the layer", |_| {
            one(Tree::new().file("/../x", 0o644, "x"))
        }),
        ("directory ..", "its name leaves the layer", |_| {
            one(Tree::new().dir("../", 0o777))
        }),
        ("many ..", "its name leaves the layer", |_| {
            one(Tree::new().dir(&"../".repeat(30), 0o777))
        }),
        ("absolute", "", |canary| {
            one(Tree::new().file(&format!("{canary}/file"), 0o644, "x"))
        }),
        (".. in a PAX path", "its name leaves the layer", |_| {
            one(Tree::new()
                .pax("path", "../canary/file")
                .file("x", 0o644, "x"))
        }),
        (".. in a GNU long name", "its name leaves the layer", |_| {
            let long = Tree::new().entry(EntryType::GNULongName, b"x", 0, b"", b"../canary/file\0");
            one(long.file("x", 0o644, "x"))
        }),
        ("long component", "longer than 255", |_| {
            one(Tree::new().file(&"a".repeat(256), 0o644, ""))
        }),
        ("long path", "longer than 4096", |_| {
            one(Tree::new().file(&("a/".repeat(2050) + "a"), 0o644, ""))
        }),
        ("no name", "name is empty", |_| {
            one(raw(EntryType::Regular, b"", ""))
        }),
        ("NUL in a name", "malformed", |_| {
            one(Tree::new().pax("path", "a\0b").file("x", 0o644, ""))
        }),
        ("newline in a name", "", |_| {
            one(Tree::new().file("a\nb", 0o644, ""))
        }),
        ("not UTF-8", "", |_| {
            one(raw(EntryType::Regular, b"\xff\xfe", ""))
        }),
        ("terminal codes", "\\u{1b}[2J", |_| {
            one(Tree::new().file("../\x1b[2J", 0o644, ""))
        }),
        ("1,000 directories deep", "", |_| {
            one(Tree::new().dir(&"d/".repeat(1000), 0))
        }),
    ]);
}

#[test]
fn links_of_the_layer_lead_nowhere_else() {
    check(&[
        ("file through a link", "", |canary| {
            one(Tree::new().symlink("x", canary).file("x/file", 0o600, "x"))
        }),
        ("file through a relative link", "", |_| {
            one(Tree::new()
                .symlink("x", &"../".repeat(9))
                .file("x/tmp/file", 0o600, "x"))
        }),
        ("one level up", "", |_| {
            one(Tree::new()
                .symlink("up", "..")
                .file("up/meta.json", 0o600, "x"))
        }),
        ("a chain of links", "", |canary| {
            let tree = Tree::new()
                .symlink("up", "..")
                .symlink("x", &format!("up/up{canary}"));
            one(tree.file("x/file", 0o600, "x"))
        }),
        ("file over a link", "", |canary| {
            one(Tree::new()
                .symlink("x", &format!("{canary}/file"))
                .file("x", 0o600, "x"))
        }),
        ("directory over a link", "", |canary| {
            one(Tree::new().symlink("x", canary).dir("x/", 0o700))
        }),
        ("directory through a link", "", |canary| {
            one(Tree::new().symlink("x", canary).dir("x/directory/", 0o700))
        }),
    ]);
}

#[test]
fn what_is_said_of_links_is_not_of_what_they_lead_to() {
    check(&[
        ("attributes on a link", "", |canary| {
            one(Tree::new()
                .pax("SCHILY.xattr.user.a", "1")
                .symlink("x", canary))
        }),
        ("owner and time of a link", "", |canary| {
            one(Tree::new().owner(7, 7).mtime(7).symlink("x", canary))
        }),
        ("device through a link", "", |canary| {
            one(Tree::new().symlink("x", canary).device("x/file", 1, 3))
        }),
        ("pipe through a link", "", |canary| {
            one(Tree::new().symlink("x", canary).fifo("x/pipe"))
        }),
        ("whiteout through a link", "", |canary| {
            one(Tree::new()
                .symlink("x", canary)
                .file("x/.wh.file", 0o644, ""))
        }),
        ("opaque through a link", "", |canary| {
            one(Tree::new()
                .symlink("x", canary)
                .file("x/.wh..wh..opq", 0o644, ""))
        }),
        ("links in a circle", "too many symbolic links", |_| {
            one(Tree::new()
                .symlink("x", "y")
                .symlink("y", "x")
                .file("x/f", 0o644, ""))
        }),
        ("a file as a directory", "is no directory", |_| {
            one(Tree::new().file("x", 0o644, "").file("x/y", 0o644, ""))
        }),
        ("a link to nothing", "symbolic link to nothing", |_| {
            one(Tree::new().symlink("x", ""))
        }),
    ]);
}

#[test]
fn links_of_lower_layers_lead_nowhere_else() {
    check(&[
        ("file", "", |canary| {
            two(
                Tree::new().symlink("x", canary),
                Tree::new().file("x/file", 0o600, "x"),
            )
        }),
        ("file through a relative link", "", |_| {
            let below = Tree::new().symlink("x", &"../".repeat(20));
            two(below, Tree::new().file("x/canary/file", 0o600, "x"))
        }),
        ("whiteout", "", |canary| {
            two(
                Tree::new().symlink("x", canary),
                Tree::new().file("x/.wh.file", 0o644, ""),
            )
        }),
        ("opaque", "", |canary| {
            two(
                Tree::new().symlink("x", canary),
                Tree::new().file("x/.wh..wh..opq", 0o644, ""),
            )
        }),
        ("directory", "", |canary| {
            two(
                Tree::new().symlink("x", canary),
                Tree::new().dir("x/directory/", 0o700),
            )
        }),
        ("directory over a link", "", |canary| {
            two(
                Tree::new().symlink("x", canary),
                Tree::new().dir("x/", 0o700).file("x/file", 0o600, "x"),
            )
        }),
        ("device", "", |canary| {
            two(
                Tree::new().symlink("x", canary),
                Tree::new().device("x/file", 1, 3),
            )
        }),
    ]);
}

#[test]
fn links_of_several_layers_lead_nowhere_else() {
    check(&[
        ("links in a circle", "too many symbolic links", |_| {
            let below = Tree::new().symlink("x", "y").symlink("y", "x");
            two(below, Tree::new().file("x/f", 0o644, ""))
        }),
        ("a part of /proc", "", |_| {
            two(
                Tree::new().symlink("x", "/proc/1/root"),
                Tree::new().file("x/tmp/file", 0o600, "x"),
            )
        }),
        ("links of both layers", "", |canary| {
            let below = Tree::new().symlink("x", "y").symlink("z", canary);
            two(
                below,
                Tree::new().symlink("y", "z").file("x/file", 0o600, "x"),
            )
        }),
        (
            "hard link through a link",
            "neither its layer nor those below have",
            |canary| {
                two(
                    Tree::new().symlink("x", canary),
                    Tree::new().hardlink("y", "x/file"),
                )
            },
        ),
        ("hard link to a link, then written", "", |canary| {
            let below = Tree::new().symlink("x", &format!("{canary}/file"));
            let mut layers = two(below, Tree::new().hardlink("y", "x"));
            layers.push(Tree::new().file("y", 0o600, "x").tar());
            layers
        }),
    ]);
}

#[test]
fn hard_links_name_files_of_the_image() {
    check(&[
        (
            "absolute",
            "neither its layer nor those below have",
            |canary| one(Tree::new().hardlink("x", &format!("{canary}/file"))),
        ),
        ("..", "leaves the layer", |_| {
            one(Tree::new().hardlink("x", "../canary/file"))
        }),
        (
            "through a link",
            "neither its layer nor those below have",
            |canary| one(Tree::new().symlink("y", canary).hardlink("x", "y/file")),
        ),
        ("to a link, then written", "", |canary| {
            let tree = Tree::new().symlink("y", &format!("{canary}/file"));
            one(tree.hardlink("x", "y").file("x", 0o600, "x"))
        }),
        ("to a directory", "no file of the layer", |_| {
            one(Tree::new().dir("d/", 0o755).hardlink("x", "d"))
        }),
        ("to a directory below", "hard link to the directory", |_| {
            one(Tree::new().hardlink("x", "bin"))
        }),
        ("to the root", "no file of the layer", |_| {
            one(Tree::new().hardlink("x", "/"))
        }),
        ("to itself", "no file of the layer", |_| {
            one(Tree::new().hardlink("x", "x"))
        }),
        (
            "to what comes later",
            "neither its layer nor those below have",
            |_| one(Tree::new().hardlink("x", "y").file("y", 0o644, "")),
        ),
        ("to a whiteout", "no file of the layer", |_| {
            one(Tree::new().file(".wh.bin", 0o644, "").hardlink("x", "bin"))
        }),
        ("to what a whiteout hides", "no file of the layer", |_| {
            one(Tree::new()
                .file(".wh.bin", 0o644, "")
                .hardlink("x", "bin/busybox"))
        }),
    ]);
}
