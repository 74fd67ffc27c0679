//! `system check`: what is wrong with an image is found by name, and mended from where the image came.

use std::fs::{FileTimes, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::harness::ddock::Ddock;
use crate::harness::image::{Compression, Image, ImageBuilder, busybox, busybox_tree};
use crate::harness::registry::Registry;
use crate::harness::scratch::{Scratch, command_succeeds};
use crate::harness::tree::Tree;
use crate::harness::user::User;

/// Returns the directories of the store's layers.
fn layers(ddock: &Ddock) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(ddock.root().join("v1/layers")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Returns the files of the one layer that has `name`.
fn layer_with(ddock: &Ddock, name: &str) -> PathBuf {
    let mut layers = layers(ddock).into_iter().map(|layer| layer.join("fs"));
    layers
        .find(|fs| fs.join(name).symlink_metadata().is_ok())
        .unwrap()
}

/// An image with a file of each kind, in a layer of its own.
fn image() -> ImageBuilder {
    let tree = Tree::new()
        .dir("data/", 0o755)
        .file("data/file", 0o644, "content")
        .file("data/gone", 0o644, "")
        .symlink("data/link", "file")
        .hardlink("data/hard", "data/file")
        .pax("SCHILY.xattr.user.note", "x")
        .file("data/noted", 0o644, "");
    ImageBuilder::new().layer(busybox_tree()).layer(tree)
}

/// GNU tar's own archives of sparse files, of long names and of large numbers.
fn gnu_tars(scratch: &Scratch) -> Vec<Vec<u8>> {
    let tree = scratch.dir("tree");
    let sparse = fs_err::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    rustix::io::pwrite(&sparse, b"data", 300_000).unwrap();
    rustix::io::pwrite(&sparse, b"more", 900_000).unwrap();
    let long = tree.join("n".repeat(120)).join("m".repeat(120));
    fs_err::create_dir_all(&long).unwrap();
    fs_err::write(long.join("file"), "long").unwrap();
    let old = fs_err::File::create(tree.join("old")).unwrap();
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH - Duration::from_secs(9));
    old.file().set_times(times).unwrap();
    [
        "--format=gnu",
        "--format=posix --sparse-version=0.0",
        "--format=posix --sparse-version=0.1",
        "--format=posix --sparse-version=1.0",
    ]
    .iter()
    .map(|format| {
        let tar = scratch.join("tar");
        let mut command = Command::new("tar");
        command
            .args(["--create", "--sparse"])
            .args(format.split(' '));
        command.arg("--file").arg(&tar).arg("--directory");
        command_succeeds(command.arg(&tree).arg("."));
        fs_err::read(&tar).unwrap()
    })
    .collect()
}

#[test]
fn every_layer_is_made_again_to_the_last_bit() {
    let scratch = Scratch::new();
    let registry = Registry::start();
    let ddock = Ddock::new();
    ddock.run(&["system", "check"]).exits(0).says("all right");
    let distribution = registry.push("test/distribution:latest", &Image::distribution());
    ddock.ok(&["pull", "-q", &distribution]);
    let crooked = busybox_tree()
        .file("twice", 0o644, "first")
        .hardlink("linked", "twice")
        .file("twice", 0o600, "second")
        .dir("was-a-directory/", 0o755)
        .file("was-a-directory/file", 0o644, "in it")
        .file("was-a-directory", 0o644, "a file")
        .file(".wh.twice", 0o644, "")
        .file(".wh.hidden", 0o644, "a whiteout with a body");
    let mut image = ImageBuilder::new().layer(crooked);
    for tar in gnu_tars(&scratch) {
        let followed = [&tar[..], b"what follows"].concat();
        image = image.layer_as(tar, Compression::Gzip);
        image = image.layer_as(followed, Compression::Zstd);
    }
    ddock.pull(image);
    let output = ddock.run(&["system", "check"]).exits(0);
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr, "checked 2 images, 10 layers: all right\n");
}

/// What is done to a layer, and what is said of it.
type Damage = (&'static str, fn(&Path), &'static str);

fn keep_time(path: &Path, act: impl FnOnce()) {
    let before = fs_err::metadata(path).unwrap().modified().unwrap();
    act();
    let file = fs_err::File::open(path).unwrap().into_file();
    file.set_modified(before).unwrap();
}

fn flip(fs: &Path) {
    let file = fs.join("data/file");
    keep_time(&file, || fs_err::write(&file, "CONTENT").unwrap());
}

fn close(fs: &Path) {
    fs_err::set_permissions(fs.join("data/file"), Permissions::from_mode(0o600)).unwrap();
}

