//! Volumes: what is in them at first, how long they stay, and who may remove them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::ddock::{Ddock, Output};
use crate::harness::host::{unique_seconds, wait_for_process};
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::tree::{MTIME, Tree};
use crate::harness::user::User;
use crate::harness::wait_for;

/// A busybox with things worth copying in `/data`.
fn with_data() -> Tree {
    busybox_tree()
        .owner(7, 8)
        .dir("data/", 0o2750)
        .file("data/f", 0o4640, "text")
        .hardlink("data/g", "data/f")
        .symlink("data/l", "/etc/passwd")
        .dir("data/empty/", 0o700)
        .owner(0, 0)
}

/// That image, which declares `/data` a volume.
fn with_volume() -> ImageBuilder {
    ImageBuilder::new()
        .layer(with_data())
        .config("Volumes", json!({"/data": {}}))
}

/// Where the volumes of a store lie.
fn volumes(ddock: &Ddock) -> Vec<String> {
    let names = ddock.ok(&["volume", "ls", "-q"]);
    names.lines().map(str::to_owned).collect()
}

fn data(ddock: &Ddock, volume: &str) -> PathBuf {
    let document = ddock.ok(&["volume", "inspect", volume]);
    let document: Value = serde_json::from_str(&document).unwrap();
    document[0]["Mountpoint"].as_str().unwrap().into()
}

const STAT: &str =
    "stat -c '%u:%g %a %h %Y %n' /data /data/f /data/g /data/empty; readlink /data/l; cat /data/f";

fn as_in_the_image() -> String {
    format!(
        "7:8 2750 3 {MTIME} /data\n7:8 4640 2 {MTIME} /data/f\n7:8 4640 2 {MTIME} /data/g\n\
         7:8 700 2 {MTIME} /data/empty\n/etc/passwd\ntext"
    )
}

#[test]
fn a_new_volume_has_what_the_image_has_in_its_place() {
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(with_data()));
    for flag in ["vol:/data", "/data"] {
        assert_eq!(ddock.sh(&["-v", flag], &image, STAT), as_in_the_image());
    }
    // The image's files and the volume's are not the same.
    ddock.sh(
        &["-v", "vol:/data"],
        &image,
        "echo more >> /data/f; rm /data/l",
    );
    assert_eq!(ddock.sh(&[], &image, STAT), as_in_the_image());
    let stdout = ddock.sh(
        &["-v", "vol:/elsewhere"],
        &image,
        "cat /elsewhere/f; ls /elsewhere",
    );
    assert_eq!(stdout, "textmore\nempty\nf\ng\n");
}

#[test]
fn only_an_empty_volume_is_filled_and_not_if_that_is_forbidden() {
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(with_data()));
    assert_eq!(
        ddock.sh(&["-v", "vol:/data:nocopy"], &image, "ls /data"),
        ""
    );
    ddock.sh(&["-v", "vol:/elsewhere"], &image, "touch /elsewhere/x");
    assert_eq!(ddock.sh(&["-v", "vol:/data"], &image, "ls /data"), "x\n");
    // Not even an empty directory of the host.
    let dir = ddock.scratch().dir("empty");
    let bind = format!("{}:/data", dir.display());
    assert_eq!(ddock.sh(&["-v", &bind], &image, "ls /data"), "");
}

