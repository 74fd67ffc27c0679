//! Hostile images, hostile commands, and callers and ends that come at a bad moment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::{Ddock, output};
use crate::harness::host::{assert_nothing_left, processes_with, unique_seconds, wait_for_process};
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::scratch::command_succeeds;
use crate::harness::terminal::Terminal;
use crate::harness::wait_for;

const DDOCK: &str = env!("CARGO_BIN_EXE_ddock");

/// Runs a bash script on the host that may run ddock, whose store is this one.
fn bash(ddock: &Ddock, script: &str) -> crate::harness::ddock::Output {
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).env("DDOCK_ROOT", ddock.root());
    output(shell.stdin(Stdio::null()))
}

#[test]
fn symlinks_of_an_image_in_the_place_of_mounts_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary");
    fs_err::write(&canary, "the host's secret\n").unwrap();
    let directory = outside.path().to_str().unwrap();
    let ddock = Ddock::new();
    let script = "cat /proc/canary /sys/canary /dev/canary /dev/shm/canary /etc/hosts /etc/hostname; \
        echo bad > /etc/hosts; echo bad > /etc/hostname; echo bad > /etc/resolv.conf; \
        touch /dev/shm/new /dev/new /proc/new /sys/new; true";
    let file = canary.to_str().unwrap();
    for target in ["/", "/proc/1/root", "../../../../../..", directory, file] {
        for paths in [
            &["proc"][..],
            &["sys"],
            &["dev"],
            &["etc/hosts", "etc/hostname", "etc/resolv.conf"],
            &["dev/pts", "dev/shm", "dev/mqueue"],
        ] {
            let mut tree = busybox_tree();
            if paths[0].starts_with("dev/") {
                tree = tree.dir("dev/", 0o755);
            }
            for path in paths {
                tree = tree.symlink(path, target);
            }
            let image = ddock.pull(ImageBuilder::new().layer(tree));
            let output = ddock.run(&["run", "--rm", &image, "sh", "-c", script]);
            let text = format!("{paths:?} -> {target}: {}", output.text());
            assert!(matches!(output.code, 0 | 125), "{text}");
            // A refusal names what is wrong.
            assert!(output.code == 0 || text.contains(paths[0]), "{text}");
            assert!(!text.contains("secret"), "{text}");
            assert_eq!(
                fs_err::read_to_string(&canary).unwrap(),
                "the host's secret\n"
            );
            assert_eq!(fs_err::read_dir(directory).unwrap().count(), 1, "{text}");
        }
    }
}

#[test]
fn a_volume_cannot_be_led_over_a_part_of_proc() {
    let data = tempfile::tempdir().unwrap();
    for target in ["/proc", "/proc/self", "/proc/sys/kernel", "../proc/1/fd"] {
        let tree = busybox_tree().symlink("data", target);
        let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
        let bind = format!("{}:/data", data.path().display());
        for flags in [["-v", &bind], ["--tmpfs", "/data"]] {
            let mut args = vec!["run", "--rm"];
            args.extend(flags);
            args.extend([&image, "true"]);
            ddock.run(&args).exits(125).says("/data");
        }
        assert_nothing_left(&ddock, "no-such-container");
    }
}

#[test]
fn the_hosts_own_dev_is_not_added_to() {
    let (ddock, image) = Ddock::with_busybox();
    let list = || command_succeeds(Command::new("ls").args(["-A", "/dev"]));
    let before = list();
    let script = "[ -c /dev/null ] && echo there";
    let flags = ["--privileged", "-v", "/dev:/dev"];
    assert_eq!(ddock.sh(&flags, &image, script), "there\n");
    assert_eq!(before, list());
}

#[test]
fn a_disk_of_the_host_cannot_be_read() {
    let partitions = fs_err::read_to_string("/proc/partitions").unwrap();
    let disk = partitions.lines().nth(2).expect("this machine has a disk");
    let numbers: Vec<&str> = disk.split_whitespace().take(2).collect();
    // The image brings a device too, /dev/kmsg under another name.
    let tree = busybox_tree().device("kmsg", 1, 11);
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    let script = format!(
        "mknod /disk b {} && for d in /disk /kmsg; do head -c 1 $d 2>&1 | grep -c 'not permitted'; done",
        numbers.join(" ")
    );
    assert_eq!(ddock.sh(&[], &image, &script), "1\n1\n");
}

