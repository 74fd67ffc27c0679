//! The same commands for an ordinary user, with subordinate IDs and without.

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::MetadataExt;

use crate::harness::ddock::{Ddock, binary};
use crate::harness::host::{assert_nothing_left, unique_seconds, wait_for_process};
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::registry::Registry;
use crate::harness::terminal::Terminal;
use crate::harness::tree::Tree;
use crate::harness::user::User;
use crate::harness::wait_for;

/// Runs the test for a user with ranges and for one without.
fn for_each_user(test: impl Fn(&Ddock)) {
    for user in [User::with_ranges(), User::without_ranges()] {
        test(&Ddock::for_user(user));
    }
}

#[test]
fn pull_run_and_images_work() {
    for_each_user(|ddock| {
        let image = ddock.pull(busybox());
        assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), 1);
        let script = "id -u; id -g; echo $$; hostname; grep ^CapEff /proc/self/status; stat -c %u /proc/1/environ";
        let stdout = ddock.sh(&[], &image, script);
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(lines[..3], ["0", "0", "1"], "{stdout}");
        assert_eq!(lines[4..], ["CapEff:\t00000000a80425fb", "0"]);
        assert_nothing_left(ddock, lines[3]);
    });
}

#[test]
fn the_exit_code_and_the_streams_are_the_commands_own() {
    for_each_user(|ddock| {
        let image = ddock.pull(busybox());
        let script = "echo out; echo err >&2; exit 7";
        let output = ddock.run(&["run", "--rm", &image, "sh", "-c", script]);
        assert_eq!(
            output.text(),
            "exit code 7\n--- stdout\nout\n--- stderr\nerr\n"
        );
        ddock.run(&["run", "--rm", &image, "absent"]).exits(127);
        ddock.run(&["run", "--rm", &image, "/etc"]).exits(126);
        let output = ddock.feed(&["run", "--rm", "-i", &image, "cat"], b"in");
        assert_eq!(output.stdout, "in");
    });
}

#[test]
fn files_have_the_images_owners_where_ids_are_mapped() {
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let script = "stat -c '%u:%g %a' /home/alice /root /tmp /bin/busybox";
    assert_eq!(
        ddock.sh(&[], &image, script),
        "1000:1000 700\n0:0 700\n0:0 1777\n0:0 755\n"
    );
    assert_eq!(
        ddock.sh(
            &["-u", "alice"],
            &image,
            "id -u; touch ~/x && stat -c %U ~/x"
        ),
        "1000\nalice\n"
    );
}

#[test]
fn whiteouts_hide_and_the_layers_stay_as_they_are() {
    for_each_user(|ddock| {
        let image = ImageBuilder::new()
            .layer(
                busybox_tree()
                    .file("gone", 0o644, "")
                    .dir("d/", 0o755)
                    .file("d/old", 0o644, ""),
            )
            .layer(
                Tree::new()
                    .file(".wh.gone", 0o644, "")
                    .dir("d/", 0o755)
                    .file("d/.wh..wh..opq", 0o644, "")
                    .file("d/new", 0o644, ""),
            );
        let image = ddock.pull(image);
        let script = "ls /d; ls /gone 2>/dev/null; rm -rf /etc; touch /new";
        assert_eq!(ddock.sh(&[], &image, script), "new\n");
        assert_eq!(
            ddock.sh(&[], &image, "ls -d /etc /new 2>/dev/null; true"),
            "/etc\n"
        );
    });
}

#[test]
fn a_container_stays_and_can_be_removed() {
    for_each_user(|ddock| {
        let image = ddock.pull(busybox());
        let script = "mkdir -p /deep/er; chown 1000 /deep 2>/dev/null; chmod 0 /deep/er; exit 2";
        ddock.run(&["run", &image, "sh", "-c", script]).exits(2);
        let id = ddock.containers().remove(0);
        ddock.ok(&["rm", &id]);
        assert_nothing_left(ddock, &id);
        ddock.ok(&["rmi", &image]);
        assert_eq!(ddock.ok(&["images", "-aq"]), "");
    });
}

