//! Who runs a case: ddock, a peer with the same flags, or runc with the bundle that ddock wrote.

use super::cases::{Case, Place};
use super::view::{PROBE, View, without_ids};
use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::{ImageBuilder, busybox_tree};
use crate::harness::peer::{Peer, remove_cgroup};
use crate::harness::registry::Registry;
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A variable of whoever calls.
const PASSED: &str = "the caller's";

/// Runs a case and tells what it found.
pub(crate) trait Side: Sync {
    fn view(&self, case: &Case) -> View;
}

/// The files of the image, beyond busybox's.
fn tree() -> Tree {
    Tree::new()
        .file("probe", 0o755, PROBE)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n",
        )
        .file(
            "etc/group",
            0o644,
            "root:x:0:\nusers:x:100:\nstaff:x:50:\nwheel:x:10:alice,root\nwater:x:20:alice\n",
        )
        .dir("private", 0o700)
        .dir("data", 0o1777)
        .file("data/file", 0o640, "of the image\n")
        .owner(1000, 100)
        .dir("declared", 0o750)
        .file("declared/file", 0o640, "of the image\n")
        .symlink("out", "/tmp")
}

/// An image that uses what a config has.
fn image() -> ImageBuilder {
    ImageBuilder::new()
        .layer(busybox_tree())
        .layer(tree())
        .config("Env", json!(["PATH=/bin:/sbin", "FROM=image", "HOME="]))
        .config("Cmd", json!(["/probe"]))
        .config("Labels", json!({"org.example": "label"}))
        .config("Volumes", json!({"/declared": {}}))
        .config("StopSignal", json!("SIGQUIT"))
}

/// Fills the directory that cases bind and read.
fn fill(source: &Path) {
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": []}
    ]});
    for (name, content) in [
        ("file", "of the host\n"),
        ("typed", "typed\n"),
        (
            "variables",
            "# none\nX=1 2\nPASSED\nQ=\"q\"\n\nY=\nABSENT\n",
        ),
        ("labels", "# none\nfrom=file\na=overridden\nbare\n"),
        ("filter.json", &filter.to_string()),
    ] {
        fs_err::write(source.join(name), content).unwrap();
    }
}

/// Unpacks the image's layers.
fn unpack(root: &Path) {
    for layer in [busybox_tree(), tree()] {
        let archive = root.with_extension("layer");
        fs_err::write(&archive, layer.tar()).unwrap();
        let mut tar = Command::new("tar");
        command_succeeds(tar.arg("-xpf").arg(archive).arg("-C").arg(root));
    }
}

/// Returns a node of some disk of the host, of which nothing is read.
fn disk() -> String {
    let disks = fs_err::read_dir("/sys/block")
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut nodes = disks
        .map(|name| Path::new("/dev").join(name))
        .filter(|node| node.exists())
        .collect::<Vec<_>>();
    nodes.sort();
    nodes
        .pop()
        .expect("there is a block device")
        .display()
        .to_string()
}

/// ddock, with its image.
pub(crate) struct Ours {
    ddock: Ddock,
    /// Serves the image to the peers.
    _registry: Registry,
    image: String,
    source: PathBuf,
    /// Whether containers stay, for others to see their bundles.
    keeps: bool,
}

impl Ours {
    pub(crate) fn new() -> Ours {
        Ours::with(false)
    }

    pub(crate) fn keeping() -> Ours {
        Ours::with(true)
    }

    fn with(keeps: bool) -> Ours {
        let registry = Registry::start();
        let image = registry.push("test/image:latest", &image().build());
        let ddock = Ddock::new();
        ddock.ok(&["pull", "-q", &image]);
        let source = ddock.scratch().dir("source");
        fill(&source);
        Ours {
            ddock,
            _registry: registry,
            image,
            source,
            keeps,
        }
    }

    /// Returns a peer that is given the same.
    pub(crate) fn beside<'a>(&'a self, peer: &'a Peer) -> Theirs<'a> {
        peer.pull(&self.image);
        Theirs { ours: self, peer }
    }

    fn parent(&self) -> String {
        let name = self.ddock.scratch().path().file_name().unwrap();
        name.to_string_lossy().into_owned()
    }

    fn place(&self, case: &Case, side: &str) -> Place {
        let name = case.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let scratch = self.ddock.scratch();
        let root = scratch.dir(&format!("roots/{side}/{name}"));
        if case.is_in_directory() {
            unpack(&root);
        }
        Place {
            image: self.image.clone(),
            root: root.display().to_string(),
            source: self.source.display().to_string(),
            out: scratch
                .dir(&format!("out/{side}/{name}"))
                .display()
                .to_string(),
            name,
            disk: disk(),
            parent: self.parent(),
        }
    }

