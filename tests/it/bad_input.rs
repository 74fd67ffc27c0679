//! What goes wrong says what and why in one line, with the right exit code, and leaves the store as it was.

use serde_json::json;

use crate::harness::canned::{Canned, Reply};
use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::{Blob, Compression, Image, ImageBuilder, compress, digest};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

fn small() -> Image {
    ImageBuilder::new()
        .layer(Tree::new().dir("./", 0o755).file("hello", 0o644, "hello"))
        .build()
}

/// Fails the test unless stderr is one line that begins with `ddock: `, and perhaps a hint.
#[track_caller]
fn one_line_cause(output: &Output) {
    let text = output.text();
    let mut lines = output.stderr.lines();
    let first = lines.next().expect("an error on stderr");
    assert!(first.starts_with("ddock: "), "{text}");
    if let Some(second) = lines.next() {
        assert!(second.starts_with("hint: "), "{text}");
    }
    assert_eq!(lines.next(), None, "{text}");
}

/// Fails the test if the store holds an image, or anything half done but what a later pull resumes.
#[track_caller]
fn store_is_empty(ddock: &Ddock) {
    assert_eq!(ddock.ok(&["images", "-a", "-q"]), "");
    for dir in ["layers", "tmp", "leases", "images", "refs", "containers"] {
        let Ok(entries) = fs_err::read_dir(ddock.root().join("v1").join(dir)) else {
            continue;
        };
        let names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(names.is_empty(), "left in the store: {names:?}");
    }
}

/// Pulls from a registry that changes its answers; the pull must fail with this in its one line.
#[track_caller]
fn pull_fails(
    image: &Image,
    reason: &str,
    change: impl Fn(&str, Reply) -> Reply + Send + Sync + 'static,
) {
    let registry = Canned::registry(image, move |request, reply| change(&request.target, reply));
    let ddock = Ddock::new();
    let output = ddock.run(&["pull", "-q", &registry.reference("test/image:latest")]);
    let output = output.exits(1).says(reason);
    one_line_cause(&output);
    store_is_empty(&ddock);
}

#[test]
fn unknown_images_tags_and_registries_are_named() {
    let registry = Registry::start();
    registry.push("test/image:latest", &small());
    // Reserved, so that nothing listens there.
    let nobody = "localhost:1/test/image";
    for reference in [
        registry.reference("test/nothing"),
        registry.reference("test/image:nothing"),
        nobody.to_owned(),
    ] {
        let ddock = Ddock::new();
        let output = ddock.run(&["pull", "-q", &reference]);
        let output = output.exits(1).says(&reference);
        one_line_cause(&output);
        store_is_empty(&ddock);
        let output = ddock.run(&["run", "--rm", &reference, "true"]);
        output.exits(125).says(&reference);
    }
}

