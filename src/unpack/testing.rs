//! Tars for tests, the crooked ones too, and a place to unpack them where every trace shows.

use crate::digest::Digest;
use crate::unpack::recipe::{Rebuild, Recipe};
use crate::unpack::{Finding, Limits, Options, OverlayAttributes, Owners, Unpacked, layer};
use anyhow::Result;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The modification time that entries have unless they say otherwise.
pub(crate) const MTIME: u64 = 1_000_000_000;

/// A tar in the making.
#[derive(Default, Clone)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends any bytes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends an entry of any type; `change` has the last word on its header.
    pub(crate) fn entry(
        self,
        kind: u8,
        name: impl AsRef<[u8]>,
        body: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let name = name.as_ref();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(body.len() as u64);
        header.set_mtime(MTIME);
        change(&mut header);
        header.set_cksum();
        self.raw(header.as_bytes()).padded(body)
    }

    /// Appends a body, and zeros up to the end of its block.
    pub(crate) fn padded(self, body: &[u8]) -> Self {
        let padding = body.len().next_multiple_of(512) - body.len();
        self.raw(body).raw(&vec![0; padding])
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name, body.as_ref(), |_| {})
    }

    pub(crate) fn directory(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(b'5', name, b"", |_| {})
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.link(b'2', name, target)
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.link(b'1', name, target)
    }

    fn link(self, kind: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        if target.len() > 100 {
            let long = [target, b"\0"].concat();
            return self
                .entry(b'K', "long", &long, |_| {})
                .entry(kind, name, b"", |_| {});
        }
        self.entry(kind, name, b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        })
    }

    pub(crate) fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        self.entry(kind, name, b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// Appends an extended header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body = records
            .iter()
            .map(|(key, value)| pax_record(key, value))
            .collect::<Vec<_>>()
            .concat();
        self.entry(b'x', "pax", &body, |_| {})
    }

    /// Appends a GNU long name for the next entry.
    pub(crate) fn long_name(self, name: impl AsRef<[u8]>) -> Self {
        let name = [name.as_ref(), b"\0"].concat();
        self.entry(b'L', "././@LongLink", &name, |_| {})
    }

    /// Returns the tar with its two blocks of zeros.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

/// Returns the record `length key=value\n`.
pub(crate) fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..8)
        .map(|digits| rest + digits)
        .find(|length| length.to_string().len() + rest == *length)
        .expect("some length fits");
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub(crate) fn options() -> Options {
    Options {
        owners: Owners::Kept,
        overlay: OverlayAttributes::Trusted,
        limits: Limits::default(),
    }
}

