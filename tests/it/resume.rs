//! Partial downloads: shared, continued, never trusted, and gone when they are done with.

use std::path::Path;
use std::time::Duration;

use nix::mount::MsFlags;
use rustix::process::Signal;

use crate::harness::chance::Chance;
use crate::harness::ddock::Ddock;
use crate::harness::fault::{Behaviour, Fault};
use crate::harness::fault_proxy::Proxy;
use crate::harness::host::processes_with;
use crate::harness::image::Compression;
use crate::harness::network;
use crate::harness::pulling::Pulling;
use crate::harness::sample::{Sample, disk_use, partial_files};
use crate::harness::wait_for;

/// Returns an image behind a line that does no harm, in a network where little is on its way when a client dies.
fn served() -> (Sample, Proxy, Ddock) {
    network::enter();
    network::limit_receive_buffers(32 << 10);
    let sample = Sample::of_forty_layers();
    let proxy = Proxy::serve(&sample.image, Behaviour::default());
    (sample, proxy, Ddock::new())
}

/// Fails the test unless the proxy delivered the image once and at most a fiftieth of it again.
#[track_caller]
fn assert_once(sample: &Sample, proxy: &Proxy) {
    let (delivered, size) = (proxy.delivered(), sample.size());
    assert!(
        delivered >= size && delivered <= size + size / 50,
        "{delivered} bytes were delivered for an image of {size}"
    );
}

#[test]
fn two_pulls_of_one_image_share_the_work() {
    let (sample, proxy, ddock) = served();
    let one = Pulling::start(&ddock, &proxy);
    let other = Pulling::start(&ddock, &proxy);
    one.succeed();
    other.succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    assert_once(&sample, &proxy);
}

#[test]
fn the_second_pull_goes_on_when_the_first_is_killed() {
    let (sample, proxy, ddock) = served();
    let mut first = Pulling::start(&ddock, &proxy);
    assert_eq!(first.wait_for(&proxy, sample.size() / 4), None);
    let second = Pulling::start(&ddock, &proxy);
    assert_eq!(first.wait_for(&proxy, sample.size() / 2), None);
    assert_eq!(first.stop(Signal::KILL), 137);
    second.succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    assert_once(&sample, &proxy);
}

#[test]
fn what_an_interrupt_leaves_is_continued() {
    let (sample, proxy, ddock) = served();
    for quarter in 1..4 {
        let mut pulling = Pulling::start(&ddock, &proxy);
        assert_eq!(pulling.wait_for(&proxy, sample.size() / 4 * quarter), None);
        assert_eq!(pulling.stop(Signal::INT), 130, "{}", pulling.log());
    }
    Pulling::start(&ddock, &proxy).succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    assert_once(&sample, &proxy);
}

#[test]
fn a_signal_to_run_alone_ends_the_pull_it_began_with() {
    let (sample, proxy, ddock) = served();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let reference = proxy.reference();
        let mut pulling = Pulling::of(&ddock, &["run", "--rm", &reference, "true"]);
        let bytes = proxy.delivered() + sample.size() / 6;
        assert_eq!(pulling.wait_for(&proxy, bytes), None);
        assert_eq!(pulling.stop(signal), code, "{}", pulling.log());
        assert!(processes_with(&reference).is_empty(), "the pull goes on");
        assert!(!partial_files(&ddock).is_empty(), "nothing was kept");
    }
    Pulling::start(&ddock, &proxy).succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    assert_once(&sample, &proxy);
}

#[test]
fn partial_data_is_not_trusted() {
    let (sample, proxy, ddock) = served();
    let mut chance = Chance::new(3);
    for quarter in 1..4 {
        let mut pulling = Pulling::start(&ddock, &proxy);
        assert_eq!(pulling.wait_for(&proxy, sample.size() / 4 * quarter), None);
        assert_eq!(pulling.stop(Signal::KILL), 137);
        let partial = partial_files(&ddock);
        assert!(!partial.is_empty(), "nothing to be continued");
        for file in partial {
            damage(&file, &mut chance);
        }
    }
    Pulling::start(&ddock, &proxy).succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
}