#[test]
fn references_that_are_none_are_refused() {
    let ddock = Ddock::new();
    for (reference, reason) in [
        ("Ubuntu", "must be lowercase"),
        ("a b", "invalid reference format"),
        ("../x", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x@sha256:12", "sha256:12"),
        ("", "invalid reference format"),
    ] {
        ddock.run(&["pull", reference]).exits(1).says(reason);
        let output = ddock.run(&["run", "--rm", reference, "true"]);
        output.exits(125).says(reason);
    }
    let hex = "0123456789abcdef".repeat(4);
    let output = ddock.run(&["pull", &hex]).exits(1);
    output.says("cannot specify 64-byte hexadecimal strings");
}

#[test]
fn usage_errors_have_dockers_codes_and_name_the_word() {
    let ddock = Ddock::new();
    for (args, code, word) in [
        (&["pul"][..], 1, "pull"),
        (&["image", "nope"], 1, "image nope"),
        (&["help", "nope"], 1, "nope"),
        (&["--fly"], 125, "--fly"),
        (&["run", "--fly", "x"], 125, "--fly"),
        (&["image", "ls", "--fly"], 125, "--fly"),
        (&["run", "--name"], 125, "--name"),
        (&["run", "-m", "lots", "x"], 125, "--memory"),
        (&["ps", "--all=maybe"], 125, "--all"),
        (&["run"], 1, "run"),
        (&["pull"], 1, "pull"),
        (&["container", "rm"], 1, "container rm"),
        (&["pull", "a", "b"], 1, "b"),
        (&["ps", "a"], 1, "a"),
        (&["build", "."], 125, "build"),
        (&["compose"], 125, "compose"),
    ] {
        ddock.run(args).exits(code).says(word);
    }
}

#[test]
fn a_corrupt_layer_is_refused() {
    let image = small();
    let layer = image.layers()[0].clone();
    pull_fails(
        &image,
        &layer.clone()["sha256:".len()..][..12],
        move |target, mut reply| {
            if target.ends_with(&layer) {
                let middle = reply.body.len() / 2;
                reply.body[middle] ^= 1;
            }
            reply
        },
    );
}

#[test]
fn a_blob_of_another_size_is_refused() {
    let image = small();
    let layer = image.layers()[0].clone();
    for longer in [true, false] {
        let layer = layer.clone();
        pull_fails(&image, "bytes", move |target, mut reply| {
            if target.ends_with(&layer) && longer {
                reply.body.extend([0; 100]);
            } else if target.ends_with(&layer) {
                reply.body.truncate(reply.body.len() - 10);
            }
            reply
        });
    }
}

#[test]
fn a_corrupt_config_is_refused() {
    let image = small();
    let config = image.id();
    pull_fails(&image, &image.id(), move |target, mut reply| {
        if target.ends_with(&config) {
            reply.body[0] = b' ';
        }
        reply
    });
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let image = small();
    let registry = Canned::registry(&image, |request, mut reply| {
        if request.target.contains("/manifests/") {
            reply.body.push(b'\n');
        }
        reply
    });
    let reference = registry.reference(&format!("test/image@{}", image.top().digest));
    let ddock = Ddock::new();
    let output = ddock.run(&["pull", "-q", &reference]).exits(1);
    one_line_cause(&output.says(&format!("where {} was asked for", image.top().digest)));
    store_is_empty(&ddock);
}

#[test]
fn a_layer_whose_diff_id_is_a_lie_is_refused() {
    let lie = digest(b"another layer");
    let image = ImageBuilder::new()
        .layer(Tree::new().dir("./", 0o755).file("hello", 0o644, ""))
        .claim_diff_ids(vec![lie.clone()])
        .build();
    pull_fails(&image, &lie, |_, reply| reply);
    let image = ImageBuilder::new()
        .layer(Tree::new().dir("./", 0o755).file("hello", 0o644, ""))
        .claim_diff_ids(Vec::new())
        .build();
    pull_fails(&image, "1 layers", |_, reply| reply);
}

#[test]
fn layers_that_are_no_archives_are_refused() {
    let tar = Tree::new().file("hello", 0o644, "hello").tar();
    let mut half = compress(tar.clone(), Compression::Gzip);
    half.truncate(half.len() / 2);
    for bytes in [
        b"this is no gzip".to_vec(),
        half,
        compress(tar[..700].to_vec(), Compression::Gzip),
        compress(vec![7; 2048], Compression::Gzip),
    ] {
        let mut image = small();
        let layer = Blob::new(&image.blobs[1].media_type.clone(), bytes);
        let mut manifest = image.top().json();
        manifest["layers"][0] = layer.descriptor();
        image.manifests = vec![Blob::new(
            &image.top().media_type.clone(),
            manifest.to_string().into_bytes(),
        )];
        let short = layer.digest["sha256:".len()..][..12].to_owned();
        image.blobs[1] = layer;
        pull_fails(&image, &short, |_, reply| reply);
    }
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let image = small();
    let manifest = image.top().json();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        changed.to_string()
    };
    for (body, reason) in [
        ("{}".to_owned(), ""),
        ("[[[[".to_owned(), ""),
        ("[".repeat(100_000), ""),
        (
            with(&|m| m["layers"][0]["digest"] = json!("sha256:../../../etc")),
            "digest",
        ),
        (with(&|m| m["layers"][0]["size"] = json!(-1)), "-1"),
        (
            with(&|m| m["layers"][0]["mediaType"] = json!("text/plain")),
            "text/plain",
        ),
        (
            with(&|m| m["config"]["mediaType"] = json!("application/x-model")),
            "application/x-model",
        ),
        (
            with(&|m| m["manifests"] = json!([])),
            "an image and an index",
        ),
        (with(&|m| m["schemaVersion"] = json!(1)), "schema"),
    ] {
        pull_fails(&image, reason, move |target, mut reply| {
            if target.contains("/manifests/") {
                reply.body = body.clone().into_bytes();
                reply
                    .headers
                    .retain(|(name, _)| name != "Docker-Content-Digest");
            }
            reply
        });
    }
}

