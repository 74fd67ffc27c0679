//! `images`, `rmi`, `inspect`, `version`, `info`: what the store holds, told as Docker tells it.

use serde_json::{Value, json};

use crate::harness::ddock::{Ddock, output};
use crate::harness::image::{Image, ImageBuilder, busybox, host_architecture};
use crate::harness::peer::Peer;
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

fn small(content: &str) -> Image {
    let tree = Tree::new().dir("./", 0o755).file("hello", 0o644, content);
    ImageBuilder::new().layer(tree).build()
}

/// Returns a row's cells: columns are at least three blanks apart.
fn cells(row: &str) -> Vec<&str> {
    let cells = row.split("   ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn images_are_listed_in_dockers_table() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let header = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    assert_eq!(cells(ddock.ok(&["images"]).trim_end()), header);

    let image = busybox().build();
    ddock.ok(&["pull", "-q", &registry.push("test/image:v1", &image)]);
    let table = ddock.ok(&["images"]);
    let rows: Vec<Vec<&str>> = table.lines().map(cells).collect();
    assert_eq!(rows[0], header);
    assert_eq!(rows.len(), 2, "{table}");
    let row = &rows[1];
    let short = &image.id()["sha256:".len()..][..12];
    assert_eq!(
        row[..3],
        [registry.reference("test/image").as_str(), "v1", short]
    );
    assert!(row[3].ends_with(" ago"), "{table}");
    assert!(row[4].ends_with("MB"), "{table}");
    assert_eq!(ddock.ok(&["image", "ls", "-q"]), format!("{short}\n"));
    assert_eq!(
        ddock.ok(&["images", "-q", "--no-trunc"]),
        format!("{}\n", image.id())
    );
}

#[test]
fn a_name_filters_the_table_exactly() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    for name in ["test/java:8", "test/java:11", "test/jav:1"] {
        ddock.ok(&["pull", "-q", &registry.push(name, &small(name))]);
    }
    let count = |name: &str| {
        let ids = ddock.ok(&["images", "-q", &registry.reference(name)]);
        ids.lines().count()
    };
    assert_eq!(count("test/java"), 2);
    assert_eq!(count("test/java:8"), 1);
    assert_eq!(count("test/ja"), 0);
    assert_eq!(count("test/jav"), 1);
}

#[test]
fn rmi_says_what_it_untagged_and_deleted() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let image = small("1");
    let reference = registry.push("test/image:v1", &image);
    ddock.ok(&["pull", "-q", &reference]);
    let stdout = ddock.ok(&["rmi", &reference]);
    let lines: Vec<&str> = stdout.lines().collect();
    let repository = registry.reference("test/image");
    assert_eq!(
        lines[..3],
        [
            format!("Untagged: {reference}"),
            format!("Untagged: {repository}@{}", image.top().digest),
            format!("Deleted: {}", image.id()),
        ],
        "{stdout}"
    );
    assert_eq!(ddock.ok(&["images", "-a", "-q"]), "");
    // What was removed can be had again.
    ddock.ok(&["pull", "-q", &reference]);
}

#[test]
fn rmi_of_one_of_two_tags_only_unties_it() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let image = small("1");
    let one = registry.push("test/image:one", &image);
    let two = registry.push("test/image:two", &image);
    ddock.ok(&["pull", "-q", &one]);
    ddock.ok(&["pull", "-q", &two]);
    assert_eq!(ddock.ok(&["rmi", &one]), format!("Untagged: {one}\n"));
    assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn rmi_does_what_it_can_and_fails_at_the_end() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let reference = registry.push("test/image:v1", &small("1"));
    ddock.ok(&["pull", "-q", &reference]);
    let output = ddock.run(&["rmi", "nothing", &reference]);
    let output = output.exits(1).says("No such image: nothing");
    assert!(
        output.stdout.contains(&format!("Untagged: {reference}\n")),
        "{}",
        output.text()
    );
}

#[test]
fn rmi_keeps_what_a_container_uses() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "--name", "user", &image, "true"]);
    let refused = ddock.run(&["rmi", &image]);
    refused.exits(1).says("container");
    assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), 1);
    ddock.ok(&["rm", "user"]);
    ddock.ok(&["rmi", &image]);
}

