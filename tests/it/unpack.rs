//! Layers on disk and merged: every attribute as the image has it, every whiteout as the specification says.

use std::process::Command;

use crate::harness::ddock::Ddock;
use crate::harness::image::{Compression, Image, ImageBuilder, busybox, busybox_tree};
use crate::harness::registry::Registry;
use crate::harness::scratch::{Scratch, command_succeeds};
use crate::harness::tree::{MTIME, Tree};
use crate::harness::user::User;

/// Lists a tree with everything that find(1) knows of a file: path, type, mode, owner, links, times, link target.
fn listing(dir: &str) -> Vec<String> {
    let format = "%P|%y|%m|%U:%G|%n|%T@|%l\\n";
    let mut find = Command::new("find");
    find.args([dir, "-mindepth", "1", "-printf", format]);
    // Directories have other link counts on other file systems.
    let text = command_succeeds(&mut find);
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split('|').collect();
            if fields[1] == "d" {
                fields[4] = "-";
            }
            fields.join("|")
        })
        .collect();
    lines.sort();
    lines
}

/// Returns the layers' directories, base first.
fn lower_directories(ddock: &Ddock, image: &str) -> Vec<String> {
    let told: serde_json::Value = serde_json::from_str(&ddock.ok(&["inspect", image])).unwrap();
    let lower = told[0]["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    lower.split(':').rev().map(str::to_owned).collect()
}

#[test]
fn a_real_image_is_what_umoci_makes_of_it() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let reference = registry.push("test/distribution:latest", &Image::distribution());
    ddock.ok(&["pull", "-q", &reference]);
    let scratch = Scratch::new();
    let layout = fs_err::canonicalize("cache/test-images/distribution").unwrap();
    let index = fs_err::read_to_string(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    let image = format!("{}:{}", layout.display(), name.as_str().unwrap());
    let bundle = scratch.join("bundle");
    command_succeeds(
        Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle),
    );
    let theirs = listing(bundle.join("rootfs").to_str().unwrap());
    let ours = listing(&lower_directories(&ddock, &reference)[0]);
    assert!(theirs.len() > 1000);
    let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    let added: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "umoci alone: {missing:#?}\nddock alone: {added:#?}"
    );
}