fn age(fs: &Path) {
    let file = fs_err::File::open(fs.join("data/file"))
        .unwrap()
        .into_file();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

fn delete(fs: &Path) {
    let data = fs.join("data");
    keep_time(&data, || fs_err::remove_file(data.join("gone")).unwrap());
}

fn add(fs: &Path) {
    let data = fs.join("data");
    keep_time(&data, || fs_err::write(data.join("new"), "").unwrap());
}

fn give_away(fs: &Path) {
    std::os::unix::fs::chown(fs.join("data/noted"), Some(12345), None).unwrap();
}

fn note(fs: &Path) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(fs.join("data/noted"), "user.note", b"y", flags).unwrap();
}

fn lose_recipe(fs: &Path) {
    fs_err::remove_file(fs.with_file_name("recipe")).unwrap();
}

fn spoil_recipe(fs: &Path) {
    let path = fs.with_file_name("recipe");
    let mut recipe = fs_err::read(&path).unwrap();
    let middle = recipe.len() / 2;
    recipe[middle] ^= 1;
    fs_err::write(&path, recipe).unwrap();
}

#[rustfmt::skip]
const DAMAGES: [Damage; 9] = [
    ("a flipped byte", flip, "damaged /data/file: content"),
    ("a changed mode", close, "damaged /data/file: mode 0600 instead of 0644"),
    ("a changed time", age, "damaged /data/file: mtime 0.000000000 instead of 1600000000.000000000"),
    ("a deleted file", delete, "missing /data/gone: file"),
    ("an added file", add, "added /data/new: file"),
    ("a changed owner", give_away, "damaged /data/noted: owner "),
    ("a changed attribute", note, "damaged /data/noted: attribute `user.note`"),
    ("a lost recipe", lose_recipe, "missing recipe: "),
    ("a damaged recipe", spoil_recipe, "damaged recipe: "),
];

fn is_found_and_mended(ddock: &Ddock) {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &image().build());
    ddock.ok(&["pull", "-q", &reference]);
    for (what, damage, said) in DAMAGES {
        let fs = layer_with(ddock, "data");
        let short = &fs.parent().unwrap().file_name().unwrap().to_str().unwrap()[..12];
        damage(&fs);
        let output = ddock.run(&["system", "check"]).exits(1);
        let line = format!("{reference} {short} {said}");
        assert_eq!(
            output.stdout.lines().count(),
            1,
            "{what}: {}",
            output.text()
        );
        assert!(
            output.stdout.starts_with(&line),
            "{what}: {}",
            output.text()
        );
        let fetched = registry.requests_during(|| {
            let output = ddock
                .run(&["system", "check", "--repair", &reference])
                .exits(0);
            let lines: Vec<&str> = output.stdout.lines().collect();
            assert_eq!(lines.len(), 2, "{what}: {}", output.text());
            assert_eq!(lines[1], format!("{reference} {short} repaired"));
        });
        let blobs = fetched.iter().filter(|line| line.contains("/blobs/"));
        assert_eq!(
            blobs.count(),
            1,
            "only the layer that is damaged: {fetched:#?}"
        );
        ddock.run(&["system", "check"]).exits(0);
        let script = "cat /data/file /data/hard; stat -c %a /data/gone";
        assert_eq!(ddock.sh(&[], &reference, script), "contentcontent644\n");
    }
}

#[test]
fn what_is_wrong_is_found_by_name_and_mended() {
    is_found_and_mended(&Ddock::new());
}

#[test]
fn what_is_wrong_is_found_and_mended_for_a_user_with_ranges() {
    is_found_and_mended(&Ddock::for_user(User::with_ranges()));
}

#[test]
fn what_is_wrong_is_found_and_mended_for_a_user_with_one_id() {
    is_found_and_mended(&Ddock::for_user(User::without_ranges()));
}

/// An image whose layers do not fit without a fix-up: a directory that the upper one implies, and a link to a file of the lower.
fn stacked() -> ImageBuilder {
    let below = Tree::new()
        .dir("private/", 0o700)
        .file("private/file", 0o644, "content")
        .file("linked", 0o640, "content");
    let above = Tree::new()
        .file("private/new", 0o644, "")
        .hardlink("private/link", "linked");
    busybox().layer(below).layer(above)
}

/// Returns the directory of the only fix-ups.
fn chain(ddock: &Ddock) -> PathBuf {
    let mut chains = fs_err::read_dir(ddock.root().join("v1/chains")).unwrap();
    let chain = chains.next().expect("there is one").unwrap().path();
    assert!(chains.next().is_none());
    chain
}

fn lose_chain(fs: &Path) {
    fs_err::remove_dir_all(fs.parent().unwrap()).unwrap();
}