/// Makes a file something that ddock did not leave there.
fn damage(file: &Path, chance: &mut Chance) {
    let mut bytes = fs_err::read(file).unwrap();
    match chance.below(5) {
        0 => bytes.truncate(bytes.len() / 2),
        1 => bytes.clear(),
        2 => bytes.extend(chance.noise(70_000)),
        3 if !bytes.is_empty() => {
            let at = chance.below(bytes.len());
            bytes[at] = !bytes[at];
        }
        _ => bytes = chance.noise(bytes.len()),
    }
    fs_err::write(file, bytes).unwrap();
}

#[test]
fn a_full_disk_stops_the_pull_and_what_came_is_kept() {
    network::enter();
    network::limit_receive_buffers(32 << 10);
    let sample = Sample::of_forty_layers();
    let proxy = Proxy::serve(&sample.image, Behaviour::default());
    let ddock = Ddock::with_little_space("400m");
    let disk = ddock.scratch().join("small");
    let mut pulling = Pulling::start(&ddock, &proxy);
    assert_eq!(pulling.wait_for(&proxy, sample.size() / 2), None);
    wait_for("the disk to shrink below what it is to hold", || {
        let disk_use = rustix::fs::statvfs(&disk).unwrap();
        let used = (disk_use.f_blocks - disk_use.f_bfree) * disk_use.f_frsize;
        resize(&disk, used + (2 << 20)).ok()
    });
    assert_eq!(pulling.finish(), 1, "{}", pulling.log());
    let log = pulling.log();
    assert!(log.contains("No space left on device"), "{log}");

    resize(&disk, 400 << 20).unwrap();
    Pulling::start(&ddock, &proxy).succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    // What was on its way when the disk was full, and could not be written, comes again.
    let (delivered, size) = (proxy.delivered(), sample.size());
    assert!(delivered <= size + size / 50, "{delivered} of {size}");
}

/// Gives a tmpfs another size; an error when it holds more.
fn resize(tmpfs: &Path, bytes: u64) -> nix::Result<()> {
    let size = format!("size={bytes}");
    let (none, flags) = (None::<&Path>, MsFlags::MS_REMOUNT);
    nix::mount::mount(none, tmpfs, none, flags, Some(size.as_str()))
}

#[test]
fn a_store_is_little_larger_than_its_files() {
    let (sample, proxy, ddock) = served();
    Pulling::start(&ddock, &proxy).succeed();
    sample.assert_unpacked(&ddock, &proxy.reference());
    let (store, files) = disk_use(&ddock);
    assert!(
        store <= files + files / 20,
        "{store} bytes for {files} of files"
    );
}

#[test]
#[ignore = "long: it waits for a limit of 30 seconds"]
fn a_connection_that_brings_nothing_is_given_up() {
    network::enter();
    let sample = Sample::new(&[(4 << 20, Compression::Gzip)]);
    let behaviour = Behaviour {
        first: Some((sample.image.layers()[0].clone(), Fault::Stall)),
        ..Behaviour::default()
    };
    let proxy = Proxy::serve_stalling(&sample.image, behaviour, Duration::from_mins(10));
    let ddock = Ddock::new();
    let start = std::time::Instant::now();
    Pulling::start(&ddock, &proxy).succeed();
    let seconds = start.elapsed().as_secs();
    assert!((25..60).contains(&seconds), "{seconds} seconds");
    sample.assert_unpacked(&ddock, &proxy.reference());
}

/// KiB of memory that a pull may have at its peak.
const MEMORY: u64 = 48 << 10;

#[test]
fn many_layers_need_little_memory() {
    let (_, proxy, ddock) = served();
    let peak = Pulling::start(&ddock, &proxy).succeed();
    assert!(peak <= MEMORY, "{peak} KiB");
}

#[test]
fn a_large_layer_needs_little_memory() {
    network::enter();
    let sample = Sample::new(&[(200 << 20, Compression::Gzip)]);
    let proxy = Proxy::serve(&sample.image, Behaviour::default());
    let peak = Pulling::start(&Ddock::new(), &proxy).succeed();
    assert!(peak <= MEMORY, "{peak} KiB");
}

#[test]
fn the_windows_of_zstd_need_little_memory() {
    network::enter();
    let sample = Sample::new(&[(9 << 20, Compression::ZstdWide); 6]);
    let proxy = Proxy::serve(&sample.image, Behaviour::default());
    let peak = Pulling::start(&Ddock::new(), &proxy).succeed();
    assert!(peak <= MEMORY, "{peak} KiB");
}