#[test]
fn every_kind_of_entry_comes_out_as_it_went_in() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(200));
    let tree = busybox_tree()
        .owner(1, 2)
        .dir("d/", 0o1777)
        .file("d/setuid", 0o4755, "x")
        .file("d/setgid", 0o2711, "x")
        .symlink("d/link", "../nowhere")
        .owner(0, 0)
        .device("d/device", 1, 3)
        .fifo("d/fifo")
        .file("d/one", 0o600, "same")
        .hardlink("d/two", "d/one")
        .dir(&"d".repeat(90), 0o755)
        .file(&long, 0o644, "long")
        .mtime(0)
        .file("d/epoch", 0o644, "")
        .mtime(MTIME)
        .pax("mtime", "1600000000.123456789")
        .file("d/nanoseconds", 0o644, "")
        .pax("SCHILY.xattr.user.note", "a\nb")
        .file("d/attribute", 0o644, "")
        .pax("SCHILY.xattr.security.capability", CAP_NET_RAW)
        .file("d/capable", 0o755, "")
        .entry(tar::EntryType::Regular, b"d/caf\xe9", 0o644, b"", b"");
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    let script = "cd /d; stat -c '%n %A %u:%g' . setuid setgid link device fifo; stat -c %h one; readlink link; \
        stat -c %t:%T device; stat -c %Y epoch; cat two; cat /ddd*/fff*; ls | grep -c ^caf";
    assert_eq!(
        ddock.sh(&[], &image, script),
        ". drwxrwxrwt 1:2\nsetuid -rwsr-xr-x 1:2\nsetgid -rwx--s--x 1:2\nlink lrwxrwxrwx 1:2\n\
         device crw-rw-rw- 0:0\nfifo prw-r--r-- 0:0\n2\n../nowhere\n1:3\n0\nsamelong1\n"
    );
    let layer = &lower_directories(&ddock, &image)[0];
    let attribute = |file: &str, name: &str| {
        let mut buffer = [0; 256];
        let path = format!("{layer}/d/{file}");
        let length = rustix::fs::getxattr(path.as_str(), name, &mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    assert_eq!(attribute("attribute", "user.note"), b"a\nb");
    assert_eq!(attribute("capable", "security.capability"), CAP_NET_RAW);
    let listed = listing(&format!("{layer}/d"));
    let nanoseconds = listed.iter().find(|line| line.starts_with("nanoseconds|"));
    assert!(
        nanoseconds.unwrap().contains("|1600000000.1234567890|"),
        "{listed:#?}"
    );
    let parent = listing(layer);
    let directory = parent.iter().find(|line| line.starts_with("d|")).unwrap();
    assert!(
        directory.contains(&format!("|{MTIME}.0")),
        "a directory's time: {directory}"
    );
}

/// `VFS_CAP_REVISION_2` with `CAP_NET_RAW` permitted and effective (capabilities(7)).
const CAP_NET_RAW: &[u8] = &[
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn a_file_of_eight_gibibytes_of_holes_takes_no_room() {
    let scratch = Scratch::new();
    let large = fs_err::File::create(scratch.join("large")).unwrap();
    large.set_len(8 << 30).unwrap();
    rustix::io::pwrite(&large, b"data", 5 << 30).unwrap();
    // One says sizes in base 256, which octal digits do not reach; the other in a map before the content.
    for format in ["--format=gnu", "--format=posix"] {
        let tar = scratch.join("tar");
        let mut command = Command::new("tar");
        command.args(["--create", "--sparse", format]);
        command.arg("--file").arg(&tar).arg("--directory");
        command_succeeds(command.arg(scratch.path()).arg("large"));
        for user in [None, Some(User::with_ranges())] {
            let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
            let tar = fs_err::read(&tar).unwrap();
            let image = ddock.pull(busybox().layer_as(tar, Compression::Gzip));
            let script = "stat -c %s /large; [ $(stat -c %b /large) -lt 1024 ] && echo holes; \
                dd if=/large bs=1M skip=5120 count=1 2>/dev/null | head -c 4";
            let said = ddock.sh(&[], &image, script);
            assert_eq!(said, "8589934592\nholes\ndata", "{format}");
            ddock.run(&["system", "check"]).exits(0);
        }
    }
}

/// Pulls an image of busybox and these layers; returns what `script` prints in it.
#[track_caller]
fn merged(layers: Vec<Tree>, script: &str) -> String {
    let image = layers.into_iter().fold(busybox(), ImageBuilder::layer);
    let (ddock, image) = Ddock::with(image);
    ddock.sh(&[], &image, script)
}

#[test]
fn whiteouts_hide_what_is_below() {
    let below = Tree::new()
        .file("file", 0o644, "")
        .dir("dir/", 0o755)
        .file("dir/in", 0o644, "")
        .dir("kept/", 0o755)
        .file("kept/gone", 0o644, "")
        .file("kept/stays", 0o644, "");
    let above = Tree::new()
        .file(".wh.file", 0o644, "")
        .file(".wh.dir", 0o644, "")
        .file("kept/.wh.gone", 0o644, "")
        .file(".wh.never-was", 0o644, "");
    let script = "ls -d /file /dir /.wh* 2>/dev/null; ls -A /kept";
    assert_eq!(merged(vec![below, above], script), "stays\n");
}

#[test]
fn an_opaque_directory_hides_what_is_below_it() {
    for opaque_first in [true, false] {
        let above = Tree::new().dir("d/", 0o700);
        let above = if opaque_first {
            above
                .file("d/.wh..wh..opq", 0o644, "")
                .file("d/both", 0o644, "new")
        } else {
            above
                .file("d/both", 0o644, "new")
                .file("d/.wh..wh..opq", 0o644, "")
        };
        let below = Tree::new()
            .dir("d/", 0o755)
            .file("d/old", 0o644, "")
            .file("d/both", 0o644, "old");
        assert_eq!(
            merged(vec![below, above], "ls -A /d; cat /d/both; stat -c %a /d"),
            "both\nnew700\n"
        );
    }
}

#[test]
fn whiteouts_in_an_opaque_directory_leave_no_ghosts() {
    let below = Tree::new().dir("d/", 0o755).file("d/old", 0o644, "");
    let above = Tree::new()
        .dir("d/", 0o755)
        .file("d/.wh..wh..opq", 0o644, "")
        .file("d/.wh.old", 0o644, "")
        .file("d/new", 0o644, "");
    assert_eq!(merged(vec![below, above], "ls -A /d"), "new\n");
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let above = busybox_tree().file(".wh..wh..opq", 0o644, "");
    let below = Tree::new().file("old", 0o644, "");
    assert_eq!(
        merged(vec![below, above], "ls -d /old 2>/dev/null; ls -d /bin"),
        "/bin\n"
    );
}

#[test]
fn a_whiteout_and_a_directory_of_one_name_make_it_new() {
    for whiteout_first in [true, false] {
        let below = Tree::new().dir("d/", 0o755).file("d/old", 0o644, "");
        let above = if whiteout_first {
            Tree::new().file(".wh.d", 0o644, "").dir("d/", 0o755)
        } else {
            Tree::new().dir("d/", 0o755).file(".wh.d", 0o644, "")
        };
        let above = above.file("d/new", 0o644, "");
        assert_eq!(merged(vec![below, above], "ls -A /d"), "new\n");
    }
}

#[test]
fn kinds_may_change_from_layer_to_layer() {
    let below = Tree::new()
        .file("a", 0o644, "file")
        .dir("b/", 0o755)
        .file("b/in", 0o644, "")
        .symlink("c", "b");
    let above = Tree::new()
        .dir("a/", 0o755)
        .file("a/in", 0o644, "")
        .file("b", 0o644, "file")
        .dir("c/", 0o755);
    let script = "stat -c %F /a /b /c; ls -A /a /c";
    assert_eq!(
        merged(vec![below, above], script),
        "directory\nregular file\ndirectory\n/a:\nin\n\n/c:\n"
    );
}

#[test]
fn attributes_that_overlayfs_obeys_are_not_taken_from_an_image() {
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let below = Tree::new().dir("d/", 0o755).file("d/old", 0o644, "");
        let above = Tree::new()
            .pax(&format!("SCHILY.xattr.{name}"), "y")
            .dir("d/", 0o755)
            .file("d/new", 0o644, "");
        assert_eq!(
            merged(vec![below, above], "ls -A /d"),
            "new\nold\n",
            "{name}"
        );
    }
}

#[test]
fn as_many_layers_as_the_kernel_can_are_fine() {
    let layers = (0..300)
        .map(|number| Tree::new().file(&format!("layers/{number}"), 0o644, ""))
        .collect();
    assert_eq!(merged(layers, "ls /layers | wc -l"), "300\n");
}