fn lose_files_of_chain(fs: &Path) {
    fs_err::remove_dir_all(fs).unwrap();
}

fn flip_linked(fs: &Path) {
    let file = fs.join("linked");
    keep_time(&file, || fs_err::write(&file, "CONTENT").unwrap());
}

fn open_private(fs: &Path) {
    fs_err::set_permissions(fs.join("private"), Permissions::from_mode(0o755)).unwrap();
}

fn part_links(fs: &Path) {
    let (private, link) = (fs.join("private"), fs.join("private/link"));
    keep_time(&private, || {
        fs_err::copy(&link, fs.join("copy")).unwrap();
        fs_err::remove_file(&link).unwrap();
        fs_err::rename(fs.join("copy"), &link).unwrap();
    });
}

fn add_to_chain(fs: &Path) {
    fs_err::write(fs.join("stray"), "").unwrap();
}

#[rustfmt::skip]
const DAMAGES_OF_CHAINS: [Damage; 6] = [
    ("a lost chain", lose_chain, "missing chain: all of it"),
    ("a chain without files", lose_files_of_chain, "missing chain: all of it"),
    ("a flipped byte", flip_linked, "damaged /linked: content"),
    ("a changed mode", open_private, "damaged /private: mode 0755 instead of 0700"),
    ("a link that is a file of its own", part_links, "damaged /private/link: "),
    ("an added file", add_to_chain, "added /stray: file"),
];

fn is_found_and_mended_in_chains(ddock: &Ddock) {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &stacked().build());
    ddock.ok(&["pull", "-q", &reference]);
    ddock.run(&["system", "check"]).exits(0);
    for (what, damage, said) in DAMAGES_OF_CHAINS {
        let chain = chain(ddock);
        let short = &chain.file_name().unwrap().to_str().unwrap()[..12];
        damage(&chain.join("fs"));
        let output = ddock.run(&["system", "check"]).exits(1);
        let line = format!("{reference} {short} {said}");
        assert!(
            output.stdout.lines().any(|found| found.starts_with(&line)),
            "{what}: {}",
            output.text()
        );
        let fetched = registry.requests_during(|| {
            let output = ddock.run(&["system", "check", "--repair"]).exits(0);
            let last = output.stdout.lines().last();
            assert_eq!(
                last,
                Some(&*format!("{reference} {short} repaired")),
                "{what}"
            );
        });
        assert!(
            !fetched.iter().any(|line| line.contains("/blobs/")),
            "fix-ups are made, not fetched: {fetched:#?}"
        );
        ddock.run(&["system", "check"]).exits(0);
        let script =
            "cat /private/file /private/link; stat -c %a /private; stat -c '%a %h' /linked";
        let expected = "contentcontent700\n640 2\n";
        assert_eq!(ddock.sh(&[], &reference, script), expected, "{what}");
    }
    // Nothing runs on what was replaced: the next sweep takes it.
    let replaced = chain(ddock).join("replaced");
    assert!(replaced.exists());
    let other = ddock.pull(busybox());
    ddock.ok(&["rmi", &other]);
    assert!(!replaced.exists());
}

#[test]
fn fix_ups_that_are_wrong_are_found_by_name_and_mended() {
    is_found_and_mended_in_chains(&Ddock::new());
}

#[test]
fn fix_ups_that_are_wrong_are_found_and_mended_for_a_user_with_ranges() {
    is_found_and_mended_in_chains(&Ddock::for_user(User::with_ranges()));
}

#[test]
fn fix_ups_that_are_wrong_are_found_and_mended_for_a_user_with_one_id() {
    is_found_and_mended_in_chains(&Ddock::for_user(User::without_ranges()));
}

#[test]
fn a_pull_mends_an_image_whose_fix_ups_vanished() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let reference = registry.push("test/image:latest", &stacked().build());
    ddock.ok(&["pull", "-q", &reference]);
    lose_chain(&chain(&ddock).join("fs"));
    ddock
        .run(&["run", "--rm", &reference, "true"])
        .exits(125)
        .says("chain `");
    let fetched = registry.requests_during(|| {
        ddock.ok(&["pull", "-q", &reference]);
    });
    let blobs = fetched.iter().filter(|line| line.contains("/blobs/"));
    assert_eq!(blobs.count(), 0, "{fetched:#?}");
    assert_eq!(ddock.sh(&[], &reference, "cat /private/link"), "content");
    ddock.run(&["system", "check"]).exits(0);
    let up_to_date = ddock.ok(&["pull", &reference]);
    assert!(up_to_date.contains("Image is up to date"), "{up_to_date}");
}