#[test]
fn an_images_volumes_go_with_a_container_that_goes() {
    let (ddock, image) = Ddock::with(with_volume());
    assert_eq!(ddock.sh(&[], &image, STAT), as_in_the_image());
    assert_eq!(volumes(&ddock), [""; 0]);
    // Also when the command cannot be executed, or something else is wrong.
    ddock.run(&["run", "--rm", &image, "absent"]).exits(127);
    let file = ddock.scratch().file("file", "");
    let bind = format!("{}:/etc", file.display());
    ddock
        .run(&["run", "--rm", "-v", &bind, &image, "true"])
        .exits(125);
    assert_eq!(volumes(&ddock), [""; 0]);

    ddock.ok(&["run", &image, "sh", "-c", "echo kept > /data/kept"]);
    let [volume] = volumes(&ddock).try_into().unwrap();
    assert_eq!(
        fs_err::read(data(&ddock, &volume).join("kept")).unwrap(),
        b"kept\n"
    );
    let id = ddock.containers().remove(0);
    ddock.ok(&["rm", "-v", &id]);
    assert_eq!(volumes(&ddock), [""; 0]);

    ddock.ok(&["run", &image, "true"]);
    let id = ddock.containers().remove(0);
    ddock.ok(&["rm", &id]);
    assert_eq!(volumes(&ddock).len(), 1, "`rm` keeps them");
}

#[test]
fn a_named_volume_outlives_every_container() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.sh(&["-v", "vol:/v"], &image, "echo hello > /v/file");
    assert_eq!(
        ddock.sh(&["-v", "vol:/w:ro"], &image, "cat /w/file"),
        "hello\n"
    );
    let output = ddock.run(&["run", "--rm", "-v", "vol:/w:ro", &image, "touch", "/w/x"]);
    output.exits(1).says("Read-only file system");
    ddock.ok(&["run", "--name", "box", "-v", "vol:/v", &image, "true"]);
    ddock.ok(&["rm", "-v", "box"]);
    assert_eq!(volumes(&ddock), ["vol"]);
}

#[test]
fn a_volume_that_a_container_uses_is_not_removed() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&[
        "run", "--name", "box", "-v", "vol:/v", "-v", "/an", &image, "true",
    ]);
    let id = ddock.containers().remove(0);
    let anonymous = volumes(&ddock)
        .into_iter()
        .find(|name| name != "vol")
        .unwrap();
    for volume in ["vol", &anonymous] {
        let output = ddock.run(&["volume", "rm", volume]);
        output
            .exits(1)
            .says(&format!("remove {volume}: volume is in use - [{id}]"));
    }
    assert_eq!(
        ddock.ok(&["volume", "prune", "-af"]),
        "Total reclaimed space: 0B\n"
    );
    assert_eq!(ddock.ok(&["volume", "ls", "-q", "-f", "dangling=true"]), "");
    // By another's name for it, it is still the first one's.
    ddock.ok(&[
        "run",
        "--name",
        "other",
        "-v",
        &format!("{anonymous}:/v"),
        &image,
        "true",
    ]);
    ddock.ok(&["rm", "-v", "box"]);
    assert_eq!(volumes(&ddock).len(), 2);
    ddock.ok(&["rm", "-v", "other"]);
    assert_eq!(ddock.ok(&["volume", "rm", "vol"]), "vol\n");
    let output = ddock.run(&["volume", "rm", "vol"]);
    output.exits(1).says("No such volume: vol");
    assert_eq!(ddock.ok(&["volume", "rm", "-f", "vol"]), "vol\n");
}

#[test]
fn the_commands_say_what_docker_says() {
    let ddock = Ddock::new();
    assert_eq!(ddock.ok(&["volume", "ls", "-q"]), "");
    assert_eq!(
        ddock.ok(&["volume", "create", "--label", "k=v", "lab"]),
        "lab\n"
    );
    assert_eq!(ddock.ok(&["volume", "create", "lab"]), "lab\n");
    let random = ddock.ok(&["volume", "create"]).trim().to_owned();
    assert_eq!(random.len(), 64);
    assert_eq!(
        ddock.ok(&["volume", "ls", "-q", "--filter", "label=k"]),
        "lab\n"
    );
    assert_eq!(
        ddock.ok(&["volume", "ls", "-q", "--filter", "name=la"]),
        "lab\n"
    );
    assert_eq!(
        ddock
            .ok(&["volume", "list", "-qf", "dangling=true"])
            .lines()
            .count(),
        2
    );
    assert_eq!(
        ddock
            .ok(&["volume", "ls"])
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["DRIVER", "VOLUME", "NAME"]
    );

    let output = ddock.run(&["volume", "inspect", "lab", "nope"]);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(document[0]["Labels"], json!({"k": "v"}));
    assert_eq!(document[0]["Driver"], "local");
    assert!(Path::new(document[0]["Mountpoint"].as_str().unwrap()).is_dir());
    output.exits(1).says("get nope: no such volume");
}

