//! Checks: every change of a layer is found, and named.

use crate::digest::Digest;
use crate::unpack::testing::{Scene, Tar, options};
use crate::unpack::{Fault, Finding};
use fs_err as fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Unpacks a small layer, lets `damage` change its root, and looks whether `expected` is said of it.
#[track_caller]
fn assert_found(expected: &str, damage: impl FnOnce(&Path)) {
    let tar = Tar::new()
        .directory("d/")
        .file("d/f", "content")
        .file("d/other", "")
        .hard_link("d/g", "d/f")
        .symlink("d/l", "f")
        .pax(&[("SCHILY.xattr.user.note", b"x")])
        .file("d/noted", "")
        .finish();
    let scene = Scene::new();
    let unpacked = scene.unpack(&tar).unwrap();
    damage(&scene.root());
    let findings = scene.check_with(&unpacked.diff_id, &options());
    let told: Vec<String> = findings.iter().map(line).collect();
    assert!(told.iter().any(|line| line.contains(expected)), "{told:#?}");
    assert!(told.len() <= 2, "{told:#?}");
}

#[test]
fn every_change_of_content_is_found() {
    assert_found("damaged /d/f: content", |root| flip(&root.join("d/f")));
    assert_found("damaged /d/f: size 8 instead of 7", |root| {
        grow(&root.join("d/f"));
    });
    assert_found("damaged /d/f: mtime", |root| {
        fs::write(root.join("d/f"), "CONTENT").unwrap();
    });
}

#[test]
fn every_change_of_metadata_is_found() {
    assert_found("damaged /d/f: mode 0600 instead of 0644", |root| {
        chmod(&root.join("d/f"), 0o600);
    });
    assert_found("damaged /d: mode 0700 instead of 0755", |root| {
        chmod(&root.join("d"), 0o700);
    });
    assert_found("damaged /: mode 0700 instead of 0755", |root| {
        chmod(root, 0o700);
    });
    let expected = "damaged /d/f: mtime 0.000000005 instead of 1000000000.000000000";
    assert_found(expected, |root| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        let file = fs::File::options().write(true).open(root.join("d/f"));
        file.unwrap().set_modified(time).unwrap();
    });
    assert_found("damaged /d/noted: attribute `user.note`", |root| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("d/noted"), "user.note", b"y", flags).unwrap();
    });
}

#[test]
fn every_change_of_names_is_found() {
    assert_found("missing /d/l: symbolic link", |root| {
        unchanged(&root.join("d"), || {
            fs::remove_file(root.join("d/l")).unwrap();
        });
    });
    assert_found("added /d/a\\nb: file", |root| {
        unchanged(&root.join("d"), || {
            fs::write(root.join("d/a\nb"), "").unwrap();
        });
    });
    assert_found("target `/etc` instead of `f`", |root| {
        unchanged(&root.join("d"), || {
            fs::remove_file(root.join("d/l")).unwrap();
            symlink("/etc", root.join("d/l")).unwrap();
        });
    });
    let expected = "damaged /d/g: size 0 instead of 7, link to nothing instead of `d/f`";
    assert_found(expected, |root| {
        unchanged(&root.join("d"), || {
            fs::remove_file(root.join("d/g")).unwrap();
            fs::hard_link(root.join("d/other"), root.join("d/g")).unwrap();
        });
    });
    assert_found("damaged /d/other: directory instead of file", |root| {
        unchanged(&root.join("d"), || {
            fs::remove_file(root.join("d/other")).unwrap();
            fs::create_dir(root.join("d/other")).unwrap();
        });
    });
}

fn line(finding: &Finding) -> String {
    format!("{} {}: {}", finding.fault, finding.subject, finding.what)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Does something that changes the times of `path`, and sets them back.
fn unchanged(path: &Path, act: impl FnOnce()) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    act();
    fs::File::open(path).unwrap().set_modified(before).unwrap();
}

fn flip(path: &Path) {
    unchanged(path, || {
        let mut content = fs::read(path).unwrap();
        content[0] ^= 1;
        fs::write(path, content).unwrap();
    });
}

fn grow(path: &Path) {
    unchanged(path, || {
        let content = fs::read(path).unwrap();
        fs::write(path, [&content[..], b"x"].concat()).unwrap();
    });
}

#[test]
fn what_was_kept_is_checked_too() {
    let tar = Tar::new().file("f", "first").file("f", "second").finish();
    for damage in [
        flip as fn(&Path),
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ] {
        let scene = Scene::new();
        let unpacked = scene.unpack(&tar).unwrap();
        damage(&scene.recipe().1.join("0"));
        let findings = scene.check_with(&unpacked.diff_id, &options());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].subject, "/f");
        assert!(
            findings[0].what.contains("what a later entry"),
            "{findings:?}"
        );
    }
}

#[test]
fn a_damaged_recipe_is_found() {
    let mut tar = Tar::new();
    for number in 0..100 {
        tar = tar.file(format!("file {number}"), format!("content {number}"));
    }
    let scene = Scene::new();
    let unpacked = scene.unpack(&tar.finish()).unwrap();
    let path = scene.recipe().0;
    let whole = fs::read(&path).unwrap();
    let check = || scene.check_with(&unpacked.diff_id, &options());
    for at in (0..whole.len()).step_by(whole.len() / 50) {
        let mut recipe = whole.clone();
        recipe[at] ^= 1;
        fs::write(&path, &recipe).unwrap();
        let findings = check();
        // The frame's header says some things in several ways.
        if at > 8 || !findings.is_empty() {
            assert_eq!(findings[0].fault, Fault::Damaged, "{at}");
            assert_eq!(findings[0].subject, "recipe", "{at}: {findings:?}");
        }
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(check()[0].subject, "recipe", "{at}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(check()[0].fault, Fault::Missing);
    fs::write(&path, &whole).unwrap();
    assert_eq!(check(), []);
    let other = Digest::of(b"another");
    let findings = scene.check_with(&other, &options());
    assert_eq!(findings[0].subject, "recipe");
}
