//! What the fuzzers do with their bytes: ddock's own modules on a real file system, and what must hold whatever the bytes are.

#![allow(dead_code, reason = "the package uses the rest")]

#[path = "../../src/digest.rs"]
mod digest;
#[path = "../../src/human.rs"]
mod human;
#[path = "../../src/network/names/message.rs"]
mod message;
#[path = "../../src/sys/mod.rs"]
mod sys;
#[path = "../../src/unpack/mod.rs"]
mod unpack;

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use unpack::{Limits, Options, OverlayAttributes, Owners, Recipe};

/// What stands outside of every layer. It is longer than any input: the fuzzer learns what it is compared with, and
/// can say that itself.
fn secret() -> &'static str {
    static SECRET: OnceLock<String> = OnceLock::new();
    SECRET.get_or_init(|| {
        let mut bytes = [0; 48 << 10];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .unwrap();
        digest::to_hex(&bytes)
    })
}

/// A directory with a layer's place and a file outside of it.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in ["root", "shadow"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("canary"), secret()).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let parent = fs::File::open(self.0.path()).unwrap();
        for entry in fs::read_dir(self.0.path()).unwrap() {
            sys::tree::remove(parent.as_fd(), &entry.unwrap().file_name()).unwrap();
        }
    }
}

fn options() -> Options {
    Options {
        owners: Owners::Kept,
        overlay: OverlayAttributes::Trusted,
        limits: Limits {
            entries: 1000,
            tar_size: Some(4 << 20),
            ..Limits::default()
        },
    }
}

/// Unpacks a layer. What is accepted makes the same tar again, and is found to be right; nothing outside ever changes.
pub fn tar(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    correct_checksums(&mut bytes);
    let scene = Scene::new();
    let (root, file, kept) = (scene.path("root"), scene.path("recipe"), scene.path("kept"));
    let recipe = Recipe {
        file: &file,
        kept: &kept,
    };
    if let Ok(unpacked) = unpack::layer(&mut &bytes[..], &root, Some(recipe), &options()) {
        let shadow = scene.path("shadow");
        let checked = unpack::check(&root, recipe, &unpacked.diff_id, &shadow, &options());
        let checked = checked.expect("what was unpacked can be unpacked again");
        assert!(checked.findings.is_empty(), "{:?}", checked.findings);
        let again = checked.unpacked.expect("nothing was found");
        assert_eq!(again.diff_id, unpacked.diff_id);
        assert_eq!(again.size, unpacked.size);
        assert_eq!(again.implied, unpacked.implied);
    }
    assert_unchanged(&scene);
}

/// Gives what looks like a header its checksum, which no fuzzer finds by chance.
fn correct_checksums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn assert_unchanged(scene: &Scene) {
    assert_eq!(fs::read_to_string(scene.path("canary")).unwrap(), secret());
    for entry in fs::read_dir(scene.0.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let known = ["canary", "kept", "recipe", "root", "shadow"];
        assert!(known.iter().any(|known| name == *known), "{name:?}");
    }
}

/// Makes a tar of a recipe. Nothing outside of the layer is ever in it.
pub fn recipe(bytes: &[u8]) {
    thread_local! {
        static SCENE: Scene = with_layer();
    }
    SCENE.with(|scene| {
        let (file, kept) = (scene.path("recipe"), scene.path("kept"));
        write_recipe(&file, bytes);
        let recipe = Recipe {
            file: &file,
            kept: &kept,
        };
        let mut tar = Vec::new();
        if let Ok(rebuild) = unpack::recipe::Rebuild::open(&scene.path("root"), recipe) {
            // An error is an answer.
            rebuild.take(1 << 20).read_to_end(&mut tar).ok();
        }
        let secret = secret().as_bytes();
        assert!(!tar.windows(secret.len()).any(|part| part == secret));
    });
}

/// Bytes that begin with 0xff are the file itself, others are what it holds uncompressed.
fn write_recipe(file: &Path, bytes: &[u8]) {
    let bytes = match bytes {
        [0xff, file @ ..] => file.to_vec(),
        records => {
            let records = [b"ddock recipe 2\n", records].concat();
            zstd::encode_all(&records[..], 1).unwrap()
        }
    };
    fs::write(file, bytes).unwrap();
}

/// A layer with a little of everything.
fn with_layer() -> Scene {
    let scene = Scene::new();
    let root = scene.path("root");
    fs::create_dir(root.join("d")).unwrap();
    fs::create_dir(scene.path("kept")).unwrap();
    fs::write(root.join("f"), "inside").unwrap();
    fs::write(root.join("d/f"), "inside, too").unwrap();
    fs::write(scene.path("kept/0"), "kept").unwrap();
    std::os::unix::fs::symlink("../canary", root.join("out")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    scene
}

/// Reads a message as a query of a container's, and as the answer to it. Every answer of ours is one to its query.
pub fn names(bytes: &[u8]) {
    let (query, other) = bytes.split_at(bytes.len() / 2);
    for query in [bytes, query] {
        match message::Question::parse(query) {
            Ok(question) => {
                question.reverse();
                let known = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                for most in [message::DATAGRAM, usize::from(u16::MAX)] {
                    let answer = message::addresses(query, &question, &known, most);
                    assert!(answer.len() <= most.max(query.len()));
                    assert!(message::answers(query, message::id(query), &answer));
                    let answer = message::name(query, &question, "name.network", most);
                    assert!(message::answers(query, message::id(query), &answer));
                }
                if message::answers(query, message::id(query), other) {
                    message::is_poor(other);
                }
            }
            Err(message::Unfit::Refused(code)) => {
                assert!(message::refusal(query, code).len() <= query.len());
            }
            Err(message::Unfit::NoQuery) => {}
        }
    }
}
