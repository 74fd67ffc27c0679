//! Tests that kill the store's operations before every single system call that changes something, and look what is left.
//!
//! A test starts itself once more as a child that is traced, ptrace(2), lets it make a number of such
//! calls, kills it, and goes on with what the child left.

use crate::digest::Digest;
use crate::store::tests::{assert_consistent, names, pull, remove};
use crate::store::{Claim, Store, VolumeName};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names the store's root to the child, and by being there says that this process is the child.
const ROOT: &str = "DDOCK_TEST_CRASH_ROOT";

/// System calls before which a death is the same as before the next one.
#[rustfmt::skip]
const HARMLESS: [i64; 19] = [
    libc::SYS_read, libc::SYS_close, libc::SYS_lseek, libc::SYS_fcntl, libc::SYS_statx, libc::SYS_fstat,
    libc::SYS_newfstatat, libc::SYS_getdents64, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect,
    libc::SYS_brk, libc::SYS_madvise, libc::SYS_futex, libc::SYS_sigaltstack, libc::SYS_exit,
    libc::SYS_getrandom, libc::SYS_geteuid, libc::SYS_flock,
];

/// How a traced child came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    Finished,
}

/// Runs `operation` if this process is the child of the test `name`, which then returns.
pub(crate) fn is_child(operation: fn(&Path)) -> bool {
    let Some(root) = env::var_os(ROOT) else {
        return false;
    };
    let mut error = std::io::stderr();
    writeln!(error, "thread {}", nix::unistd::gettid()).unwrap();
    std::io::stdin()
        .lock()
        .read_line(&mut String::new())
        .unwrap();
    operation(Path::new(&root));
    true
}

/// Starts the test `name` as a child; returns it and the thread that waits to be traced.
fn start(name: &str, root: &Path) -> (Child, Pid) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stderr = child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut line).unwrap();
    let thread = line
        .trim()
        .strip_prefix("thread ")
        .expect(&line)
        .parse()
        .unwrap();
    (child, Pid::from_raw(thread))
}

/// Runs the test `name` as a child, kills it before change number `last`, and tells which system calls made
/// those before.
pub(crate) fn run(name: &str, root: &Path, last: usize) -> (End, Vec<i64>) {
    let (mut child, thread) = start(name, root);
    let mut calls = Vec::new();
    ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    ptrace::interrupt(thread).unwrap();
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut is_entry = false;
    let end = loop {
        ptrace::syscall(thread, None).unwrap();
        match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceSyscall(_) => is_entry = !is_entry,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => break End::Finished,
            _ => continue,
        }
        if let Some(call) = is_entry.then(|| change(thread)).flatten() {
            if calls.len() == last {
                kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
                // A traced thread that is dead keeps its process waiting until its tracer knows.
                waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
                break End::Killed;
            }
            calls.push(call);
        }
    };
    let status = child.wait().unwrap();
    assert!(
        end == End::Killed || status.success(),
        "the operation failed: {status}"
    );
    (end, calls)
}

/// Returns the number of the system call that a stopped thread is about to make, unless it changes nothing.
fn change(thread: Pid) -> Option<i64> {
    let text = fs_err::read_to_string(format!("/proc/{thread}/syscall")).unwrap();
    let mut words = text.split(' ');
    let call = words
        .next()
        .unwrap()
        .parse()
        .expect("the thread is in a system call");
    // openat(2): its third argument.
    let flags = words
        .nth(2)
        .and_then(|word| i32::from_str_radix(&word[2..], 16).ok());
    let creates = flags.is_some_and(|flags| flags & libc::O_CREAT != 0);
    let harmless = HARMLESS.contains(&call) || call == libc::SYS_openat && !creates;
    (!harmless).then_some(call)
}

/// Kills the operation of test `name` before each of its changes in turn, each time in a directory
/// made by `prepare`, and lets `check` look at what is left.
pub(crate) fn at_every_call(name: &str, prepare: fn(&Path), check: fn(&Path)) {
    let mut last = 0;
    loop {
        // In memory: a disk would make this test take minutes.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        prepare(directory.path());
        let (end, _) = run(name, directory.path(), last);
        check(directory.path());
        if end == End::Finished {
            break;
        }
        last += 1;
    }
    assert!(last > 10, "only {last} changes were seen");
}

