//! Tests that kill containers' operations before every system call that changes something, or cut the power there.

use crate::container::record::{Record, Status};
use crate::container::{Container, Volumes, find, list, remove, sweep};
use crate::spec::VolumeUse;
use crate::store::crash::{End, at_every_call, is_child, open, run};
use crate::store::tests::names;
use crate::store::{Claim, Store, VolumeRecord};
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "web";

/// Where in its directory a [`Disk`] is mounted.
const MOUNTED: &str = "mounted";

/// Where an operation says what its user is told: beside the store's file system, which the power cut does not reach.
fn said(root: &Path) -> PathBuf {
    match root.file_name() {
        Some(name) if name == MOUNTED => root.with_file_name("said"),
        _ => root.join("said"),
    }
}

fn say(root: &Path, word: &str) {
    fs_err::write(said(root), word).unwrap();
}

/// Makes a container with a volume, starts it as a process that is gone, and ends it with 3.
fn live(root: &Path) {
    let store = open(root);
    let mut record = Record::unknown(&"c".repeat(64), chrono::Utc::now());
    record.name = NAME.to_owned();
    record.status = Status::Starting;
    record.origin = crate::container::Origin::Directory { rootfs: "/".into() };
    let shared = store.shared().unwrap();
    let mut container = Container::create(&store, shared, None, record).unwrap();
    let claim = |name: &str, anonymous| VolumeUse {
        claim: Claim {
            name: name.parse().unwrap(),
            anonymous,
            labels: std::collections::BTreeMap::new(),
        },
        content: None,
    };
    container.write_bundle("{}", &[]).unwrap();
    container
        .provide_volumes(&[claim("data", false), claim("own", true)])
        .unwrap();
    container.started(1, 1).unwrap();
    say(root, "runs");
    // As when a network is connected.
    container.save().unwrap();
    container.ended(Some((3, false))).unwrap();
    say(root, "ended");
}

fn prepare(root: &Path) {
    let store = open(root);
    let named = VolumeRecord::new(std::collections::BTreeMap::new(), false);
    store
        .create_volume(&"data".parse().unwrap(), &named)
        .unwrap();
    say(root, "");
}

fn remove_it(root: &Path) {
    let store = open(root);
    let record = find(&store, NAME).unwrap();
    remove(&store, &record, None, Volumes::Removed).unwrap();
    say(root, "removed");
}

/// Looks that what was said is so, and that everything works.
fn check(root: &Path) {
    let word = fs_err::read_to_string(said(root)).unwrap();
    let store = open(root);
    let left = sweep(&store);
    assert!(left.is_empty(), "{left:?}");
    let records = list(&store).unwrap();
    assert!(
        word.is_empty() || word == "removed" || records.len() == 1,
        "{word}: it is lost"
    );
    for record in records {
        assert!(
            record.is_known() || word.is_empty() || word == "removed",
            "{word}: {record:?}"
        );
        if record.is_known() {
            let Status::Exited { code, .. } = record.status else {
                panic!("{record:?}");
            };
            assert!(
                code == 3 || (code == 137 && word != "ended"),
                "{word}: {code}"
            );
        }
        if word == "runs" || word == "ended" {
            assert_eq!(
                store.named_container(NAME).unwrap().as_ref(),
                Some(&record.id)
            );
            // What the container has stays, whatever is left of its lists.
            let all = store.volumes().unwrap().into_iter().map(|(name, _)| name);
            let gone = store.remove_unused(&all.collect::<Vec<_>>()).unwrap();
            assert_eq!(gone, [], "{word}");
        }
        remove(&store, &record, None, Volumes::Removed).unwrap();
    }
    assert_empty(&store);
}

/// Looks that of containers nothing is left.
fn assert_empty(store: &Store) {
    store.sweep_temporaries().unwrap();
    store.sweep_names().unwrap();
    for directory in ["containers", "names", "alive", "tmp"] {
        assert_eq!(names(store, directory), [""; 0], "{directory}");
    }
    store
        .create_volume(
            &"data".parse().unwrap(),
            &VolumeRecord::new(std::collections::BTreeMap::new(), false),
        )
        .unwrap();
}

#[test]
fn a_killed_life_of_a_container_leaves_nothing_or_what_was_said() {
    if is_child(live) {
        return;
    }
    let name = "container::crash::a_killed_life_of_a_container_leaves_nothing_or_what_was_said";
    at_every_call(name, prepare, check);
}

/// Makes what is to be removed.
fn prepare_removal(root: &Path) {
    prepare(root);
    live(root);
    // From now on it may go at any time.
    say(root, "");
}