#[test]
fn an_index_without_this_platform_lists_what_there_is() {
    let image = ImageBuilder::new()
        .platform("linux/s390x")
        .layer(Tree::new().dir("./", 0o755))
        .build();
    let index = Image::index(vec![("linux/s390x", image)]);
    pull_fails(&index, "no matching manifest for linux/", |_, reply| reply);
    let again = Image::index(vec![(
        "linux/s390x",
        ImageBuilder::new().platform("linux/s390x").build(),
    )]);
    pull_fails(&again, "linux/s390x", |_, reply| reply);
}

#[test]
fn a_registry_that_goes_away_in_mid_pull_is_an_error_within_reason() {
    let image = small();
    let layer = image.layers()[0].clone();
    pull_fails(&image, "", move |target, mut reply| {
        if target.ends_with(&layer) {
            reply.cut = Some(0);
        }
        reply
    });
}

#[test]
fn entries_that_would_leave_the_layer_fail_the_pull_and_touch_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs_err::write(&victim, "untouched").unwrap();
    let (dir, file) = (outside.path().to_str().unwrap(), victim.to_str().unwrap());
    let up = "../".repeat(20);
    let escape = |path: &str| format!("{up}{}", path.trim_start_matches('/'));
    let tree = || Tree::new().dir("./", 0o755).dir("a/", 0o755);
    let (to_file, in_dir) = (escape(file), escape(&format!("{dir}/.wh.victim")));
    let dotted = format!("a/../{to_file}");
    for (entry, tree) in [
        (to_file.as_str(), tree().file(&to_file, 0o644, "bad")),
        (&dotted, tree().file(&dotted, 0o644, "bad")),
        ("stolen", tree().hardlink("stolen", &to_file)),
        (&in_dir, tree().file(&in_dir, 0o644, "")),
        (
            &to_file,
            tree().pax("path", &to_file).file("harmless", 0o644, "bad"),
        ),
        (".wh...", tree().file(".wh...", 0o644, "")),
    ] {
        let image = ImageBuilder::new().layer(tree).build();
        pull_fails(&image, entry, |_, reply| reply);
        assert_eq!(fs_err::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn writing_through_a_symlink_stays_in_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let tree = Tree::new()
        .dir("./", 0o755)
        .symlink("link", target)
        .file("link/file", 0o644, "bad")
        .symlink("up", &format!("{}{target}", "../".repeat(20)))
        .file("up/file", 0o644, "bad")
        .symlink("victim", &format!("{target}/created"))
        .file("victim", 0o644, "bad");
    let registry = Registry::start();
    let image = ImageBuilder::new().layer(tree).build();
    let reference = registry.push("test/image:latest", &image);
    // Refused or resolved inside: both are safe.
    Ddock::new().run(&["pull", "-q", &reference]);
    assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_named_and_earlier_images_live() {
    let ddock = Ddock::with_little_space("12m");
    let kept = ddock.pull(crate::harness::image::busybox());
    let before = ddock.ok(&["images", "-q", "--no-trunc"]);
    let large = ImageBuilder::new()
        .layer(
            Tree::new()
                .dir("./", 0o755)
                // Zeros would take no room.
                .file("ones", 0o644, vec![1; 32 << 20]),
        )
        .build();
    let registry = Registry::start();
    let reference = registry.push("test/large:latest", &large);
    let output = ddock.run(&["pull", "-q", &reference]).exits(1);
    one_line_cause(&output.says("space"));
    assert_eq!(ddock.ok(&["images", "-a", "-q", "--no-trunc"]), before);
    assert_eq!(ddock.sh(&[], &kept, "echo alive"), "alive\n");
}

#[test]
fn a_file_system_that_cannot_hold_a_store_is_refused_at_once() {
    let mut ddock = Ddock::new();
    let dir = ddock.scratch().dir("ramfs");
    // ramfs has no extended attributes, and so cannot be an overlay's upper.
    let mount = ["-t", "ramfs", "none", dir.to_str().unwrap()];
    let status = std::process::Command::new("mount").args(mount).status();
    assert!(status.unwrap().success());
    ddock.move_root(dir.join("store"));
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &small());
    let mut output = None;
    let requests = registry.requests_during(|| {
        output = Some(ddock.run(&["pull", "-q", &reference]));
    });
    let output = output.expect("it ran").exits(1);
    one_line_cause(&output.says(dir.to_str().unwrap()));
    assert_eq!(requests, [""; 0], "refused before anything is fetched");
}

#[test]
fn an_error_is_told_where_a_backtrace_is_asked_for() {
    let ddock = Ddock::new();
    for variables in [
        &["RUST_BACKTRACE"][..],
        &["RUST_LIB_BACKTRACE"],
        &["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"],
    ] {
        let mut command = ddock.command(&["run", "--pull", "never", "absent"]);
        command.envs(variables.iter().map(|name| (name, "full")));
        output(&mut command).exits(125).says("No such image");
    }
    // The container has them as they are.
    let image = ddock.pull(crate::harness::image::busybox());
    let args = [
        "run",
        "--rm",
        "--network=none",
        "-e=RUST_BACKTRACE",
        "-e=RUST_LIB_BACKTRACE",
        &image,
        "env",
    ];
    let mut command = ddock.command(&args);
    command.env("RUST_BACKTRACE", "1");
    let told = output(&mut command).exits(0).stdout;
    assert!(
        told.contains("RUST_BACKTRACE=1\n") && !told.contains("RUST_LIB"),
        "{told}"
    );
}

#[test]
fn a_variable_that_is_empty_is_one_that_is_not_set() {
    let ddock = Ddock::new();
    let mut command = ddock.command(&["info"]);
    command.env("DDOCK_ROOT", "");
    let told = output(&mut command).exits(0);
    assert!(told.stdout.contains(" /var/lib/ddock\n"), "{}", told.text());
    for words in [&["pull", "-q"][..], &["run", "--rm"]] {
        let mut command = ddock.command(words);
        command.arg("localhost:1/absent");
        command.env("DOCKER_DEFAULT_PLATFORM", "");
        // As far as the registry, which is none.
        output(&mut command).says("cannot pull `localhost:1/absent`");
    }
}

#[test]
fn files_without_an_end_or_of_another_kind_are_refused() {
    let (ddock, image) = Ddock::with_busybox();
    let home = ddock.scratch().dir("home");
    fs_err::create_dir(home.join(".docker")).unwrap();
    let pipe = home.join(".docker/config.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for flags in [
        &["--env-file", "/dev/zero"][..],
        &["--label-file", "/dev/zero"],
        &["--security-opt", "seccomp=/dev/zero"],
    ] {
        let args = [
            &["run", "--rm", "--network", "none"],
            flags,
            &[&image, "true"],
        ]
        .concat();
        let output = ddock
            .run(&args)
            .exits(125)
            .says("is larger than 16777216 bytes");
        one_line_cause(&output);
    }
    let mut login = ddock.command(&["login", "-u", "u", "--password-stdin", "127.0.0.1:1"]);
    let said = output(login.env("HOME", &home).stdin(std::process::Stdio::null()));
    assert_ne!(said.code, 0);
    // What a shell makes of a command is a pipe, which the user's own flags may name.
    let script = format!(
        "{} run --rm --network none --env-file <(echo A=1; sleep 0.1; echo B=2) --label-file <(echo a=b) {image} sh -c 'echo $A$B'",
        crate::harness::ddock::binary().display()
    );
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    assert_eq!(output(&mut shell).exits(0).stdout, "12\n");
}