pub(crate) fn open(root: &Path) -> Store {
    Store::open(root, "root").unwrap()
}

fn image(layers: &[&str]) -> Digest {
    Digest::of(format!("config of {layers:?}").as_bytes())
}

/// Checks that nothing is left when every image is removed.
fn assert_empties(store: &Store) {
    for id in store.image_ids().unwrap() {
        remove(store, &id).unwrap();
    }
    store.sweep().unwrap();
    for directory in ["layers", "blobs/sha256", "images", "tmp", "leases"] {
        assert_eq!(names(store, directory), [""; 0], "{directory}");
    }
}

const OLD: [&str; 2] = ["base", "old"];
const NEW: [&str; 2] = ["base", "new"];

#[test]
fn a_killed_creation_leaves_no_store_or_a_whole_one() {
    if is_child(|root| drop(open(root))) {
        return;
    }
    let check: fn(&Path) = |root| {
        let store = open(root);
        pull(&store, "x", &OLD).unwrap();
        assert_eq!(
            fs_err::read_dir(root).unwrap().count(),
            1,
            "something is left"
        );
    };
    let name = "store::crash::a_killed_creation_leaves_no_store_or_a_whole_one";
    at_every_call(name, |_| (), check);
}

#[test]
fn a_killed_pull_leaves_the_old_image_or_the_new_one() {
    if is_child(|root| drop(pull(&open(root), "x", &NEW).unwrap())) {
        return;
    }
    let prepare: fn(&Path) = |root| drop(pull(&open(root), "x", &OLD).unwrap());
    let check: fn(&Path) = |root| {
        let store = open(root);
        assert_consistent(&store);
        let tag = store.tag(&"x".parse().unwrap()).unwrap().unwrap();
        assert!(tag == image(&OLD) || tag == image(&NEW));
        assert_eq!(pull(&store, "x", &NEW).unwrap(), image(&NEW));
        assert_consistent(&store);
        assert_empties(&store);
    };
    let name = "store::crash::a_killed_pull_leaves_the_old_image_or_the_new_one";
    at_every_call(name, prepare, check);
}

#[test]
fn a_killed_removal_leaves_an_image_whole_or_not_at_all() {
    if is_child(|root| drop(remove(&open(root), &image(&OLD)).unwrap())) {
        return;
    }
    let prepare: fn(&Path) = |root| {
        let store = open(root);
        pull(&store, "x:old", &OLD).unwrap();
        pull(&store, "x:new", &NEW).unwrap();
    };
    let check: fn(&Path) = |root| {
        let store = open(root);
        assert_consistent(&store);
        let new = store.tag(&"x:new".parse().unwrap()).unwrap();
        assert_eq!(new, Some(image(&NEW)));
        remove(&store, &image(&OLD)).unwrap();
        assert_consistent(&store);
        assert!(store.layer(&Digest::of(b"old")).unwrap().is_none());
        assert!(store.layer(&Digest::of(b"base")).unwrap().is_some());
        assert_empties(&store);
    };
    let name = "store::crash::a_killed_removal_leaves_an_image_whole_or_not_at_all";
    at_every_call(name, prepare, check);
}

/// A container that has the volume `data`.
const CONTAINER: &str = "c";

fn volume() -> VolumeName {
    "data".parse().unwrap()
}

/// Makes the container, and what the image has in the volume's place.
fn prepare_volume(root: &Path) {
    let store = open(root);
    let shared = store.shared().unwrap();
    store.create_container(&shared, CONTAINER, &[]).unwrap();
    let content = root.join("content");
    fs_err::create_dir_all(content.join("d/e")).unwrap();
    fs_err::write(content.join("a"), "text").unwrap();
    fs_err::hard_link(content.join("a"), content.join("d/b")).unwrap();
    fs_err::write(content.join("c"), "more").unwrap();
}

