//! `save` and `load`: images in one file, ours and other tools', and files that are none.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::ddock::{Ddock, Output};
use crate::harness::image::{Compression, Image, ImageBuilder, busybox, compress, digest};
use crate::harness::peer::Peer;
use crate::harness::registry::Registry;
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;
use crate::harness::user::User;

fn layer(content: &str) -> Tree {
    let tree = Tree::new().dir("./", 0o755).dir("d/", 0o700);
    tree.file("d/hello", 0o640, content)
}

/// A store with an image of two layers under the name `saved/image:v1`, and the image.
fn filled() -> (Ddock, Image) {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let above = layer("above").file("more", 0o4755, "more");
    let image = busybox().layer(above).build();
    let pulled = registry.push("test/image:v1", &image);
    ddock.ok(&["pull", "-q", &pulled]);
    ddock.ok(&["tag", &pulled, "saved/image:v1"]);
    ddock.ok(&["rmi", &pulled]);
    (ddock, image)
}

const NAME: &str = "saved/image:v1";

/// A tar of regular files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Tree::new();
    for (name, bytes) in files {
        tar = tar.file(name, 0o644, bytes);
    }
    tar.tar()
}

/// Docker's archive of an image with one layer, whose tar this is.
fn docker_archive(tar_of_layer: &[u8], diff_id: &str, names: &Value) -> Vec<u8> {
    let config = json!({
        "os": "linux", "architecture": crate::harness::image::host_architecture(),
        "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = json!([{"Config": "c.json", "RepoTags": names, "Layers": ["l/layer.tar"]}]);
    tar(&[
        ("l/layer.tar", tar_of_layer),
        ("c.json", config.to_string().as_bytes()),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

#[test]
fn the_same_image_gives_the_same_bytes_and_comes_back_the_same() {
    let (ddock, image) = filled();
    let file = ddock.scratch().join("image.tar");
    let path = file.to_str().unwrap();
    ddock.ok(&["save", "-o", path, NAME]);
    let saved = fs_err::read(&file).unwrap();
    let piped = ddock.scratch().join("piped.tar");
    let status = ddock
        .command(&["image", "save", NAME])
        .stdout(fs_err::File::create(&piped).unwrap().into_file())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(digest(&saved), digest(&fs_err::read(&piped).unwrap()));

    let other = Ddock::new();
    let said = format!("Loaded image: {NAME}\n");
    assert_eq!(other.ok(&["load", "-i", path]), said);
    assert_eq!(
        other.ok(&["images", "-q", "--no-trunc"]),
        format!("{}\n", image.id())
    );
    let seen = other.sh(&[], NAME, "stat -c %a /more /d /d/hello && cat /d/hello");
    assert_eq!(seen, "4755\n700\n640\nabove");
    other.run(&["system", "check"]).exits(0).says("all right");
    // Whoever loaded it saves the same.
    let again = other.scratch().join("again.tar");
    other.ok(&["save", "-o", again.to_str().unwrap(), NAME]);
    assert_eq!(digest(&saved), digest(&fs_err::read(&again).unwrap()));

    for compressed in [
        compress(saved.clone(), Compression::Gzip),
        compress(saved.clone(), Compression::Zstd),
        piped_through("xz", &saved),
        piped_through("bzip2", &saved),
    ] {
        let other = Ddock::new();
        let output = other.feed(&["image", "load", "-q"], &compressed).exits(0);
        assert_eq!(output.stdout, said);
    }
}

fn piped_through(program: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(program)
        .args(["-1", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is installed: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn several_images_share_a_file_and_an_id_saves_no_name() {
    let (ddock, image) = filled();
    let small = ddock.pull(ImageBuilder::new().layer(layer("small")));
    ddock.ok(&["tag", NAME, "saved/image:v2"]);
    let file = ddock.scratch().join("all.tar");
    ddock.ok(&["save", "-o", file.to_str().unwrap(), "saved/image", &small]);
    let other = Ddock::new();
    let loaded = other.ok(&["load", "-i", file.to_str().unwrap()]);
    let lines =
        format!("Loaded image: {NAME}\nLoaded image: saved/image:v2\nLoaded image: {small}\n");
    assert_eq!(loaded, lines);

    ddock.ok(&["save", "-o", file.to_str().unwrap(), &image.id()]);
    let other = Ddock::new();
    let loaded = other.ok(&["load", "-i", file.to_str().unwrap()]);
    assert_eq!(loaded, format!("Loaded image ID: {}\n", image.id()));
}

fn asked(peer: &Peer, args: &[&str]) -> String {
    command_succeeds(&mut peer.command(args))
}

/// Docker reads `manifest.json`, podman and skopeo read either; what they write we read.
#[test]
fn archives_go_both_ways() {
    let (ddock, image) = filled();
    let ours = ddock.scratch().join("ours.tar");
    ddock.ok(&["save", "-o", ours.to_str().unwrap(), NAME]);
    for peer in [Peer::docker(), Peer::podman()] {
        asked(&peer, &["load", "-q", "-i", ours.to_str().unwrap()]);
        let id = asked(&peer, &["image", "inspect", "-f", "{{.Id}}", NAME]);
        let id = id.trim().trim_start_matches("sha256:");
        assert_eq!(format!("sha256:{id}"), image.id(), "{:?}", peer.kind);
        let theirs = ddock.scratch().join("theirs.tar");
        asked(&peer, &["save", "-o", theirs.to_str().unwrap(), NAME]);
        let other = Ddock::new();
        let loaded = other.ok(&["load", "-i", theirs.to_str().unwrap()]);
        assert!(
            loaded.contains("saved/image:v1"),
            "{:?}: {loaded}",
            peer.kind
        );
        let id = other.ok(&["images", "-q", "--no-trunc"]);
        assert_eq!(id.trim(), image.id(), "{:?}", peer.kind);
        fs_err::remove_file(&theirs).unwrap();
    }
}

#[test]
fn an_ordinary_user_saves_what_root_loads() {
    let user = Ddock::for_user(User::with_ranges());
    user.pull(busybox());
    let image = user.ok(&["images", "-q", "--no-trunc"]);
    let own = user.root().parent().unwrap().join("image.tar");
    user.ok(&["save", "-o", own.to_str().unwrap(), image.trim()]);
    let root = Ddock::new();
    root.ok(&["load", "-i", own.to_str().unwrap()]);
    assert_eq!(root.ok(&["images", "-aq", "--no-trunc"]), image);
}

/// What a store holds, by its directories.
fn held(ddock: &Ddock) -> Vec<String> {
    let mut held = Vec::new();
    for name in ["layers", "images", "blobs/sha256", "tmp", "refs", "leases"] {
        let directory = ddock.root().join("v1").join(name);
        for entry in fs_err::read_dir(directory).into_iter().flatten() {
            held.push(format!("{name}/{}", entry.unwrap().file_name().display()));
        }
    }
    held
}

fn refused(ddock: &Ddock, archive: &[u8]) -> Output {
    ddock.feed(&["load"], archive).exits(1)
}

/// Archives that are refused, each with what is said of it.
fn bad_archives() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = layer("x").tar();
    let good_id = digest(&good);
    let named = |name: &str| docker_archive(&good, &good_id, &json!([name]));
    let bomb = Tree::new()
        .dir("./", 0o755)
        .file("../../escaped", 0o644, "x")
        .tar();
    let whole = named("x:1");
    vec![
        ("nothing", Vec::new(), "no archive of images"),
        ("text", b"hello".repeat(400), "reading the archive"),
        ("empty tar", tar(&[]), "no archive of images"),
        (
            "cut off",
            whole[..whole.len() / 4].to_vec(),
            "reading the archive",
        ),
        (
            "other files",
            tar(&[("a", b"b")]),
            "neither `manifest.json` nor `index.json`",
        ),
        (
            "wrong diff ID",
            docker_archive(&good, &digest(b"y"), &json!([])),
            "the image's config says",
        ),
        (
            "layer that leaves its root",
            docker_archive(&bomb, &digest(&bomb), &json!([])),
            "escaped",
        ),
        ("bad name", named("X Y"), "the name `X Y`"),
        (
            "name with a digest",
            named(&format!("x@{good_id}")),
            "has a digest",
        ),
        (
            "a file twice",
            tar(&[("a", b"1"), ("./a", b"2")]),
            "has `a` twice",
        ),
        (
            "a name outside",
            tar(&[("../a", b"1")]),
            "leads out of the archive",
        ),
    ]
}

/// As [`bad_archives`], of those whose parts do not fit together.
fn unfitting_archives() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let of = |layers: &str| {
        let manifest = format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":[{layers}]}}]"#);
        let config: &[u8] = br#"{"rootfs":{"diff_ids":[]}}"#;
        tar(&[("c.json", config), ("manifest.json", manifest.as_bytes())])
    };
    let too_many = "1 layers, and its config names 0";
    vec![
        (
            "no such layer",
            of(r#""gone""#),
            "the archive has no `gone`",
        ),
        ("too many layers", of(r#""c.json""#), too_many),
    ]
}

#[test]
fn a_bad_archive_leaves_the_store_as_it_was() {
    let ddock = Ddock::new();
    ddock.pull(ImageBuilder::new().layer(layer("there")));
    let before = held(&ddock);
    for (case, archive, text) in bad_archives().into_iter().chain(unfitting_archives()) {
        let output = refused(&ddock, &archive);
        assert!(output.stderr.contains(text), "{case}: {}", output.text());
        assert!(
            output.stderr.starts_with("ddock: cannot load from stdin: "),
            "{case}: {}",
            output.text()
        );
        assert_eq!(output.stdout, "", "{case}");
        assert_eq!(held(&ddock), before, "{case}");
    }
    assert!(!Path::new("/escaped").exists());
    let good = layer("x").tar();
    let good = docker_archive(&good, &digest(&good), &json!(["good:1"]));
    ddock.feed(&["load"], &good).exits(0);
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let (ddock, _) = filled();
    let directory = ddock.scratch().dir("out");
    let file = directory.join("image.tar");
    fs_err::write(&file, "old").unwrap();
    ddock
        .run(&["save", "-o", file.to_str().unwrap(), "nothing"])
        .exits(1)
        .says("No such image: nothing");
    assert_eq!(fs_err::read_to_string(&file).unwrap(), "old");
    assert_eq!(fs_err::read_dir(&directory).unwrap().count(), 1);
    ddock.ok(&["save", "-o", file.to_str().unwrap(), NAME]);
    assert!(fs_err::metadata(&file).unwrap().len() > 1 << 20);
    assert_eq!(fs_err::read_dir(&directory).unwrap().count(), 1);

    // A layer that changed is told, and gives no archive.
    let layers = fs_err::read_dir(ddock.root().join("v1/layers")).unwrap();
    let changed = layers.map(|layer| layer.unwrap().path().join("fs/d/hello"));
    let changed = changed.filter(|path| path.exists()).last().unwrap();
    fs_err::write(changed, "ABOVE").unwrap();
    ddock
        .run(&["save", "-o", file.to_str().unwrap(), NAME])
        .exits(1)
        .says("its files changed");
    assert_eq!(fs_err::read_dir(&directory).unwrap().count(), 1);
}