#[test]
fn fix_ups_are_made_again_with_a_layer_that_is_mended() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let reference = registry.push("test/image:latest", &stacked().build());
    ddock.ok(&["pull", "-q", &reference]);
    let below = layer_with(&ddock, "private/file");
    fs_err::set_permissions(below.join("linked"), Permissions::from_mode(0o600)).unwrap();
    open_private(&chain(&ddock).join("fs"));
    // What the fix-ups should be is not known before the layer is right.
    let output = ddock.run(&["system", "check"]).exits(1);
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.text());
    ddock.run(&["system", "check", "--repair"]).exits(0);
    ddock.run(&["system", "check"]).exits(0);
    let script = "stat -c %a /private; stat -c '%a %h' /linked";
    assert_eq!(ddock.sh(&[], &reference, script), "700\n640 2\n");
}

#[test]
fn a_layer_is_told_of_with_each_of_its_images_and_fetched_once() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let one = registry.push("test/one:latest", &image().build());
    let two = image().config("Cmd", serde_json::json!(["sh"]));
    let two = registry.push("test/two:latest", &two.build());
    ddock.ok(&["pull", "-q", &one]);
    ddock.ok(&["pull", "-q", &two]);
    fs_err::remove_file(layer_with(&ddock, "data").join("data/link")).unwrap();
    let output = ddock.run(&["system", "check"]).exits(1);
    for image in [&one, &two] {
        let lines = output.stdout.lines();
        let missing =
            lines.filter(|line| line.starts_with(image) && line.contains("missing /data/link"));
        assert_eq!(missing.count(), 1, "{}", output.text());
    }
    let fetched = registry.requests_during(|| {
        ddock.run(&["system", "check", "--repair"]).exits(0);
    });
    let blobs = fetched.iter().filter(|line| line.contains("/blobs/"));
    assert_eq!(blobs.count(), 1, "{fetched:#?}");
    ddock.run(&["system", "check"]).exits(0);
}

#[test]
fn a_damaged_blob_is_found_and_mended() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let image = image().build();
    let config = image.id();
    let manifest = image.top().digest.clone();
    let reference = registry.push("test/image:latest", &image);
    ddock.ok(&["pull", "-q", &reference]);
    let blob = |digest: &str| {
        ddock
            .root()
            .join("v1/blobs/sha256")
            .join(&digest["sha256:".len()..])
    };
    fs_err::write(blob(&config), "{}").unwrap();
    fs_err::remove_file(blob(&manifest)).unwrap();
    let output = ddock.run(&["system", "check", &reference]).exits(1);
    let (config, manifest) = (&config[7..19], &manifest[7..19]);
    let expected = format!(
        "{reference} {config} damaged config: content\n{reference} {manifest} missing manifest: blob\n"
    );
    assert_eq!(output.stdout, expected);
    ddock.run(&["system", "check", "--repair"]).exits(0);
    ddock.run(&["system", "check"]).exits(0);
}

#[test]
fn a_container_keeps_what_it_runs_on_while_that_is_replaced() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let reference = registry.push("test/image:latest", &image().build());
    ddock.ok(&["pull", "-q", &reference]);
    let fs = layer_with(&ddock, "data");
    fs_err::set_permissions(fs.join("data/noted"), Permissions::from_mode(0o600)).unwrap();
    let script = "echo ready; read line; cat /data/file";
    let mut run = ddock
        .command(&["run", "--rm", "-i", &reference, "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    ddock.run(&["system", "check", "--repair"]).exits(0);
    run.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    line.clear();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "content");
    assert!(run.wait().unwrap().success());
}

#[test]
fn what_cannot_be_fetched_stays_as_it_is() {
    let ddock = Ddock::new();
    let reference = ddock.pull(image());
    let fs = layer_with(&ddock, "data");
    fs_err::write(fs.join("data/file"), "damaged").unwrap();
    let output = ddock.run(&["system", "check", "--repair"]).exits(1);
    assert!(output.stderr.contains("cannot repair"), "{}", output.text());
    assert_eq!(
        ddock.sh(&["--pull", "never"], &reference, "cat /data/file"),
        "damaged"
    );
    let output = ddock.run(&["system", "check"]).exits(1);
    assert!(
        output.stdout.contains("damaged /data/file: mtime"),
        "{}",
        output.text()
    );
}

#[test]
fn images_that_are_not_here_cannot_be_checked() {
    let (ddock, _) = Ddock::with_busybox();
    ddock
        .run(&["system", "check", "absent"])
        .exits(1)
        .says("No such image: absent:latest");
    ddock
        .run(&["system", "check", "--quick"])
        .exits(125)
        .says("`--quick` is not there yet");
    ddock
        .run(&["system", "prune"])
        .exits(125)
        .says("`system prune` is not there yet");
}