#[test]
fn a_shell_has_a_terminal() {
    for_each_user(|ddock| {
        let image = ddock.pull(busybox());
        let command = ddock.command(&["run", "--rm", "-it", &image, "sh"]);
        let mut terminal = Terminal::start(&command, 24, 80);
        terminal.expect("# ");
        terminal.send("stty size; tty\r");
        terminal.expect("24 80\n/dev/pts/0\n");
        terminal.send("exit 3\r");
        assert_eq!(terminal.wait(), 3);
    });
}

#[test]
fn limits_that_cannot_be_set_are_refused_with_the_reason() {
    // No cgroup was handed to this user: a limit that is asked for must not be dropped in silence.
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let output = ddock.run(&["run", "--rm", "--memory", "64m", &image, "true"]);
    output.exits(125).says("cgroup");
}

#[test]
fn a_bind_belongs_to_the_user() {
    for_each_user(|ddock| {
        let image = ddock.pull(busybox());
        let dir = ddock.root().parent().unwrap().join("data");
        let make = format!("mkdir -p {0} && chmod 777 {0}", dir.display());
        let status = std::process::Command::new("sh")
            .args(["-c", &make])
            .status();
        assert!(status.unwrap().success());
        let bind = format!("{}:/data", dir.display());
        ddock.sh(&["-v", &bind], &image, "echo hello > /data/file");
        let owner = fs_err::metadata(dir.join("file")).unwrap();
        let parent = fs_err::metadata(ddock.root()).unwrap();
        assert_eq!(owner.uid(), parent.uid());
    });
}

#[test]
fn a_store_of_another_mapping_is_refused() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    let ddock = Ddock::for_user(User::with_ranges());
    ddock.ok(&["pull", "-q", &reference]);
    // Root on the user's store: owners in it mean something else.
    let mut root = std::process::Command::new(binary());
    root.args(["images"]).env("DDOCK_ROOT", ddock.root());
    let output = crate::harness::ddock::output(&mut root);
    assert_ne!(output.code, 0, "{}", output.text());
    assert!(
        output.stderr.contains("belongs to another user"),
        "{}",
        output.text()
    );
}

#[test]
fn containers_of_another_user_inside_are_killed_stopped_and_removed() {
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let start = |name: &str| {
        let args = [
            "run", "-d", "--name", name, "-u", "1000", &image, "sleep", "1000",
        ];
        ddock.ok(&args);
    };
    start("removed");
    ddock.ok(&["rm", "-f", "removed"]);
    start("stopped");
    ddock.ok(&["stop", "-t", "0", "stopped"]);
    start("killed");
    ddock.ok(&["kill", "killed"]);
    ddock.ok(&["wait", "killed"]);
    ddock.ok(&["rm", "stopped", "killed"]);
    start("replaced");
    let replace = [
        "run",
        "--rm",
        "--replace",
        "--name",
        "replaced",
        &image,
        "true",
    ];
    ddock.ok(&replace);
    assert_nothing_left(&ddock, "no-such-container");
}

#[test]
fn containers_of_another_user_inside_are_swept_after_their_monitors_death() {
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    for _ in 0..20 {
        let seconds = unique_seconds();
        ddock.ok(&[
            "run", "-d", "--name", "orphan", "-u", "1000", &image, "sleep", &seconds,
        ]);
        let command = wait_for_process("sleep", &seconds).to_string();
        let status = fs_err::read_to_string(format!("/proc/{command}/status")).unwrap();
        let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let monitor = monitor.unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
        // At once, when the kernel may not have ended it yet.
        let listed = wait_for("the end of the monitor", || {
            let listed = ddock.ok(&["ps", "-a"]);
            (!listed.contains("Up ")).then_some(listed)
        });
        assert!(listed.contains("Exited (137)"), "{listed}");
        ddock.ok(&["rm", "orphan"]);
    }
}
