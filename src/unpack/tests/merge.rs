//! What a layer says to the layers below: whiteouts, opaque and implied directories, seen through a real overlay mount.

use crate::unpack::testing::{Scene, Tar, listing};
use std::process::Command;

fn lower() -> Tar {
    Tar::new()
        .directory("./")
        .file("a", "low")
        .entry(b'5', "d", b"", |header| header.set_mode(0o700))
        .file("d/a", "low")
        .file("d/b", "low")
        .directory("d/e")
        .file("d/e/c", "low")
}

/// Returns the names that are visible when `layer` lies over [`lower`], and its mark for an opaque root.
fn merged(case: &str, layer: Tar) -> String {
    let (below, above) = (Scene::new(), Scene::new());
    below.unpack(&lower().finish()).unwrap();
    let unpacked = above.unpack(&layer.finish()).unwrap();
    above.assert_nothing_leaked(case);
    // An opaque root is the mount's business: what is below is left out of it.
    let empty = Scene::new();
    let below = if unpacked.opaque_root { &empty } else { &below };
    let options = format!(
        "lowerdir={}:{}",
        above.root().display(),
        below.root().display()
    );
    let script = "mount -t overlay none -o \"$1\" /mnt && cd /mnt && find . -mindepth 1 | sort | tr '\\n' ' '";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", script, "sh", &options])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && errors.is_empty(),
        "{case}: {errors}"
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    let everything = "./a ./d ./d/a ./d/b ./d/e ./d/e/c";
    for (case, layer, visible) in [
        ("nothing", Tar::new(), everything),
        (
            "a file",
            Tar::new().file("d/.wh.a", ""),
            "./a ./d ./d/b ./d/e ./d/e/c",
        ),
        ("a directory", Tar::new().file(".wh.d", ""), "./a"),
        (
            "what is not there",
            Tar::new().file(".wh.z", ""),
            everything,
        ),
        (
            "the same whiteout twice",
            Tar::new().file(".wh.a", "").file(".wh.a", ""),
            "./d ./d/a ./d/b ./d/e ./d/e/c",
        ),
        (
            "whiteout through a link",
            Tar::new().symlink("l", "d").file("l/.wh.a", ""),
            "./a ./d ./d/b ./d/e ./d/e/c ./l",
        ),
        (
            "smuggled attributes",
            Tar::new()
                .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .directory("d"),
            everything,
        ),
    ] {
        assert_eq!(merged(case, layer), visible, "{case}");
    }
}

#[test]
fn a_whiteout_and_an_entry_of_one_name_hide_what_is_below_and_show_the_entry() {
    for (case, layer, visible) in [
        (
            "whiteout before a file",
            Tar::new().file(".wh.d", "").file("d", ""),
            "./a ./d",
        ),
        (
            "whiteout after a file",
            Tar::new().file("d", "").file(".wh.d", ""),
            "./a ./d",
        ),
        (
            "whiteout before a directory",
            Tar::new().file(".wh.d", "").directory("d"),
            "./a ./d",
        ),
        (
            "whiteout after a directory",
            Tar::new().file("d/new", "").file(".wh.d", ""),
            "./a ./d ./d/new",
        ),
        (
            "whiteout before an implied directory",
            Tar::new().file(".wh.d", "").file("d/e/new", ""),
            "./a ./d ./d/e ./d/e/new",
        ),
        (
            "a file that becomes a directory",
            Tar::new().file("d", "").directory("d").file("d/new", ""),
            "./a ./d ./d/new",
        ),
        (
            "a directory that becomes a file",
            Tar::new().directory("d").file("d", ""),
            "./a ./d",
        ),
    ] {
        assert_eq!(merged(case, layer), visible, "{case}");
    }
}

#[test]
fn opaque_directories_hide_their_content_and_hold_no_whiteouts() {
    for (case, layer, visible) in [
        ("alone", Tar::new().file("d/.wh..wh..opq", ""), "./a ./d"),
        (
            "before its files",
            Tar::new().file("d/.wh..wh..opq", "").file("d/new", ""),
            "./a ./d ./d/new",
        ),
        (
            "after its files",
            Tar::new().file("d/e/new", "").file("d/.wh..wh..opq", ""),
            "./a ./d ./d/e ./d/e/new",
        ),
        (
            "whiteouts before",
            Tar::new()
                .file("d/.wh.a", "")
                .file("d/e/.wh.c", "")
                .file("d/.wh..wh..opq", ""),
            "./a ./d ./d/e",
        ),
        (
            "whiteouts after",
            Tar::new()
                .file("d/.wh..wh..opq", "")
                .file("d/.wh.a", "")
                .file("d/e/.wh.c", ""),
            "./a ./d ./d/e",
        ),
        (
            "whiteouts in a new directory",
            Tar::new()
                .file(".wh.d", "")
                .file("d/.wh.a", "")
                .directory("d"),
            "./a ./d",
        ),
        (
            "the root",
            Tar::new()
                .file(".wh.d", "")
                .file(".wh..wh..opq", "")
                .file("new", ""),
            "./new",
        ),
    ] {
        assert_eq!(merged(case, layer), visible, "{case}");
    }
}

#[test]
fn implied_directories_are_those_whose_lower_metadata_holds() {
    for (case, layer, implied) in [
        (
            "a parent",
            Tar::new().file("d/e/f", ""),
            vec!["", "d", "d/e"],
        ),
        (
            "listed later",
            Tar::new().file("d/e/f", "").directory("d").directory("./"),
            vec!["d/e"],
        ),
        (
            "by a whiteout",
            Tar::new().directory("./").file("d/.wh.a", ""),
            vec!["d"],
        ),
        (
            "opaque: the directory itself is still the lower one",
            Tar::new()
                .directory("/")
                .file("d/e/f", "")
                .file("d/.wh..wh..opq", ""),
            vec!["d"],
        ),
        (
            "replaced: nothing of the lower one",
            Tar::new()
                .directory("./")
                .file(".wh.d", "")
                .file("d/e/f", ""),
            vec![],
        ),
        (
            "an opaque root",
            Tar::new().file(".wh..wh..opq", "").file("d/f", ""),
            vec![""],
        ),
        (
            "removed again",
            Tar::new().directory("./").file("d/e/f", "").file("d", ""),
            vec![],
        ),
        (
            "through a link",
            Tar::new()
                .directory("./")
                .symlink("l", "d/e")
                .file("l/f", ""),
            vec!["d", "d/e"],
        ),
    ] {
        let unpacked = Scene::new().unpack(&layer.finish()).unwrap();
        let implied: Vec<_> = implied.iter().map(|path| path.as_bytes()).collect();
        assert_eq!(unpacked.implied, implied, "{case}");
    }
}

#[test]
fn an_opaque_whiteout_in_the_root_is_reported() {
    let scene = Scene::new();
    let tar = Tar::new().file("x", "").file(".wh..wh..opq", "");
    assert!(scene.unpack(&tar.finish()).unwrap().opaque_root);
    assert!(!listing(&scene.root()).contains("overlay"));
    assert!(!Scene::new().unpack(&lower().finish()).unwrap().opaque_root);
}