#[test]
fn pruning_asks_and_keeps_what_has_a_name() {
    let ddock = Ddock::new();
    ddock.ok(&["volume", "create", "lab"]);
    let random = ddock.ok(&["volume", "create"]).trim().to_owned();
    let cancelled = ddock.run(&["volume", "prune"]);
    cancelled.exits(1).says("[y/N]");
    fs_err::write(data(&ddock, &random).join("file"), "x".repeat(1500)).unwrap();
    let pruned = ddock.ok(&["volume", "prune", "-f"]);
    assert_eq!(
        pruned,
        format!("Deleted Volumes:\n{random}\n\nTotal reclaimed space: 1.5kB\n")
    );
    let pruned = ddock.ok(&["volume", "prune", "-af"]);
    assert_eq!(
        pruned,
        "Deleted Volumes:\nlab\n\nTotal reclaimed space: 0B\n"
    );
}

#[test]
fn what_is_no_volume_is_refused() {
    let ddock = Ddock::new();
    for (name, words) in [
        ("x", "too short"),
        ("../x", "invalid characters"),
        ("a b", "invalid characters"),
    ] {
        ddock
            .run(&["volume", "create", name])
            .exits(125)
            .says(words);
    }
    let output = ddock.run(&["volume", "create", "-d", "nfs", "vol"]);
    output.exits(125).says("nfs");
}

#[test]
fn two_containers_that_start_with_one_new_volume_share_one_whole_copy() {
    let mut tree = busybox_tree().dir("data/", 0o755);
    for number in 0..300 {
        tree = tree.file(&format!("data/{number}"), 0o644, "x".repeat(2000));
    }
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    for round in 0..5 {
        let volume = format!("vol{round}:/data");
        let run = || {
            ddock.sh(
                &["-v", &volume],
                &image,
                "cat /data/* | wc -c; ls /data | wc -l",
            )
        };
        let outputs: Vec<String> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(outputs, ["600000\n300\n"; 3]);
    }
}

#[test]
fn a_copy_that_is_killed_leaves_nothing_half() {
    let mut tree = busybox_tree().dir("data/", 0o755);
    for number in 0..2000 {
        tree = tree.file(&format!("data/{number}"), 0o644, "x".repeat(500));
    }
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    for milliseconds in [5_u64, 20, 40, 60, 80, 120] {
        let name = format!("vol{milliseconds}");
        let volume = format!("{name}:/data");
        let mut command = ddock.command(&["run", "--rm", "-v", &volume, &image, "true"]);
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        // At whatever it happens to do then: that is the point.
        let copied = ddock.root().join("v1/volumes").join(&name);
        wait_until_or(milliseconds, || copied.join("arrived").exists());
        kill_process(Pid::from_child(&child), Signal::KILL).ok();
        child.wait().unwrap();
        if let Ok(entries) = fs_err::read_dir(copied.join("_data"))
            && !copied.join("arrived").exists()
        {
            let count = entries.count();
            assert!(
                count == 0 || count == 2000,
                "{count} after {milliseconds} ms"
            );
        }
        let stdout = ddock.sh(
            &["-v", &volume],
            &image,
            "ls /data | wc -l; cat /data/* | wc -c",
        );
        assert_eq!(stdout, "2000\n1000000\n");
        assert!(!copied.join("arrived").exists());
    }
    assert_eq!(ddock.containers(), [""; 0]);
    let left = fs_err::read_dir(ddock.root().join("v1/tmp")).unwrap();
    assert_eq!(left.count(), 0);
}