#[test]
fn inspect_has_dockers_shape() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let image = busybox()
        .layer(Tree::new().file("top", 0o644, "top"))
        .config("Entrypoint", json!(["env"]))
        .config("WorkingDir", json!("/tmp"))
        .config("User", json!("alice"))
        .config("Labels", json!({"key": "value"}))
        .config("ExposedPorts", json!({"80/tcp": {}}))
        .config("Healthcheck", json!({"Test": ["CMD", "true"]}))
        .build();
    let reference = registry.push("test/image:v1", &image);
    ddock.ok(&["pull", "-q", &reference]);

    let short = &image.id()["sha256:".len()..][..12];
    let told: Value = serde_json::from_str(&ddock.ok(&["inspect", &reference])).unwrap();
    let by_id: Value = serde_json::from_str(&ddock.ok(&["image", "inspect", short])).unwrap();
    assert_eq!(told, by_id);
    let told = &told[0];
    assert_eq!(told["Id"], json!(image.id()));
    assert_eq!(told["RepoTags"], json!([reference]));
    let digest = format!(
        "{}@{}",
        registry.reference("test/image"),
        image.top().digest
    );
    assert_eq!(told["RepoDigests"], json!([digest]));
    assert_eq!(told["Architecture"], json!(host_architecture()));
    assert_eq!(told["Os"], json!("linux"));
    assert_eq!(told["Created"], json!("2024-01-02T03:04:05Z"));
    let config = image.blobs[0].json();
    for key in [
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "Labels",
        "ExposedPorts",
        "Healthcheck",
    ] {
        assert_eq!(told["Config"][key], config["config"][key], "{key}");
    }
    assert_eq!(told["RootFS"]["Type"], json!("layers"));
    assert_eq!(told["RootFS"]["Layers"], config["rootfs"]["diff_ids"]);
    assert!(told["Size"].as_u64().unwrap() > 1_000_000);

    let lower = told["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    let lower: Vec<&str> = lower.split(':').collect();
    assert_eq!(lower.len(), 2);
    let top = std::path::Path::new(lower[0]).join("top");
    assert_eq!(fs_err::read_to_string(top).unwrap(), "top");
}

#[test]
fn inspect_of_nothing_is_an_empty_array_and_an_error() {
    let output = Ddock::new().run(&["inspect", "nothing"]);
    let output = output.exits(1).says("no such object: nothing");
    assert_eq!(output.stdout.trim_end(), "[]");
}