/// A directory with a root to unpack into, and beside it what must not change.
pub(crate) struct Scene {
    temp: TempDir,
    before: String,
    /// Where the recipe is, and what is made to compare with.
    beside: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let canary = temp.path().join("canary");
        fs_err::create_dir_all(canary.join("directory")).unwrap();
        fs_err::write(canary.join("file"), "canary").unwrap();
        fs_err::write(canary.join("directory/file"), "canary").unwrap();
        fs_err::create_dir(temp.path().join("root")).unwrap();
        let before = listing(&canary);
        let beside = tempfile::tempdir().unwrap();
        Self {
            temp,
            before,
            beside,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    /// The absolute path of a directory that no layer may change.
    pub(crate) fn canary(&self) -> String {
        let path = self.temp.path().join("canary");
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn unpack(&self, layer: &[u8]) -> Result<Unpacked> {
        self.unpack_with(layer, &options())
    }

    /// Unpacks a layer, makes its tar again, and checks it.
    pub(crate) fn unpack_with(&self, bytes: &[u8], options: &Options) -> Result<Unpacked> {
        let (file, kept) = self.recipe();
        let recipe = Recipe {
            file: &file,
            kept: &kept,
        };
        let unpacked = layer(&mut &*bytes, &self.root(), Some(recipe), options)?;
        let mut tar = Vec::new();
        let mut rebuild = Rebuild::open(&self.root(), recipe).unwrap();
        rebuild.read_to_end(&mut tar).unwrap();
        assert_eq!(Digest::of(&tar), unpacked.diff_id);
        let findings = self.check_with(&unpacked.diff_id, options);
        assert!(findings.is_empty(), "{findings:?}");
        Ok(unpacked)
    }

    /// Returns where the recipe is, and what it keeps.
    pub(crate) fn recipe(&self) -> (PathBuf, PathBuf) {
        let beside = self.beside.path();
        (beside.join("recipe"), beside.join("kept"))
    }

    pub(crate) fn check_with(&self, diff_id: &Digest, options: &Options) -> Vec<Finding> {
        let (file, kept) = self.recipe();
        let recipe = Recipe {
            file: &file,
            kept: &kept,
        };
        let shadow = self.beside.path().join("shadow");
        fs_err::create_dir(&shadow).unwrap();
        let findings =
            crate::unpack::check(&self.root(), recipe, diff_id, &shadow, options).unwrap();
        remove(&shadow);
        findings.findings
    }

    /// Panics if anything but the root has changed.
    pub(crate) fn assert_nothing_leaked(&self, case: &str) {
        assert_eq!(listing(Path::new(&self.canary())), self.before, "{case}");
        let mut names: Vec<_> = fs_err::read_dir(self.temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["canary", "root"], "{case}");
    }
}

/// Describes a tree, a line an entry: path, type and mode, owner, nanosecond mtime, device, attributes, the first
/// name of the same file, and content. Two trees are the same if their listings are.
pub(crate) fn listing(root: &Path) -> String {
    let mut paths = vec![root.to_owned()];
    let mut lines = Vec::new();
    let mut files = HashMap::new();
    while let Some(path) = paths.pop() {
        let metadata = fs_err::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let mut line = format!(
            "/{} {:o} {}:{} {}.{:09}",
            name.escape_ascii(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        if kind.is_char_device() || kind.is_block_device() {
            write!(line, " device {:x}", metadata.rdev()).unwrap();
        }
        for (attribute, value) in attributes(&path) {
            let (attribute, value) = (attribute.escape_ascii(), value.escape_ascii());
            write!(line, " {attribute}={value}").unwrap();
        }
        if kind.is_dir() {
            let mut below: Vec<_> = fs_err::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            below.sort();
            below.reverse();
            paths.append(&mut below);
        } else if metadata.nlink() > 1 {
            let first = files.entry(metadata.ino()).or_insert(path.clone());
            let first = first.strip_prefix(root).unwrap().display();
            write!(line, " first {first}").unwrap();
        }
        if kind.is_file() {
            let content = fs_err::read(&path).unwrap();
            let digest = Digest::of(&content);
            write!(line, " {} bytes {}", content.len(), digest.short()).unwrap();
        } else if kind.is_symlink() {
            let target = fs_err::read_link(&path).unwrap();
            write!(line, " -> {}", target.as_os_str().as_bytes().escape_ascii()).unwrap();
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0);
    let mut found: Vec<_> = names
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect();
    found.sort();
    found
}

/// What it is, the rule that refuses it or nothing if it is harmless, and its tar, made for the canary's absolute path.
pub(crate) type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&str) -> Tar);

/// Unpacks each case; nothing but its root may change.
pub(crate) fn check(cases: &[Case<'_>]) {
    for (case, refusal, tar) in cases {
        let scene = Scene::new();
        let result = scene.unpack(&tar(&scene.canary()).finish());
        scene.assert_nothing_leaked(case);
        match result {
            Ok(_) => assert!(refusal.is_empty(), "{case}: was not refused"),
            Err(error) => {
                let text = format!("{error:#}");
                assert!(!refusal.is_empty(), "{case}: {text}");
                assert!(text.contains(refusal), "{case}: {text}");
                assert!(!text.contains('\n'), "{case}: {text}");
            }
        }
    }
}

/// Removes a tree, however deep or closed it is.
pub(crate) fn remove(tree: &Path) {
    let parent = fs_err::File::open(tree.parent().unwrap()).unwrap();
    crate::sys::tree::remove(parent.as_fd(), tree.file_name().unwrap()).unwrap();
}