#[test]
fn a_killed_removal_of_a_container_is_completed_by_the_next() {
    if is_child(remove_it) {
        return;
    }
    let name = "container::crash::a_killed_removal_of_a_container_is_completed_by_the_next";
    at_every_call(name, prepare_removal, check);
}

/// A file system in a file, mounted until this is dropped.
struct Disk {
    kind: &'static str,
    directory: tempfile::TempDir,
}

impl Disk {
    fn new(kind: &'static str) -> Self {
        let disk = Self::unmounted(kind);
        let file = fs_err::File::create(disk.file()).unwrap();
        file.set_len(320 << 20).unwrap();
        disk.command(
            &format!("mkfs.{kind}"),
            &["-q", disk.file().to_str().unwrap()],
        );
        disk.mount()
    }

    fn unmounted(kind: &'static str) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        fs_err::create_dir(directory.path().join(MOUNTED)).unwrap();
        Self { kind, directory }
    }

    fn mount(self) -> Self {
        let options = if self.kind == "xfs" {
            "loop,nouuid"
        } else {
            "loop"
        };
        let (file, place) = (self.file(), self.place());
        let arguments = [
            "-t",
            self.kind,
            "-o",
            options,
            file.to_str().unwrap(),
            place.to_str().unwrap(),
        ];
        self.command("mount", &arguments);
        self
    }

    /// Returns what is left if the power is cut now.
    fn cut(&self) -> Self {
        let cut = Self::unmounted(self.kind);
        let (from, to) = (self.file(), cut.file());
        self.command(
            "cp",
            &[
                "--sparse=always",
                from.to_str().unwrap(),
                to.to_str().unwrap(),
            ],
        );
        fs_err::copy(said(&self.root()), said(&cut.root())).unwrap();
        cut.mount()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join(MOUNTED)
    }

    /// Where the store is; what is said is beside the mount.
    fn root(&self) -> PathBuf {
        self.place()
    }

    fn command(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{program} on {}: {output:?}",
            self.kind
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A failed assertion is told, not this.
        rustix::mount::unmount(self.place(), rustix::mount::UnmountFlags::DETACH).ok();
    }
}

/// Cuts the power before every `step`th change that the test's operation makes, from the `first` on, and returns how many
/// there are.
fn cut_at(
    test: &str,
    kind: &'static str,
    prepare: fn(&Path),
    (first, step): (usize, usize),
) -> usize {
    for last in (first..).step_by(step) {
        let disk = Disk::new(kind);
        prepare(&disk.root());
        let (end, changes) = run(test, &disk.root(), last);
        check(&disk.cut().root());
        if end == End::Finished {
            return changes.len();
        }
    }
    unreachable!("there are fewer changes than numbers")
}

/// Which share of the changes each run looks at: another each day, and all of them in the long one.
fn share() -> (usize, usize) {
    (chance(9), 9)
}

#[test]
fn a_power_cut_takes_nothing_that_was_said() {
    if is_child(live) {
        return;
    }
    let name = "container::crash::a_power_cut_takes_nothing_that_was_said";
    for kind in ["ext4", "xfs"] {
        cut_at(name, kind, prepare, share());
    }
}

#[test]
fn a_power_cut_in_a_removal_leaves_what_can_be_removed() {
    if is_child(remove_it) {
        return;
    }
    let name = "container::crash::a_power_cut_in_a_removal_leaves_what_can_be_removed";
    for kind in ["ext4", "xfs"] {
        cut_at(name, kind, prepare_removal, share());
    }
}

#[test]
#[ignore = "takes a minute: scripts/test --long"]
fn a_power_cut_at_any_change_takes_nothing_that_was_said() {
    if is_child(live) {
        return;
    }
    let name = "container::crash::a_power_cut_at_any_change_takes_nothing_that_was_said";
    for kind in ["ext4", "xfs"] {
        let changes = cut_at(name, kind, prepare, (0, 1));
        assert!(changes > 40, "only {changes} changes were seen");
    }
}

#[test]
#[ignore = "takes a minute: scripts/test --long"]
fn a_power_cut_at_any_change_of_a_removal_leaves_what_can_be_removed() {
    if is_child(remove_it) {
        return;
    }
    let name =
        "container::crash::a_power_cut_at_any_change_of_a_removal_leaves_what_can_be_removed";
    for kind in ["ext4", "xfs"] {
        let changes = cut_at(name, kind, prepare_removal, (0, 1));
        assert!(changes > 10, "only {changes} changes were seen");
    }
}

/// Returns another number below `limit` each day, so that all changes have their turn.
fn chance(limit: usize) -> usize {
    let days = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs()
        / (24 * 60 * 60);
    usize::try_from(days).unwrap() % limit
}