/// Does what a start of the container does to its volume.
fn provide_volume(root: &Path) {
    let store = open(root);
    let claim = Claim {
        name: volume(),
        anonymous: true,
        labels: std::collections::BTreeMap::new(),
    };
    store.claim_volumes(CONTAINER, &[claim]).unwrap();
    let (content, _) = fs_err::File::open(root.join("content"))
        .unwrap()
        .into_parts();
    let content = OwnedFd::from(content);
    store.fill_volume(&volume(), Some(&content), true).unwrap();
}

#[test]
fn a_volume_that_is_killed_while_it_is_filled_has_nothing_or_gets_all() {
    if is_child(provide_volume) {
        return;
    }
    let check: fn(&Path) = |root| {
        let store = open(root);
        let is_on_its_way = root.join("v1/volumes/data/arrived").exists();
        if store.volume(&volume()).unwrap().is_some() && !is_on_its_way {
            let found = names(&store, "volumes/data/_data");
            assert!(found.is_empty() || found == ["a", "c", "d"], "{found:?}");
        }
        provide_volume(root);
        assert_eq!(names(&store, "volumes/data"), ["_data", "volume.json"]);
        assert_eq!(names(&store, "volumes/data/_data"), ["a", "c", "d"]);
        assert_eq!(names(&store, "volumes/data/_data/d"), ["b", "e"]);
        let file = store.volume_data(&volume()).join("d/b");
        assert_eq!(fs_err::read(&file).unwrap(), b"text");
        let links = std::os::unix::fs::MetadataExt::nlink(&fs_err::metadata(file).unwrap());
        assert_eq!(links, 2);
        store.remove_anonymous_volumes(CONTAINER).unwrap();
        store.sweep_temporaries().unwrap();
        for directory in ["volumes", "tmp"] {
            assert_eq!(names(&store, directory), [""; 0], "{directory}");
        }
    };
    let name = "store::crash::a_volume_that_is_killed_while_it_is_filled_has_nothing_or_gets_all";
    at_every_call(name, prepare_volume, check);
}

#[test]
fn a_killed_removal_of_a_volume_leaves_it_whole_or_not_at_all() {
    if is_child(|root| open(root).remove_anonymous_volumes(CONTAINER).unwrap()) {
        return;
    }
    let prepare: fn(&Path) = |root| {
        prepare_volume(root);
        provide_volume(root);
    };
    let check: fn(&Path) = |root| {
        let store = open(root);
        if store.volume(&volume()).unwrap().is_some() {
            assert_eq!(names(&store, "volumes/data/_data"), ["a", "c", "d"]);
        }
        store.remove_anonymous_volumes(CONTAINER).unwrap();
        store.sweep_temporaries().unwrap();
        for directory in ["volumes", "tmp"] {
            assert_eq!(names(&store, directory), [""; 0], "{directory}");
        }
    };
    let name = "store::crash::a_killed_removal_of_a_volume_leaves_it_whole_or_not_at_all";
    at_every_call(name, prepare, check);
}

#[test]
fn what_a_pull_publishes_is_on_disk_before_what_names_it() {
    if is_child(|root| drop(pull(&open(root), "x", &NEW).unwrap())) {
        return;
    }
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    pull(&open(directory.path()), "x", &["other"]).unwrap();
    let name = "store::crash::what_a_pull_publishes_is_on_disk_before_what_names_it";
    let (_, calls) = run(name, directory.path(), usize::MAX);
    let order: String = calls.into_iter().filter_map(durable).collect();
    // Each of two layers: its file, directory, facts and itself, then into place. The config into place, and once more the
    // directories of all. Then the record and the tag: file, name, directory.
    assert_eq!(order, "FFFFRF FFFFRF FR FFFF FRF FRF".replace(' ', ""));
}

/// Returns a letter for the system calls that decide what a power cut leaves.
fn durable(call: i64) -> Option<char> {
    match call {
        libc::SYS_syncfs => Some('S'),
        libc::SYS_fsync => Some('F'),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => Some('R'),
        libc::SYS_renameat | libc::SYS_renameat2 => Some('R'),
        _ => None,
    }
}
