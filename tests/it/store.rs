//! The store survives: whoever dies, whoever comes at the same time, whoever looks.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::canned::Canned;
use crate::harness::ddock::{Ddock, binary};
use crate::harness::host::processes_with;
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;
use crate::harness::wait_for;

#[test]
fn nobody_else_may_enter_it() {
    let (ddock, _) = Ddock::with_busybox();
    let store = fs_err::metadata(ddock.root().join("v1")).unwrap();
    assert_eq!(store.permissions().mode() & 0o777, 0o700);
    assert_eq!(store.uid(), 0);
}

#[test]
fn a_umask_changes_nothing() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    for umask in ["000", "077"] {
        let ddock = Ddock::new();
        let script = format!("umask {umask}; {} pull -q {reference}", binary().display());
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
        crate::harness::ddock::output(&mut shell).exits(0);
        let script = "stat -c %a / /bin/busybox /tmp /etc/passwd /home/alice";
        assert_eq!(
            ddock.sh(&[], &reference, script),
            "755\n755\n1777\n644\n700\n",
            "umask {umask}"
        );
        let mode = fs_err::metadata(ddock.root().join("v1")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_pull_killed_at_any_point_is_nothing_that_the_next_one_trips_over() {
    let registry = Registry::start();
    let mut image = busybox();
    for layer in 0..4 {
        let content = vec![b'a' + layer; 3 << 20];
        image = image.layer(Tree::new().file(&format!("layer{layer}"), 0o644, content));
    }
    let reference = registry.push("test/image:latest", &image.build());
    let ddock = Ddock::new();
    for step in 0..25 {
        let mut pull = ddock.command(&["pull", "-q", &reference]);
        let mut pull = pull
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(3 * step));
        pull.kill().unwrap();
        pull.wait().unwrap();
        // What is listed can run, at any time.
        if !ddock.ok(&["images", "-q"]).is_empty() {
            ddock.sh(&["--pull", "never"], &reference, "cat /layer* | wc -c");
            ddock.ok(&["rmi", &reference]);
        }
    }
    ddock.ok(&["pull", "-q", &reference]);
    assert_eq!(
        ddock.sh(&[], &reference, "cat /layer* | wc -c"),
        format!("{}\n", 12 << 20)
    );
    // What the dead held goes with the next removal.
    ddock.ok(&["rmi", &reference]);
    for dir in ["tmp", "leases", "partial", "layers"] {
        let Ok(entries) = fs_err::read_dir(ddock.root().join("v1").join(dir)) else {
            continue;
        };
        assert_eq!(entries.count(), 0, "left in {dir}");
    }
}

/// A registry that never comes to the point where it sends the image's layer.
fn without_layers() -> Canned {
    let image = ImageBuilder::new()
        .layer(Tree::new().dir("./", 0o755))
        .build();
    let layer = image.layers()[0].clone();
    Canned::registry(&image, move |request, reply| {
        if request.target.ends_with(&layer) {
            std::thread::sleep(Duration::from_mins(5));
        }
        reply
    })
}

/// Waits until a pull is under way.
fn wait_for_blobs(registry: &Canned) {
    wait_for("a blob to be asked for", || {
        let asked = registry.requests();
        asked
            .iter()
            .any(|r| r.target.contains("/blobs/"))
            .then_some(())
    });
}

#[test]
fn an_interrupted_pull_ends_at_once_with_130() {
    let registry = without_layers();
    let ddock = Ddock::new();
    let mut pull = ddock
        .command(&["pull", "-q", &registry.reference("x:latest")])
        .spawn()
        .unwrap();
    wait_for_blobs(&registry);
    let pid = rustix::process::Pid::from_raw(i32::try_from(pull.id()).unwrap()).unwrap();
    let start = std::time::Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = pull.wait().unwrap();
    assert!(
        status.code() == Some(130) || status.signal() == Some(2),
        "{status}"
    );
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_pull_ends_with_the_run_that_waits_for_it() {
    let registry = without_layers();
    let ddock = Ddock::new();
    let reference = registry.reference("x:latest");
    let mut run = ddock.command(&["run", &reference, "true"]).spawn().unwrap();
    wait_for_blobs(&registry);
    assert_eq!(processes_with(&reference).len(), 2);
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    run.wait().unwrap();
    wait_for("the pull to end", || {
        processes_with(&reference).is_empty().then_some(())
    });
}

#[test]
fn rmi_and_pull_and_run_at_the_same_time_do_no_harm() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    let ddock = Ddock::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..15 {
                ddock.ok(&["pull", "-q", &reference]);
            }
        });
        scope.spawn(|| {
            for _ in 0..15 {
                let output = ddock.run(&["rmi", "-f", &reference]);
                assert!(output.code <= 1, "{}", output.text());
            }
        });
        scope.spawn(|| {
            for _ in 0..15 {
                let output = ddock.run(&["run", "--rm", &reference, "echo", "fine"]);
                assert_eq!(output.stdout, "fine\n", "{}", output.text());
            }
        });
    });
    ddock.ok(&["pull", "-q", &reference]);
    assert_eq!(ddock.sh(&[], &reference, "echo fine"), "fine\n");
}

#[test]
fn a_tree_made_to_be_hard_to_remove_is_removed() {
    // 900 directories deep, each closed to its owner: more levels than the process may have descriptors.
    let mut tree = busybox_tree();
    let mut path = String::from("deep");
    for _ in 0..900 {
        tree = tree.dir(&path, 0o000);
        path += "/d";
    }
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    let script = format!("ulimit -n 64; exec {} rmi {image}", binary().display());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    crate::harness::ddock::output(&mut shell).exits(0);
    assert_eq!(ddock.ok(&["images", "-aq"]), "");
}

#[test]
fn closed_standard_streams_are_never_replaced_by_a_file_of_the_store() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    let ddock = Ddock::new();
    let script = format!("{} pull {reference} <&- >&- 2>&-", binary().display());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    crate::harness::ddock::output(&mut shell);
    ddock.ok(&["pull", "-q", &reference]);
    assert_eq!(ddock.sh(&[], &reference, "echo fine"), "fine\n");
}
