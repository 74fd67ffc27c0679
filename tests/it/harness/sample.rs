//! Images of noise, so that their compressed size is their size, and the proof that a store has them unpacked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::chance::Chance;
use crate::harness::ddock::Ddock;
use crate::harness::image::{Compression, Image, ImageBuilder};
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;

pub(crate) struct Sample {
    pub(crate) image: Arc<Image>,
    /// The files of each layer, base first.
    layers: Vec<BTreeMap<String, Vec<u8>>>,
}

impl Sample {
    /// Returns an image of layers of these many bytes, each in a few files.
    pub(crate) fn new(layers: &[(usize, Compression)]) -> Sample {
        let mut chance = Chance::new(1);
        let mut builder = ImageBuilder::new();
        let mut contents = Vec::new();
        for (number, (size, compression)) in layers.iter().enumerate() {
            let count = 1 + chance.below(6);
            let mut tree = Tree::new().dir("./", 0o755);
            let mut files = BTreeMap::new();
            for file in 0..count {
                let name = format!("layer-{number}-file-{file}");
                let content = chance.noise(size / count);
                tree = tree.file(&name, 0o644, &content);
                files.insert(name, content);
            }
            builder = builder.layer_as(tree.tar(), *compression);
            contents.push(files);
        }
        Sample {
            image: Arc::new(builder.build()),
            layers: contents,
        }
    }

    /// Returns an image of 40 layers, most of them small, of about 55 MB.
    pub(crate) fn of_forty_layers() -> Sample {
        let mut chance = Chance::new(40);
        let compressions = [Compression::Gzip, Compression::Zstd, Compression::None];
        let layers: Vec<_> = (0..40)
            .map(|number| {
                let size = match number {
                    7 => 20 << 20,
                    23 => 10 << 20,
                    _ if number % 5 == 0 => (1 << 20) + chance.below(4 << 20),
                    _ => 1000 + chance.below(200_000),
                };
                (size, compressions[number % 3])
            })
            .collect();
        Sample::new(&layers)
    }

    /// Returns how many bytes of layers a pull has to fetch.
    pub(crate) fn size(&self) -> u64 {
        let layers = self.image.layers();
        let blobs = self.image.blobs.iter();
        let blobs = blobs.filter(|blob| layers.contains(&blob.digest));
        blobs.map(|blob| blob.bytes.len() as u64).sum()
    }

    /// Fails the test unless the store has every file of every layer, in the right order, and no compressed data any more.
    #[track_caller]
    pub(crate) fn assert_unpacked(&self, ddock: &Ddock, reference: &str) {
        let directories = layer_directories(ddock, reference);
        assert_eq!(directories.len(), self.layers.len());
        for (directory, files) in directories.iter().zip(&self.layers) {
            let mut found = BTreeMap::new();
            for entry in fs_err::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                found.insert(name, fs_err::read(entry.path()).unwrap());
            }
            assert!(
                found == *files,
                "{} has {:?}",
                directory.display(),
                found.keys()
            );
        }
        let left = partial_files(ddock);
        assert!(left.is_empty(), "left after a success: {left:?}");
    }
}

/// Returns the directories of an image's layers, base first.
fn layer_directories(ddock: &Ddock, reference: &str) -> Vec<PathBuf> {
    let told: Value = serde_json::from_str(&ddock.ok(&["inspect", reference])).unwrap();
    let lower = told[0]["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    lower.split(':').rev().map(PathBuf::from).collect()
}

/// Returns the files that a store keeps of blobs on their way.
pub(crate) fn partial_files(ddock: &Ddock) -> Vec<PathBuf> {
    let partial = ddock.root().join("v1/partial");
    if !partial.exists() {
        return Vec::new();
    }
    let mut find = Command::new("find");
    let found = command_succeeds(find.arg(partial).args(["-mindepth", "1", "-type", "f"]));
    found.lines().map(PathBuf::from).collect()
}

/// Returns the bytes that a store takes on its disk, and those that the files of its layers do.
pub(crate) fn disk_use(ddock: &Ddock) -> (u64, u64) {
    let of = |paths: &[PathBuf]| {
        let mut du = Command::new("du");
        let text = command_succeeds(du.args(["-scB1"]).args(paths));
        let total = text.lines().last().expect("a total").split('\t').next();
        total.unwrap().parse::<u64>().unwrap()
    };
    let layers = fs_err::read_dir(ddock.root().join("v1/layers")).unwrap();
    let files: Vec<_> = layers.map(|l| l.unwrap().path().join("fs")).collect();
    (of(&[Path::to_owned(ddock.root())]), of(&files))
}