#[test]
fn the_callers_terminal_is_out_of_reach_without_one() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "(: < /dev/tty) 2>/dev/null && echo reached; ls /dev/pts; echo end";
    let command = ddock.command(&["run", "--rm", "-i", &image, "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 24, 80);
    let seen = terminal.expect("end");
    assert!(!seen.contains("reached"), "{seen}");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn mounts_spread_in_neither_direction() {
    let (ddock, image) = Ddock::with_busybox();
    let data = ddock.scratch().tmpfs("data", "1m");
    command_succeeds(Command::new("mount").arg("--make-rshared").arg(&data));
    for name in ["in", "out"] {
        fs_err::create_dir(data.join(name)).unwrap();
    }
    let bind = format!("{}:/data", data.display());
    let script = "mount -t tmpfs inside /data/in && touch /data/in/x && echo ready; \
        read go; ls /data/out; grep -c outside /proc/mounts; true";
    let mut client = ddock.command(&[
        "run",
        "--rm",
        "-i",
        "--privileged",
        "-v",
        &bind,
        &image,
        "sh",
        "-c",
        script,
    ]);
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_eq!(fs_err::read_dir(data.join("in")).unwrap().count(), 0);
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "outside"]).arg(data.join("out"));
    command_succeeds(&mut mount);
    fs_err::write(data.join("out/y"), "").unwrap();
    client.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let rest: Vec<String> = stdout.lines().map(Result::unwrap).collect();
    assert_eq!(rest, ["0"]);
    client.wait().unwrap();
}

#[test]
fn neither_the_hosts_name_nor_its_processes_can_be_changed() {
    let seconds = unique_seconds();
    let mut victim = Command::new("sleep").arg(&seconds).spawn().unwrap();
    let (ddock, image) = Ddock::with_busybox();
    let name = || fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let before = name();
    let script = format!(
        "hostname mine && hostname; kill -9 -1; kill -9 {} 2>/dev/null || echo out of reach",
        victim.id()
    );
    let stdout = ddock.sh(&["--cap-add", "SYS_ADMIN"], &image, &script);
    assert_eq!(stdout, "mine\nout of reach\n");
    assert_eq!(name(), before);
    assert!(victim.try_wait().unwrap().is_none(), "it was killed");
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn the_environment_of_ddock_stays_outside() {
    let (ddock, image) = Ddock::with_busybox();
    let mut command = ddock.command(&["run", "--rm", &image]);
    command.args(["sh", "-c", "env; cat /proc/1/environ /proc/self/environ"]);
    command.env("TOKEN", "hidden-token").stdin(Stdio::null());
    let output = output(&mut command).exits(0);
    assert!(output.stdout.contains("HOME=/root"), "{}", output.text());
    assert!(!output.stdout.contains("hidden-token"), "{}", output.text());
    assert!(!output.stdout.contains("DDOCK"), "{}", output.text());
}

#[test]
fn a_daemon_that_the_command_left_goes_with_it() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let script =
        format!("busybox setsid busybox nohup sleep {seconds} > /dev/null 2>&1 & hostname");
    let id = ddock.sh(&[], &image, &script);
    assert_eq!(processes_with(&seconds), [0; 0]);
    assert_nothing_left(&ddock, id.trim_end());
}

#[test]
fn a_caller_that_ignores_the_end_of_children_gets_the_exit_code() {
    let (ddock, image) = Ddock::with_busybox();
    let script = format!(
        "trap '' CHLD RTMIN RTMIN+3 RTMAX; {DDOCK} run --rm {image} grep SigIgn /proc/self/status; \
        exec {DDOCK} run --rm {image} sh -c 'exit 7'"
    );
    let output = bash(&ddock, &script).exits(7);
    assert_eq!(output.stdout, "SigIgn:\t0000000000000000\n");
}

