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
            "./a ./d",
        ),
        (
            "whiteouts after",
            Tar::new()
                .file("d/.wh..wh..opq", "")
                .file("d/.wh.a", "")
                .file("d/e/.wh.c", ""),
            "./a ./d",
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

#[test]
fn hard_links_to_files_of_lower_layers_are_reported() {
    for (case, layer, links) in [
        (
            "a file below",
            Tar::new().hard_link("x", "d/a"),
            vec!["x d/a"],
        ),
        (
            "a file of its own",
            Tar::new().file("y", "").hard_link("x", "y"),
            vec![],
        ),
        (
            "a link to a link",
            Tar::new().hard_link("x", "a").hard_link("d/y", "x"),
            vec!["d/y a", "x a"],
        ),
        (
            "written over",
            Tar::new()
                .hard_link("x", "a")
                .file("x", "")
                .hard_link("y", "a")
                .directory("y"),
            vec![],
        ),
        (
            "removed with its directory",
            Tar::new().hard_link("n/x", "a").file("n", ""),
            vec![],
        ),
        (
            "through a link of its own",
            Tar::new()
                .directory("d")
                .symlink("l", "d")
                .hard_link("l/x", "l/a"),
            vec!["d/x d/a"],
        ),
        (
            "over a file",
            Tar::new().file("x", "").hard_link("x", "a"),
            vec!["x a"],
        ),
    ] {
        let unpacked = Scene::new().unpack(&layer.finish()).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let found = unpacked.links.into_iter();
        let found: Vec<_> = found
            .map(|(at, to)| format!("{} {}", text(at), text(to)))
            .collect();
        assert_eq!(found, links, "{case}");
    }
}

#[test]
fn hard_links_to_what_the_layer_hides_are_refused() {
    for layer in [
        Tar::new().file("d/.wh..wh..opq", "").hard_link("x", "d/a"),
        Tar::new().file(".wh.d", "").hard_link("x", "d/a"),
        Tar::new()
            .file(".wh.d", "")
            .directory("d")
            .hard_link("x", "d/a"),
        Tar::new().hard_link("x", "x"),
    ] {
        let error = Scene::new().unpack(&layer.finish()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no file of the layer"), "{text}");
    }
}

#[test]
fn directories_for_whiteouts_alone_are_reported() {
    for (case, layer, bare) in [
        (
            "a whiteout",
            Tar::new().file("n/m/.wh.x", ""),
            vec!["n", "n/m"],
        ),
        ("opaque", Tar::new().file("n/.wh..wh..opq", ""), vec!["n"]),
        (
            "and a file",
            Tar::new().file("n/.wh.x", "").file("n/y", ""),
            vec![],
        ),
        (
            "and a file beside",
            Tar::new().file("n/m/.wh.x", "").file("n/y", ""),
            vec!["n/m"],
        ),
        (
            "listed",
            Tar::new().file("n/.wh.x", "").directory("n"),
            vec![],
        ),
        (
            "and a hard link",
            Tar::new().file("n/.wh.x", "").hard_link("n/y", "a"),
            vec![],
        ),
    ] {
        let unpacked = Scene::new().unpack(&layer.finish()).unwrap();
        let bare: Vec<_> = bare.iter().map(|path| path.as_bytes()).collect();
        assert_eq!(unpacked.bare, bare, "{case}");
    }
    // In what the layer hides already, a whiteout has nothing to do.
    let scene = Scene::new();
    let tar = Tar::new()
        .file(".wh.d", "")
        .file("d/e/.wh.x", "")
        .file("n/.wh.x", "")
        .file(".wh.n", "");
    scene.unpack(&tar.finish()).unwrap();
    let list = listing(&scene.root());
    let names: Vec<_> = list
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["/", "/d", "/n"], "{list}");
    assert!(!list.contains("/d 40755"), "{list}");
}