#[test]
fn version_and_info_say_what_was_found() {
    let ddock = Ddock::new();
    let version = ddock.ok(&["version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let info = ddock.ok(&["info"]).to_lowercase();
    let root = ddock.root().to_str().unwrap().to_lowercase();
    for word in [
        root.as_str(),
        "cgroup",
        "overlay",
        "name=seccomp,profile=builtin",
    ] {
        assert!(info.contains(word), "no `{word}` in:\n{info}");
    }
}

#[test]
fn tables_are_dockers_to_the_byte() {
    let registry = Registry::start();
    let (ddock, docker) = (Ddock::new(), Peer::docker());
    let reference = registry.push("test/image:v1", &small("text"));
    let both = |args: &[&str]| {
        let theirs = output(&mut docker.command(args)).exits(0).stdout;
        assert_eq!(ddock.ok(args), theirs, "{args:?}");
    };
    let lists = [&["ps", "-a"][..], &["images"], &["volume", "ls"]];
    lists.into_iter().for_each(both);
    for args in [
        &["pull", "-q", &reference][..],
        &["volume", "create", "data"],
    ] {
        both(args);
    }
    lists.into_iter().for_each(both);
}

#[test]
fn a_name_is_given_moved_and_taken_away() {
    let ddock = Ddock::new();
    let first = ddock.pull(ImageBuilder::new().layer(Tree::new().file("a", 0o644, "1")));
    let id = |name: &str| ddock.ok(&["images", "-q", name]);
    let one = id(&first);
    assert_eq!(ddock.ok(&["tag", &first, "mine/image"]), "");
    assert_eq!(id("mine/image:latest"), one);
    ddock.ok(&["image", "tag", one.trim(), "mine/image:v2"]);
    ddock.ok(&["rmi", &first]);
    let second = ddock.pull(ImageBuilder::new().layer(Tree::new().file("a", 0o644, "2")));
    // A name that moves leaves its image without one.
    ddock.ok(&["tag", &second, "mine/image:v2"]);
    ddock.ok(&["untag", "mine/image:latest", "mine/image:latest"]);
    assert_eq!(id("mine/image"), id(&second));
    assert_eq!(ddock.ok(&["images", "-qf", "dangling=true"]), one);
    ddock.ok(&["image", "exists", "mine/image:v2"]);
    let absent = ddock
        .run(&["image", "exists", "mine/image:latest"])
        .exits(1);
    assert_eq!(absent.stdout + &absent.stderr, "");

    for (words, text) in [
        (["tag", "nothing", "x"], "No such image: nothing"),
        (["tag", &second, "X"], "must be lowercase"),
        (["untag", &second, "x"], "tag not known"),
    ] {
        ddock.run(&words).exits(1).says(text);
    }
    let digest = format!("x@sha256:{}", "0".repeat(64));
    let refused = ddock.run(&["tag", &second, &digest]).exits(1);
    refused.says("refusing to create a tag with a digest reference");
}

#[test]
fn history_tells_each_step_and_its_size() {
    let ddock = Ddock::new();
    let tree = Tree::new().file("a", 0o644, "x".repeat(5000));
    let image = ddock.pull(ImageBuilder::new().layer(tree));
    let table = ddock.ok(&["history", &image]);
    let rows: Vec<Vec<&str>> = table.lines().map(cells).collect();
    assert_eq!(
        rows[0],
        ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    );
    assert_eq!(rows[1][2..], ["a test", "5kB"], "{table}");
    assert_eq!(
        ddock.ok(&["history", "-q", &image]),
        ddock.ok(&["images", "-q"])
    );
    let plain = ddock.ok(&["history", "--human=false", "--no-trunc", &image]);
    assert!(
        plain.contains("2024-01-02T03:04:05Z") && plain.contains("5000"),
        "{plain}"
    );
    ddock
        .run(&["history", "nothing"])
        .exits(1)
        .says("No such image: nothing");
}

#[test]
fn prune_removes_what_nothing_uses_and_says_what_it_won() {
    let ddock = Ddock::new();
    let size = 3000;
    let filled = |byte: &str| {
        let tree = Tree::new().file("a", 0o644, byte.repeat(size));
        busybox().layer(tree)
    };
    let kept = ddock.pull(filled("k"));
    ddock.ok(&["tag", &kept, "kept:1"]);
    ddock.ok(&["run", "--name", "user", "kept:1", "true"]);
    let dangling = ddock.pull(filled("d"));
    let id = ddock.ok(&["images", "-q", "--no-trunc", &dangling]);
    ddock.ok(&["untag", &dangling]);

    let no = ddock.feed(&["image", "prune"], b"n\n").exits(1);
    no.says("WARNING! This will remove all dangling images.");
    let filtered = ddock.ok(&[
        "image",
        "prune",
        "-f",
        "--filter",
        "until=2000-01-01T00:00:00Z",
    ]);
    assert_eq!(filtered, "Total reclaimed space: 0B\n");
    let pruned = ddock.ok(&["image", "prune", "-f"]);
    assert!(
        pruned.starts_with("Deleted Images:\nuntagged: "),
        "{pruned}"
    );
    assert!(pruned.contains(&format!("\ndeleted: {id}")), "{pruned}");
    assert!(
        pruned.ends_with("\n\nTotal reclaimed space: 3kB\n"),
        "{pruned}"
    );

    // What a container was made from stays, whatever is asked for; without it everything goes.
    assert_eq!(
        ddock.ok(&["image", "prune", "-af"]),
        "Total reclaimed space: 0B\n"
    );
    ddock.ok(&["rm", "user"]);
    assert_eq!(
        ddock.ok(&["image", "prune", "-f"]),
        "Total reclaimed space: 0B\n"
    );
    let pruned = ddock.ok(&["image", "prune", "-af"]);
    assert!(pruned.contains("untagged: kept:1\n"), "{pruned}");
    assert_eq!(ddock.ok(&["images", "-aq"]), "");
    for directory in ["layers", "blobs/sha256", "images"] {
        let left = fs_err::read_dir(ddock.root().join("v1").join(directory)).unwrap();
        assert_eq!(left.count(), 0, "{directory}");
    }
}