    /// Runs a case with the program that `command` calls.
    fn run(
        &self,
        case: &Case,
        place: &Place,
        keeps: bool,
        command: &dyn Fn(&[&str]) -> Command,
    ) -> View {
        let call = |words: &[String]| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let typed = fs_err::File::open(self.source.join("typed")).unwrap();
            output(
                command(&words)
                    .env("PASSED", PASSED)
                    .stdin(typed.into_file()),
            )
        };
        let donor = case.donor(place).map(|words| call(&words).exits(0));
        let output = call(&case.words(place, keeps || !case.inspected.is_empty()));
        let mut view = View::of(&output);
        if !case.inspected.is_empty() {
            let inspected = call(&["inspect".to_owned(), place.name.clone()]);
            for (pointer, value) in inspect(&inspected, case.inspected) {
                view.add(&format!("inspect {pointer} {value}"));
            }
        }
        for entry in fs_err::read_dir(&place.out).unwrap() {
            let path = entry.unwrap().path();
            let content = fs_err::read_to_string(&path).unwrap();
            view.add(&format!(
                "left {} {content}",
                path.file_name().unwrap().display()
            ));
        }
        if donor.is_some() {
            call(&["rm", "-f", &format!("{}-donor", place.name)].map(str::to_owned));
        }
        view
    }
}

fn inspect<'a>(output: &Output, pointers: &'a [&'a str]) -> Vec<(&'a str, Value)> {
    let parsed: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{}", output.text()));
    let value = |pointer: &str| parsed[0].pointer(pointer).cloned().unwrap_or_default();
    pointers
        .iter()
        .map(|pointer| (*pointer, value(pointer)))
        .collect()
}

impl Side for Ours {
    fn view(&self, case: &Case) -> View {
        let place = self.place(case, "ours");
        self.run(case, &place, self.keeps, &|words| self.ddock.command(words))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        remove_cgroup(&self.parent());
    }
}

/// Docker or podman.
pub(crate) struct Theirs<'a> {
    ours: &'a Ours,
    peer: &'a Peer,
}

impl Side for Theirs<'_> {
    fn view(&self, case: &Case) -> View {
        let place = self.ours.place(case, "theirs");
        self.ours
            .run(case, &place, false, &|words| self.peer.command(words))
    }
}

/// runc, with the bundles of the containers that ddock has kept.
pub(crate) struct Bundles<'a>(&'a Ours);

impl<'a> Bundles<'a> {
    pub(crate) fn of(ours: &'a Ours) -> Bundles<'a> {
        Bundles(ours)
    }
}

impl Bundles<'_> {
    /// Returns what `--dry-run` prints of a case, less what is never the same twice.
    fn dry_run(&self, case: &Case, place: &Place) -> String {
        let words = case.words(place, false);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = [&["run", "--dry-run"], &words[1..]].concat();
        let command = &mut self.0.ddock.command(&words);
        config(&output(command.env("PASSED", PASSED)).exits(0).stdout)
    }
}

/// Returns a `config.json` without IDs.
fn config(text: &str) -> String {
    let parsed: Value = serde_json::from_str(text).unwrap();
    let hostname = parsed["hostname"].as_str().filter(|name| name.len() == 12);
    let text = without_ids(text.trim_end());
    hostname.map_or_else(|| text.clone(), |name| text.replace(name, "ID"))
}

impl Side for Bundles<'_> {
    fn view(&self, case: &Case) -> View {
        let (ours, scratch) = (self.0, self.0.ddock.scratch());
        let place = ours.place(case, "ours");
        let name = &place.name;
        let inspected = ours.ddock.run(&["inspect", name]);
        let id = inspect(&inspected, &["/Id"]).pop().unwrap().1;
        let id = id.as_str().unwrap();
        let directory = ours.ddock.root().join("v1/containers").join(id);
        // Its own upper directory has what ddock made in it.
        let bundle = scratch.dir(&format!("bundles/{name}"));
        let written = fs_err::read_to_string(directory.join("config.json")).unwrap();
        assert_eq!(
            self.dry_run(case, &place),
            config(&written),
            "{}",
            case.name
        );
        fs_err::write(bundle.join("config.json"), written).unwrap();
        unpack(&scratch.dir(&format!("bundles/{name}/rootfs")));
        let mut runc = Command::new("runc");
        runc.arg("--root")
            .arg(scratch.join("runc"))
            .arg("run")
            .arg("--bundle")
            .arg(&bundle)
            .arg(id);
        let typed = fs_err::File::open(ours.source.join("typed")).unwrap();
        let view = View::of(&output(runc.stdin(typed.into_file())));
        fs_err::remove_dir_all(&bundle).unwrap();
        view
    }
}