/// Waits until `ready` or so many milliseconds are over.
fn wait_until_or(milliseconds: u64, ready: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_millis(milliseconds);
    while std::time::Instant::now() < end && !ready() {
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_client_leaves_no_volume_behind() {
    let (ddock, image) = Ddock::with(with_volume());
    let seconds = unique_seconds();
    let mut command = ddock.command(&["run", "--rm", &image, "sleep", &seconds]);
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    wait_for_process("sleep", &seconds);
    assert_eq!(volumes(&ddock).len(), 1);
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_for("the volume to go", || {
        volumes(&ddock).is_empty().then_some(())
    });
}

#[test]
fn a_subpath_of_a_volume_is_seen_and_leads_nowhere_else() {
    let (ddock, image) = Ddock::with_busybox();
    let secret = ddock.scratch().dir("secret");
    fs_err::write(secret.join("file"), "secret").unwrap();
    let script = format!(
        "mkdir -p /v/a/b; echo inside > /v/a/b/file; ln -s {} /v/out; ln -s ../../.. /v/up; ln -s a /v/link",
        secret.display()
    );
    ddock.sh(&["-v", "vol:/v"], &image, &script);
    let mount = |subpath: &str| format!("source=vol,target=/m,volume-subpath={subpath}");
    for subpath in ["a/b", "link/b"] {
        let flags = ["--mount", &mount(subpath)];
        assert_eq!(ddock.sh(&flags, &image, "cat /m/file"), "inside\n");
    }
    for subpath in ["out", "up", "up/etc"] {
        let output = ddock.run(&[
            "run",
            "--rm",
            "--mount",
            &mount(subpath),
            &image,
            "ls",
            "/m",
        ]);
        output.exits(125).says("leads out of it");
    }
    let output = ddock.run(&["run", "--rm", "--mount", &mount("nope"), &image, "true"]);
    output.exits(125).says("nope");
}

#[test]
fn a_volume_that_is_changed_while_it_is_mounted_on_leads_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("canary"), "secret").unwrap();
    let (ddock, image) = Ddock::with_busybox();
    let bound = ddock.scratch().dir("bound");
    let script = format!(
        "mkdir -p /v/real; while :; do mv /v/real /v/sub; mv /v/sub /v/real; ln -s {} /v/sub; rm /v/sub; done",
        outside.path().display()
    );
    let swapping = [
        "run", "--rm", "--name", "swapping", "-v", "vol:/v", &image, "sh", "-c", &script,
    ];
    let mut swapping = ddock
        .command(&swapping)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the volume to change", || {
        let data = ddock.root().join("v1/volumes/vol/_data/real");
        data.exists().then_some(())
    });
    let bind = format!("{}:/v/sub/deep", bound.display());
    let below = "source=vol,target=/m,volume-subpath=sub";
    for _ in 0..20 {
        let flags = [
            "-v", "vol:/v", "-v", &bind, "-v", "vol:/w", "--tmpfs", "/w/sub/t", "--mount", below,
        ];
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&image, "sh", "-c", "cat /m/canary; true"]);
        let output = ddock.run(&args);
        assert!(matches!(output.code, 0 | 125), "{}", output.text());
        assert!(!output.text().contains("secret"), "{}", output.text());
        assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 1);
    }
    ddock.ok(&["rm", "-f", "swapping"]);
    swapping.wait().unwrap();
}

