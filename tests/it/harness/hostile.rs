//! Cases of hostile layers, and what is checked of each.

use std::path::Path;

use tar::EntryType;

use crate::harness::ddock::Ddock;
use crate::harness::image::{Compression, ImageBuilder, busybox};
use crate::harness::listing::listing;
use crate::harness::registry::Registry;
use crate::harness::scratch::chmod;
use crate::harness::tree::Tree;
use crate::harness::user::User;

/// What it is, the rule that refuses it or nothing if it is harmless, and its layers above busybox, base first, made for
/// the canary's absolute path.
pub(crate) type Case = (&'static str, &'static str, fn(&str) -> Vec<Vec<u8>>);

/// Pulls an image of each case as root and as an ordinary user, and runs it if it can be pulled.
pub(crate) fn check(cases: &[Case]) {
    let registry = Registry::start();
    for user in [None, Some(User::with_ranges())] {
        let who = user.as_ref().map_or("root", |_| "an ordinary user");
        let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
        let canary = canary(ddock.scratch().path());
        let before = listing(&canary);
        let path = canary.to_str().unwrap();
        for (number, (case, refusal, layers)) in cases.iter().enumerate() {
            let add = |image: ImageBuilder, layer| image.layer_as(layer, Compression::None);
            let image = layers(path).into_iter().fold(busybox(), add).build();
            let reference = registry.push(&format!("test/hostile:{number}"), &image);
            let pulled = ddock.run(&["pull", "-q", &reference]);
            let told = format!("{case}, by {who}: {}", pulled.text());
            if refusal.is_empty() {
                assert_eq!(pulled.code, 0, "{told}");
                let output = ddock.run(&["run", "--rm", &reference, "true"]);
                assert_eq!(output.code, 0, "{told}{}", output.text());
            } else {
                assert_eq!(pulled.code, 1, "{told}");
                let error = pulled
                    .stderr
                    .lines()
                    .find(|line| line.starts_with("ddock: "));
                assert!(error.is_some_and(|line| line.contains(refusal)), "{told}");
                assert!(!pulled.stderr.contains('\x1b'), "{told}");
            }
            assert_eq!(listing(&canary), before, "{told}");
            let left = fs_err::read_dir(ddock.root().join("v1/tmp")).unwrap();
            assert_eq!(left.count(), 0, "{told}");
        }
        // Not in the store's parent either, which is as far as one `..` leads.
        let mut names: Vec<_> = fs_err::read_dir(ddock.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["v1"], "{who}");
    }
}

/// Makes a directory that everybody may write to: only ddock keeps a layer from it.
fn canary(parent: &Path) -> std::path::PathBuf {
    let canary = parent.join("canary");
    fs_err::create_dir_all(canary.join("directory")).unwrap();
    for file in ["file", "directory/file"] {
        fs_err::write(canary.join(file), "canary").unwrap();
        chmod(&canary.join(file), 0o666);
    }
    chmod(&canary.join("directory"), 0o777);
    chmod(&canary, 0o777);
    canary
}

pub(crate) fn one(tree: Tree) -> Vec<Vec<u8>> {
    vec![tree.tar()]
}

pub(crate) fn two(below: Tree, above: Tree) -> Vec<Vec<u8>> {
    vec![below.tar(), above.tar()]
}

pub(crate) fn raw(kind: EntryType, name: &[u8], link: &str) -> Tree {
    Tree::new().entry(kind, name, 0o644, link.as_bytes(), b"")
}

/// Returns a layer whose first header is changed, with a checksum that is right again.
pub(crate) fn changed(tree: Tree, change: impl FnOnce(&mut [u8])) -> Vec<Vec<u8>> {
    let mut tar = tree.tar();
    change(&mut tar);
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    vec![tar]
}