#[test]
fn a_named_pipe_of_the_callers_cannot_be_changed() {
    use std::os::unix::fs::PermissionsExt;
    let (ddock, image) = Ddock::with_busybox();
    let pipe = ddock.scratch().join("pipe");
    command_succeeds(Command::new("mkfifo").args(["-m", "600"]).arg(&pipe));
    let script = format!(
        "cat < {pipe} & {DDOCK} run --rm {image} sh -c 'echo out; chmod 777 /proc/self/fd/1' > {pipe}; wait",
        pipe = pipe.display()
    );
    let output = bash(&ddock, &script);
    assert_eq!(output.stdout, "out\n", "{}", output.text());
    let mode = fs_err::metadata(&pipe).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Returns the children of a process that has one thread.
fn children(pid: u32) -> Vec<Pid> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

#[test]
fn client_monitor_or_both_killed_at_any_point_leave_nothing() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let mut random = 0x9e37_79b9_u64;
    for round in 0..21 {
        let mut client = ddock.command(&["run", "--rm", &image, "sleep", &seconds]);
        let mut client = client
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Over the time that a start takes, and a bit more.
        std::thread::sleep(Duration::from_micros((random >> 33) % 25_000));
        let id = Pid::from_raw(i32::try_from(client.id()).unwrap()).unwrap();
        let monitor = children(client.id());
        let victims = match round % 3 {
            0 => vec![id],
            1 if !monitor.is_empty() => monitor,
            _ => [vec![id], monitor].concat(),
        };
        for victim in victims {
            // It may have come to its end by itself.
            kill_process(victim, Signal::KILL).ok();
        }
        client.wait().unwrap();
    }
    wait_for("everything to be swept by `ps`", || {
        let is_empty = ddock.containers().is_empty() && processes_with(&seconds).is_empty();
        is_empty.then_some(())
    });
    assert_nothing_left(&ddock, "no-such-container");
}

#[test]
fn a_container_that_is_just_starting_can_be_removed_by_force() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    for _ in 0..5 {
        let mut client = ddock.command(&["run", "--name", "early", &image, "sleep", &seconds]);
        let mut client = client
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the container to have a name", || {
            (ddock.run(&["rm", "early"]).text().contains("running")).then_some(())
        });
        ddock.ok(&["rm", "-f", "early"]);
        client.wait().unwrap();
        assert_eq!(processes_with(&seconds), [0; 0]);
    }
    assert_nothing_left(&ddock, "no-such-container");
}

#[test]
fn an_end_that_is_looked_at_keeps_its_exit_code() {
    let (ddock, image) = Ddock::with_busybox();
    for round in 0..10 {
        let name = format!("ends{round}");
        let mut client = ddock.command(&["run", "--name", &name, &image, "sh", "-c", "exit 5"]);
        let mut client = client.stdin(Stdio::null()).spawn().unwrap();
        while client.try_wait().unwrap().is_none() {
            ddock.ok(&["ps", "-a"]);
        }
        assert_eq!(client.wait().unwrap().code(), Some(5));
        let state = ddock.ok(&["inspect", &name]);
        assert!(state.contains("\"ExitCode\": 5"), "{state}");
    }
}

#[test]
fn the_end_of_the_monitor_is_the_end_of_the_container() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let mut client = ddock.command(&["run", "--name", "orphan", &image, "sleep", &seconds]);
    let client = client
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_process("sleep", &seconds);
    // The command runs a moment before that is written down.
    wait_for("the container to be recorded", || {
        ddock.ok(&["ps"]).contains("Up ").then_some(())
    });
    for monitor in children(client.id()) {
        kill_process(monitor, Signal::KILL).unwrap();
    }
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("monitor died"), "{said}");
    assert!(ddock.ok(&["ps", "-a"]).contains("Exited (137)"));
    assert_eq!(processes_with(&seconds), [0; 0]);
    ddock.ok(&["rm", "orphan"]);
    assert_nothing_left(&ddock, "no-such-container");
}

#[test]
fn a_layer_is_not_changed_through_the_container() {
    let (ddock, image) = Ddock::with(busybox());
    let layers = ddock.root().join("v1/layers");
    let sums = || {
        let mut find = Command::new("find");
        find.arg(&layers)
            .args(["-type", "f", "-exec", "sha256sum", "{}", ";"]);
        command_succeeds(&mut find)
    };
    let before = sums();
    let script = "cat /proc/mounts; chmod 777 /bin/busybox; echo x >> /etc/passwd; rm /etc/group";
    let mounts = ddock.sh(&[], &image, script);
    assert_eq!(sums(), before);
    // What the mount table tells of the host's directories is the store's inside alone.
    let root = Path::new(ddock.root()).to_str().unwrap();
    let overlay = mounts.lines().next().unwrap();
    assert!(!overlay.contains(root), "{overlay}");
}