/// What a hostile image declares as volumes never leads out of its root.
#[test]
fn hostile_volumes_of_an_image_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("canary"), "secret").unwrap();
    let directory = outside.path().to_str().unwrap();
    let run = |path: &str, tree: Tree| -> Output {
        let image = ImageBuilder::new()
            .layer(tree)
            .config("Volumes", json!({path: {}}));
        let (ddock, image) = Ddock::with(image);
        let script =
            "cat /canary /link/canary /x/canary /link/deep/canary; touch /link/new /x/new; true";
        let output = ddock.run(&["run", "--rm", &image, "sh", "-c", script]);
        assert_eq!(volumes(&ddock), [""; 0]);
        output
    };
    for (path, code) in [
        ("/../x", 0),
        ("x", 0),
        ("../../../x/", 0),
        ("/link", 0),
        ("/link/deep", 0),
        ("/", 125),
        ("/x/..", 125),
        ("/proc/sys", 125),
        ("/../proc", 125),
        ("", 125),
    ] {
        for target in [directory, "/proc/1/root"] {
            let output = run(path, busybox_tree().symlink("link", target));
            let text = format!("{path} with link -> {target}: {}", output.text());
            assert!(
                output.code == code || target.starts_with("/proc") && output.code == 125,
                "{text}"
            );
            assert!(!text.contains("secret"), "{text}");
            assert_eq!(
                fs_err::read_dir(outside.path()).unwrap().count(),
                1,
                "{text}"
            );
        }
    }
}

#[test]
fn other_containers_volumes_can_be_taken_over() {
    let (ddock, image) = Ddock::with(with_volume());
    let dir = ddock.scratch().dir("dir");
    let bind = format!("{}:/bind:ro", dir.display());
    let flags = ["-v", &bind, "-v", "vol:/v", "--tmpfs", "/t"];
    let mut args = vec!["run", "--name", "donor"];
    args.extend(flags);
    args.extend([&image, "sh", "-c", "echo a > /data/a; echo v > /v/v"]);
    ddock.ok(&args);
    let script = "cat /data/a /v/v; ls -d /t; touch /bind/x || touch /v/x || echo ro";
    let output = ddock.run(&[
        "run",
        "--rm",
        "--volumes-from",
        "donor:ro",
        &image,
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(output.stdout, "a\nv\nro\n");
    // What is asked for here goes before.
    let stdout = ddock.sh(
        &["--volumes-from", "donor", "--tmpfs", "/v"],
        &image,
        "ls /v; touch /data/b",
    );
    assert_eq!(stdout, "");
    assert_eq!(volumes(&ddock).len(), 2);
    for (text, words) in [
        ("nope", "No such container: nope"),
        ("donor:x", "invalid mode: x"),
    ] {
        let output = ddock.run(&["run", "--rm", "--volumes-from", text, &image, "true"]);
        output.exits(125).says(words);
    }
}

#[test]
fn what_becomes_of_an_images_volumes_can_be_chosen() {
    let (ddock, image) = Ddock::with(with_volume());
    let count = "grep -c ' /data ' /proc/mounts; ls /data | wc -l";
    for (kind, expected) in [
        ("ignore", "0\n4\n"),
        ("tmpfs", "1\n0\n"),
        ("bind", "1\n4\n"),
    ] {
        let output = ddock.run(&[
            "run",
            "--rm",
            "--image-volume",
            kind,
            &image,
            "sh",
            "-c",
            count,
        ]);
        assert_eq!(output.stdout, expected, "{kind}");
    }
}

#[test]
fn ordinary_users_have_volumes_too() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(busybox().config("Volumes", json!({"/home": {}})));
        ddock.sh(
            &["-v", "vol:/home"],
            &image,
            "echo x > /home/x; chown 1000:1000 /home/x || true",
        );
        let own = "stat -c '%u %a' /home/alice; cat /home/x 2>/dev/null || true";
        let (anonymous, named) = (
            ddock.sh(&[], &image, own),
            ddock.sh(&["-v", "vol:/home"], &image, own),
        );
        assert_eq!(anonymous + "x\n", named);
        assert_eq!(volumes(&ddock), ["vol"]);
        let data = fs_err::metadata(data(&ddock, "vol")).unwrap();
        assert_eq!(data.permissions().mode() & 0o777, 0o755);
        let store = fs_err::metadata(ddock.root()).unwrap();
        assert_eq!(data.uid(), store.uid());
        assert_eq!(ddock.ok(&["volume", "rm", "vol"]), "vol\n");
    }
}
